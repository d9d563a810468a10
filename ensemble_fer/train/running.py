"""From a recipe to a stored run: find what it is made from, train, keep weights, history and predictions."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from ensemble_fer.config import Recipe
from ensemble_fer.data.importing import load_faces
from ensemble_fer.data.splits import parse_split, split_of
from ensemble_fer.data.twins import twins_of
from ensemble_fer.errors import EnsembleFerError, UsageError, unknown_name
from ensemble_fer.evaluate.metrics import summary
from ensemble_fer.evaluate.predictions import save_predictions
from ensemble_fer.looks import note_choosing
from ensemble_fer.models import Member, build
from ensemble_fer.resample import METHODS, check_lineage, load_resampling, make_resampling
from ensemble_fer.resample.resampling import warn_of
from ensemble_fer.runtime import machine, peak_mb, progress
from ensemble_fer.store import Artifact, Store, artifact_id, check_name, need_data
from ensemble_fer.train.batches import Batches
from ensemble_fer.train.device import choose_device, choose_precision, set_threads
from ensemble_fer.train.loop import HISTORY, fit, steps_of
from ensemble_fer.train.prediction import predict_rows
from ensemble_fer.types import USAGES, FaceSet, Part, Predictions, Protocol, Resampling, Role, Split, TwinMap

WEIGHTS = "weights.safetensors"
# Raised when the same recipe gives other weights than before: old runs are not taken for new ones.
TRAINING_VERSION = 3


def train(
    store: Store,
    recipe: Recipe,
    *,
    data: str | None = None,
    name: str | None = None,
    fresh: bool = False,
    device: str = "auto",
    threads: int | None = None,
    quiet: bool = False,
) -> Artifact:
    """Train one member; answered from disk if it was trained before, resumed if it was begun.

    Parameters
    ----------
    store : Store
    recipe : Recipe
    data : str, optional
        Name of an imported set.
    name : str, optional
        Reference of the run; by default as ``automatic_name`` has it.
    fresh : bool
        Throw an unfinished training of the same recipe away. A finished one is answered from disk all the same.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    threads : int, optional
        Processor threads; all by default.
    quiet : bool
        Draw no progress.

    Returns
    -------
    Artifact of kind ``run``: ``weights.safetensors``, ``recipe.toml``, ``history.jsonl``, ``select.npz``.

    Raises
    ------
    SplitMisuse
        The resampling shows rows that are not training rows of the split.
    UsageError
        A split without training or select rows, or a batch larger than the training set.
    KeyboardInterrupt
        Interrupted; the same call goes on from the checkpoint and ends with the same weights.
    """
    recipe = replace(recipe, split=parse_split(recipe.split).text)
    if name is not None:
        check_name(name)
    data_artifact = need_data(store, data)
    faces = load_faces(data_artifact)
    split_artifact, split = split_of(store, data_artifact, recipe.split, faces=faces)
    if not len(split.train_rows) or not len(split.select_rows):
        raise UsageError(
            f"split {split.name!r} leaves {len(split.train_rows)} training and {len(split.select_rows)} select rows; "
            "a member needs both, the select part chooses its checkpoint."
        )
    twins_artifact, twins = twins_of(store, data_artifact, quiet=quiet)
    resampling_artifact = _resampling_of(store, recipe, data_artifact, split_artifact)
    rows = load_resampling(resampling_artifact)
    check_lineage(rows, split)

    # The resampling is among the inputs by its id; what it is called may change its meaning.
    spec = {"recipe": {**recipe.to_dict(), "resampling": rows.title}, "training_version": TRAINING_VERSION}
    inputs = [data_artifact.id, split_artifact.id, twins_artifact.id, resampling_artifact.id]
    name = name or automatic_name(recipe, rows)
    # A name may mean another resampling when the recipe is used again; a method and an id may not.
    kept = recipe if recipe.resampling in METHODS else replace(recipe, resampling=resampling_artifact.id)
    done = store.find("run", spec, inputs)
    if done is not None:
        store.set_ref("run", name, done.id)
        return done
    if recipe.batch_size > len(rows):
        raise UsageError(
            f"batch_size is {recipe.batch_size:,}, but there are {len(rows):,} training rows ({rows.title}). "
            "Set a batch_size that is not larger."
        )

    working = store.working("run", spec, inputs)
    if fresh:
        shutil.rmtree(working)
        working.mkdir()
    chosen_device = choose_device(device)
    used_threads = set_threads(threads)
    precision = choose_precision(recipe.precision, chosen_device)
    torch.manual_seed(recipe.seed)
    member = build(recipe.model, recipe.dropout)
    batches = Batches(
        faces.images,
        rows,
        crop=member.crop,
        policy=recipe.augmentation,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        device=chosen_device,
    )

    note_choosing(store, faces.images[split.select_rows], artifact_id("run", spec, inputs))

    def write(folder: Path) -> dict:
        with _live(name, steps_of(recipe, len(rows))[1], quiet) as report:
            state = fit(
                member,
                recipe,
                batches,
                faces.images[split.select_rows],
                faces.labels[split.select_rows],
                working,
                device=chosen_device,
                precision=precision,
                report=report,
            )
        protocol = Protocol(
            data=str(data_artifact.metrics.get("name") or store.name_of(data_artifact)),
            split=split.name,
            role=Role.SELECT,
            resampling=rows.title,
            rows_left_out=left_out(data_artifact, faces, split.select),
            seed=recipe.seed,
        )
        predictions = predictions_of(member, faces, split.select, split, twins, source=name, protocol=protocol)
        save_file({k: v.detach().cpu().contiguous() for k, v in member.state_dict().items()}, folder / WEIGHTS)
        (folder / "recipe.toml").write_text(kept.to_toml())
        shutil.copy(working / HISTORY, folder / HISTORY)
        save_predictions(folder / "select.npz", predictions)
        return {
            "name": name,
            "parameters": member.parameter_count,
            "best_epoch": state.best_epoch,
            "epochs": len(state.history),
            "steps": state.step,
            "train_rows": len(rows),
            "train_seconds": round(state.seconds, 1),
            "select": summary(predictions.labels, predictions.logits),
            "protocol": protocol.to_dict(),
            "latency": module_latency(member, used_threads),
            "device": str(chosen_device),
            "precision": str(precision).removeprefix("torch."),
            "threads": used_threads,
            "torch": torch.__version__,
            "machine": machine(),
            "peak_mb": peak_mb(),
        }

    made = store.put("run", spec, inputs, write, name=name)
    shutil.rmtree(working, ignore_errors=True)
    return made


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


def automatic_name(recipe: Recipe, rows: Resampling) -> str:
    """``<model>-<resampling>-s<seed>[-<split> unless official]``, in characters of a name."""
    parts = [recipe.model, rows.title, f"s{recipe.seed}", *([recipe.split] if recipe.split != "official" else [])]
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", "-".join(parts))[:100]


def left_out(data: Artifact, faces: FaceSet, part: Part) -> int:
    """Bad rows that the import left out of the usages from which a part was made."""
    missing = data.metrics.get("left_out", {})
    usages = [USAGES[code] for code in np.unique(faces.usage[part.rows])]
    return sum(missing.get(usage, 0) for usage in [*usages, "unknown"])


def predictions_of(
    member: Member,
    faces: FaceSet,
    part: Part,
    split: Split,
    twins: TwinMap,
    *,
    source: str,
    protocol: Protocol,
    tta: str = "none",
    quiet: bool = True,
) -> Predictions:
    """What a member says of the rows of a part, complete with labels and twins."""
    with progress(len(part), f"scoring {source}", quiet=quiet) as advance:
        logits = predict_rows(member, faces.images[part.rows], tta, advance=advance)
    return Predictions(
        logits=logits,
        labels=faces.labels[part.rows],
        rows=part.rows,
        groups=twins.groups[part.rows],
        twin_in_train=twins.have_twin_in(part.rows, split.train_rows),
        role=part.role,
        source=source,
        protocol=protocol,
    )


def load_member(run: Artifact) -> Member:
    """The trained member of a run, on the CPU, for evaluation."""
    recipe = run.spec["recipe"]
    member = build(recipe["model"], recipe["dropout"])
    try:
        member.load_state_dict(load_file(run.file(WEIGHTS)))
    except RuntimeError as error:
        raise EnsembleFerError(
            f"the weights of run {run.id} do not fit model {recipe['model']!r} of this version. "
            f"Train it again. ({error})"
        ) from error
    return member.eval()


def module_latency(member: Member, threads: int, repeats: int = 30, at_most: float = 2.0) -> dict[str, Any]:
    """Median milliseconds of one face through the member in eager torch, where it is now.

    Stops after ``at_most`` seconds: on a busy machine the figure means little anyway.
    """
    member.eval()
    face = torch.zeros(1, 48, 48, dtype=torch.uint8, device=next(member.parameters()).device)
    seconds: list[float] = []
    with torch.inference_mode():
        member(face).cpu()
        while len(seconds) < repeats and sum(seconds) < at_most:
            began = time.perf_counter()
            member(face).cpu()
            seconds.append(time.perf_counter() - began)
    return {
        "ms": round(float(np.median(seconds)) * 1e3, 3),
        "engine": "torch",
        "batch": 1,
        "threads": threads,
        "device": str(face.device),
    }


@contextmanager
def _live(name: str, total: int, quiet: bool) -> Iterator[Callable[[int, dict], None]]:
    """A progress line on stderr: steps, time left, loss, rate and the last epoch's select scores."""
    with progress(total, name, quiet=quiet) as advance:
        seen = [0]

        def report(step: int, values: dict) -> None:
            text = f"loss {values['loss']:.3f}  lr {values['rate']:.4f}"
            if "epoch" in values:
                text += (
                    f"  epoch {values['epoch']}: accuracy {values['accuracy']:.3f}, macro-F1 {values['macro_f1']:.3f}"
                )
            advance(step - seen[0], note=text)
            seen[0] = step

        yield report
