"""All that a training needs, found and checked before anything is trained; and the training itself, without a run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ensemble_fer.config import Recipe
from ensemble_fer.data.derived import without_faceless_rows
from ensemble_fer.data.importing import load_faces
from ensemble_fer.data.splits import parse_split, split_of, twins_in
from ensemble_fer.data.twins import twins_of
from ensemble_fer.data.votes import left_out, need_votes, soft_labels
from ensemble_fer.devices import choose_device
from ensemble_fer.errors import EnsembleFerError, UsageError, unknown_name
from ensemble_fer.models import Member, custom
from ensemble_fer.models.pretrained import start_weights, weights_file
from ensemble_fer.resample import METHODS, check_lineage, load_resampling, make_resampling
from ensemble_fer.resample.resampling import warn_of
from ensemble_fer.store import Artifact, Store, need_data
from ensemble_fer.train.batches import Batches
from ensemble_fer.train.checkpoint import State
from ensemble_fer.train.device import choose_precision
from ensemble_fer.train.loading import load_member
from ensemble_fer.train.loop import fit
from ensemble_fer.train.starting import code_of, digest_of_weights, new_member, read_module, run_of_weights, start_of
from ensemble_fer.train.team import Team
from ensemble_fer.types import INJECTED, USAGES, FaceSet, Resampling, Split, TwinMap

# Raised when the same recipe gives other weights than before, by more than rounding: old runs are not taken for new.
TRAINING_VERSION = 4


@dataclass(frozen=True)
class Prepared:
    """What a training is made from.

    Parameters
    ----------
    recipe : Recipe
        As it is kept: names that may come to mean something else replaced by ids.
    data, split_artifact, twins_artifact : Artifact
    faces, split, twins : FaceSet, Split, TwinMap
        The twins as they matter in the split, see ``twins_in``.
    rows : Resampling
        The training set, those of the select part included where the recipe trains on them too.
    soft : float32 [n, 7] or None
        Shares of the annotators' votes of each face of the set, where the recipe trains on them.
    start : Artifact or None
        The run whose weights the training starts from.
    spec, inputs : dict, list of str
        What the run's id is made from.
    module : bytes or None
        The file of a user's own architecture: what is trained and kept, whatever becomes of the file.
    """

    recipe: Recipe
    data: Artifact
    split_artifact: Artifact
    twins_artifact: Artifact
    faces: FaceSet
    split: Split
    twins: TwinMap
    rows: Resampling
    soft: NDArray[np.float32] | None
    start: Artifact | None
    spec: dict
    inputs: list[str]
    module: bytes | None = None

    @property
    def select_rows(self) -> NDArray[np.int64]:
        """Rows that choose the kept epoch; none where they were trained on."""
        return self.split.select_rows if self.recipe.train_on == "train" else self.split.select_rows[:0]

    @property
    def trained_rows(self) -> NDArray[np.int64]:
        """Rows of the parts that were trained on."""
        return trained_rows(self.split, self.recipe.train_on)

    @property
    def injected_training(self) -> int:
        """Faces of other sets in the training part."""
        return int((self.faces.usage[self.split.train_rows] == USAGES.index(INJECTED)).sum())

    def class_counts(self) -> list[int]:
        """Rows of each class that a loss goes by: whole rows by their own labels, also where votes are trained on."""
        if self.recipe.class_counts == "original":
            return self.faces.counts(self.trained_rows)
        return self.rows.counts()


def trained_rows(split: Split, train_on: str) -> NDArray[np.int64]:
    """Rows of the parts that a recipe trains on."""
    if train_on == "train":
        return split.train_rows
    return np.sort(np.concatenate([split.train_rows, split.select_rows]))


def prepare(
    store: Store, recipe: Recipe, *, data: str | None = None, processes: int = 1, quiet: bool = False
) -> Prepared:
    """Find everything that a recipe trains on, make what is missing, and check that it fits together.

    Parameters
    ----------
    store : Store
    recipe : Recipe
    data : str, optional
        Name of an imported set.
    processes : int
        That will train it together; with more than one a part of the run's id, since batch norm then sees other
        batches.
    quiet : bool
        Draw no progress.

    Raises
    ------
    SplitMisuse
        The resampling shows rows that are not training rows of the split, or the weights come from another split.
    UsageError
        A split without training or select rows, a batch larger than the training set, weights of another model, or
        what is no file of weights.
    MissingError
        A file of weights or of a module, or votes, that are not there.
    """
    recipe = replace(recipe, split=parse_split(recipe.split).text)
    data_artifact = need_data(store, data)
    faces = load_faces(data_artifact)
    split_artifact, split = split_of(store, data_artifact, recipe.split, faces=faces)
    if not len(split.train_rows) or not len(split.select_rows):
        raise UsageError(
            f"split {split.name!r} leaves {len(split.train_rows)} training and {len(split.select_rows)} select rows; "
            "a member needs both, the select part chooses its checkpoint."
        )
    twins_artifact, twins = twins_of(store, data_artifact, quiet=quiet)
    twins = twins_in(split, faces, twins)
    resampling = _resampling_of(store, recipe, data_artifact, split_artifact)
    rows = load_resampling(resampling)
    check_lineage(rows, split)
    inputs = [data_artifact.id, split_artifact.id, twins_artifact.id, resampling.id]
    # The resampling is among the inputs by its id; what it is called may change its meaning.
    asked = {**recipe.to_dict(), "resampling": rows.title}
    # A key that came later: left out at its default, so that runs made before it are found.
    if recipe.kept_epoch == "best":
        del asked["kept_epoch"]
    spec = {"recipe": asked, "training_version": TRAINING_VERSION}
    spec |= {"processes": processes} if processes > 1 else {}
    # A name may mean another resampling when the recipe is used again; a method and an id may not.
    kept = recipe if recipe.resampling in METHODS else replace(recipe, resampling=resampling.id)

    if recipe.train_on == "train+select":
        # Whoever keeps faces without a found face out of training means these too.
        more = without_faceless_rows(split.select_rows, data_artifact)
        rows = rows.with_originals(more, faces.labels[more])
    soft = None
    if recipe.labels == "votes" or recipe.leave_out != "none":
        votes_artifact, votes = need_votes(store, data_artifact)
        inputs.append(votes_artifact.id)
        soft = soft_labels(votes, faces.labels) if recipe.labels == "votes" else None
        rows = _without(rows, left_out(votes, recipe.leave_out))
    if recipe.batch_size > len(rows):
        raise UsageError(
            f"batch_size is {recipe.batch_size:,}, but there are {len(rows):,} training rows ({rows.title}). "
            "Set a batch_size that is not larger."
        )

    module = None
    if ".py:" in recipe.model:
        file, _, function = recipe.model.rpartition(":")
        module = read_module(file)
        spec["recipe"]["model"] = f"{Path(file).name}:{function}"
        spec["model_sha256"] = hashlib.sha256(module).hexdigest()
    start, weights = None, recipe.weights
    if weights not in ("none", "hub") and not weights.startswith("run:"):
        path = weights_file(weights)
        spec["recipe"]["weights"] = "file"
        spec["weights_sha256"] = digest_of_weights(weights)
        # The file of a run of this store is that run, and bound to what it has seen.
        known = run_of_weights(store, path, spec["weights_sha256"])
        weights = f"run:{known.id}" if known else ""
    if weights.startswith("run:"):
        start = start_of(store, weights, spec, recipe, data_artifact, split_artifact)
        inputs.append(start.id)
        kept = replace(kept, weights=f"run:{start.id}")
        spec["recipe"]["weights"] = "run"
        spec.pop("weights_sha256", None)
    return Prepared(
        kept,
        data_artifact,
        split_artifact,
        twins_artifact,
        faces,
        split,
        twins,
        rows,
        soft,
        start,
        spec,
        inputs,
        module,
    )


def learn(
    prepared: Prepared,
    folder: Path,
    *,
    device: str = "auto",
    team: Team = Team(),
    report: Callable[[int, dict], None] = lambda step, values: None,
    on_epoch: Callable[[dict], None] = lambda record: None,
) -> tuple[Member, State, str]:
    """Train what was prepared, from the checkpoint in ``folder`` if there is one.

    Parameters
    ----------
    prepared : Prepared
    folder : Path
        Holds checkpoint and history.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    team, report, on_epoch
        See ``fit``.

    Returns
    -------
    member : Member
        With the kept weights.
    state : State
    pretraining : str
        What the weights started from, for the stamp.
    """
    recipe = prepared.recipe
    chosen = choose_device(device)
    torch.manual_seed(recipe.seed)
    member = new_member(recipe, prepared.module, folder)
    pretraining = "none"
    if prepared.start is not None:
        member.load_state_dict(load_member(prepared.start).state_dict())
        before = prepared.start.metrics.get("protocol") or {}
        pretraining = f"run {prepared.start.id} (chosen by {before.get('chosen_by', 'what is not known')}"
        pretraining += f"; from {before['pretraining']})" if before.get("pretraining", "none") != "none" else ")"
    elif recipe.weights != "none":
        found = start_weights(member, recipe.model, recipe.weights)
        if found.digest != prepared.spec.get("weights_sha256", found.digest):
            raise UsageError(f"the file of weights {recipe.weights} was changed meanwhile. Give the command again.")
        pretraining = found.text
    images = prepared.faces.images
    batches = Batches(
        images,
        prepared.rows,
        crop=member.crop_of(images.shape[1]),
        policy=recipe.augmentation,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        device=chosen,
        sampling=recipe.sampling,
        mixup=recipe.mixup,
        cutmix=recipe.cutmix,
        soft=prepared.soft,
    )
    try:
        with custom.running(code_of(recipe, prepared.module, folder), "training"):
            state = fit(
                member,
                recipe,
                batches,
                images[prepared.select_rows],
                prepared.faces.labels[prepared.select_rows],
                folder,
                class_counts=prepared.class_counts(),
                device=chosen,
                precision=choose_precision(recipe.precision, chosen),
                team=team,
                report=report,
                on_epoch=on_epoch,
            )
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise EnsembleFerError(
            f"out of memory with batch_size {recipe.batch_size}: {str(error).partition('.')[0]}. "
            "Set a smaller batch_size; the training goes on from its last checkpoint only with the same one."
        ) from error
    return member, state, pretraining


def _resampling_of(store: Store, recipe: Recipe, data: Artifact, split: Artifact) -> Artifact:
    """The resampling that a recipe names, made now if it names a method."""
    if recipe.resampling in METHODS:
        made = make_resampling(store, data, method=recipe.resampling, split=recipe.split, seed=recipe.seed)
        assert isinstance(made, Artifact)
        return made
    refs = store.refs("resampling")
    if recipe.resampling not in refs and not any(i.startswith(recipe.resampling) for i in store.ids("resampling")):
        raise unknown_name("resampling", recipe.resampling, [*METHODS, *refs])
    found = store.get("resampling", recipe.resampling)
    warn_of(found.metrics)
    for what, wanted in (("data set", data), ("split", split)):
        if wanted.id not in found.inputs:
            raise UsageError(
                f"resampling {recipe.resampling!r} was made from another {what} than this training uses "
                f"({wanted.kind} {wanted.id}, {store.name_of(wanted)}). Resample that one first."
            )
    return found


def _without(rows: Resampling, dropped: NDArray[np.bool_]) -> Resampling:
    """The rows of a training set none of whose parents is dropped."""
    kept = np.flatnonzero(~(dropped[rows.parent_a] | dropped[rows.parent_b]))
    if not len(kept):
        raise UsageError("leave_out leaves no training row. Set leave_out = none.")
    return rows.take(kept)
