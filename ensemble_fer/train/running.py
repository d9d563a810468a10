"""From a recipe to a stored run: find what it is made from, train, keep weights, history and predictions."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from ensemble_fer.config import Recipe, defaults_of
from ensemble_fer.data.derived import faceless_dropped, leaks_of
from ensemble_fer.data.importing import identity_images, rows_left_out
from ensemble_fer.data.injection import injected_text
from ensemble_fer.evaluate.metrics import summary
from ensemble_fer.evaluate.predictions import save_predictions
from ensemble_fer.looks import note_choosing
from ensemble_fer.models import Member, custom
from ensemble_fer.runtime import machine, peak_mb, progress
from ensemble_fer.store import Artifact, Store, artifact_id, check_name
from ensemble_fer.train.checkpoint import apart
from ensemble_fer.train.device import set_threads
from ensemble_fer.train.loading import MODULE, WEIGHTS
from ensemble_fer.train.loop import HISTORY, steps_of
from ensemble_fer.train.prediction import predict_rows
from ensemble_fer.train.preparing import Prepared, learn, prepare
from ensemble_fer.train.starting import COPY, code_of
from ensemble_fer.train.together import check_team, learn_together
from ensemble_fer.types import FaceSet, Part, Predictions, Protocol, Resampling, Role, TwinMap

SELECT = "select.npz"
# Keys whose choice is part of a run's automatic name.
_IN_NAMES = ("loss", "optimizer", "schedule", "augmentation", "sampling", "labels", "leave_out", "train_on")


def train(
    store: Store,
    recipe: Recipe,
    *,
    data: str | None = None,
    name: str | None = None,
    fresh: bool = False,
    device: str = "auto",
    threads: int | None = None,
    processes: int = 1,
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
    processes : int
        So many train it together on this machine, each with its share of every batch and of the threads, or with a GPU
        of its own. It is another run than that of one process: see ``Shared`` for what that changes, rounding, and
        what batch norm takes for a batch.
    quiet : bool
        Draw no progress.

    Returns
    -------
    Artifact of kind ``run``: ``weights.safetensors``, ``recipe.toml``, ``history.jsonl``, and ``select.npz`` unless the
    select part was trained on.

    Raises
    ------
    SplitMisuse, UsageError, MissingError
        See ``prepare``.
    KeyboardInterrupt
        Interrupted; the same call goes on from the checkpoint and ends with the same weights.
    """
    if name is not None:
        check_name(name)
    prepared = prepare(store, recipe, data=data, processes=processes, quiet=quiet)
    recipe, spec, inputs = prepared.recipe, prepared.spec, prepared.inputs
    name = name or automatic_name(recipe, prepared.rows)
    done = store.find("run", spec, inputs)
    if done is not None:
        store.set_ref("run", name, done.id)
        return done

    devices = check_team(recipe, processes, device)
    used_threads = set_threads(threads)
    faces = prepared.faces
    if len(prepared.select_rows):
        shown = identity_images(store, prepared.data)[prepared.select_rows]
        note_choosing(store, shown, artifact_id("run", spec, inputs))
    working = store.working("run", spec, inputs)

    def write(folder: Path) -> dict:
        # Not before: until here another process may be training it.
        if fresh:
            shutil.rmtree(working, ignore_errors=True)
        working.mkdir(parents=True, exist_ok=True)
        try:
            return train_into(folder)
        except BaseException:
            if {each.name for each in working.glob("*")} <= {COPY}:  # nothing to go on from
                shutil.rmtree(working, ignore_errors=True)
            raise

    def train_into(folder: Path) -> dict:
        with _live(name, steps_of(recipe, len(prepared.rows))[1], quiet) as report:
            if processes > 1:
                learn_together(store, prepared, working, devices, threads=used_threads, report=report)
            # After them it has nothing left to train, and takes what they have kept.
            member, state, pretraining = learn(prepared, working, device=devices[0], report=report)
        protocol = protocol_of(store, prepared, pretraining)
        save_file(apart(member.state_dict()), folder / WEIGHTS)
        (folder / "recipe.toml").write_text(recipe.to_toml())
        shutil.copy(working / HISTORY, folder / HISTORY)
        if prepared.module is not None:
            (folder / MODULE).write_bytes(prepared.module)
        select = None
        if len(prepared.select_rows):
            part = prepared.split.select
            predictions = predictions_of(
                member,
                faces,
                part,
                prepared.trained_rows,
                prepared.twins,
                source=name,
                protocol=protocol,
                logits=state.best_logits,
            )
            save_predictions(folder / SELECT, predictions)
            select = summary(predictions.labels, predictions.logits)
        return {
            "name": name,
            "parameters": member.parameter_count,
            "best_epoch": state.best_epoch,
            "epochs": len(state.history),
            "steps": state.step,
            "train_rows": len(prepared.rows),
            "train_seconds": round(state.seconds, 1),
            "select": select,
            "protocol": protocol.to_dict(),
            "latency": module_latency(member, faces.images.shape[1:], used_threads),
            "device": state.made_with["device"],
            "precision": state.made_with["precision"].removeprefix("torch."),
            "threads": used_threads,
            "processes": processes,
            "torch": torch.__version__,
            "machine": machine(),
            "peak_mb": peak_mb(),
        }

    with custom.running(code_of(recipe, prepared.module, working), "the network"):
        made = store.put("run", spec, inputs, write, name=name)
    shutil.rmtree(working, ignore_errors=True)
    return made


def protocol_of(store: Store, prepared: Prepared, pretraining: str) -> Protocol:
    """The stamp of a member on its select part."""
    recipe = prepared.recipe
    alone = recipe.train_on == "train"
    chosen = alone and recipe.kept_epoch == "best"
    chosen_by = "macro-F1 on the select part" if chosen else "nothing, the last epoch is kept"
    role = Role.SELECT if alone else Role.TRAIN
    leaks = leaks_of(store, prepared.data)
    if leaks and prepared.start is not None and prepared.data.id not in prepared.start.inputs:
        leaks = (*leaks, "started from a network that has trained on rows that test here")
    return Protocol(
        data=str(prepared.data.metrics.get("name") or store.name_of(prepared.data)),
        injected=injected_text(store, prepared.data, prepared.injected_training),
        split=prepared.split.name,
        role=role,
        trained_on=recipe.train_on,
        votes=votes_text(recipe),
        resampling=prepared.rows.title,
        chosen_by=chosen_by + (f"; its recipe by {recipe.tuned}" if recipe.tuned else ""),
        rows_left_out=left_out(prepared.data, prepared.faces, prepared.split.select),
        faceless_dropped=faceless_dropped(prepared.split, role),
        pretraining=pretraining,
        seed=recipe.seed,
        leaks=leaks,
    )


def votes_text(recipe: Recipe) -> str:
    """What annotators' votes did to the training rows, for the stamp; empty if nothing."""
    parts = ["annotators' votes as soft labels"] if recipe.labels == "votes" else []
    left = {"not_a_face": "rows voted not a face left out", "no_majority": "rows without a majority of votes left out"}
    return ", ".join([*parts, *([left[recipe.leave_out]] if recipe.leave_out in left else [])])


def automatic_name(recipe: Recipe, rows: Resampling) -> str:
    """``<model>-<resampling>[-<choices>]-s<seed>[-<split> unless official]``, in characters of a name.

    The choices are those of loss, optimizer and the like that are not the model's own. Runs that differ in numbers
    alone get one name, which then means the last; a warning says so.
    """
    own = {**Recipe(model=recipe.model).to_dict(), **defaults_of(recipe.model)}
    parts = [
        recipe.model.rpartition("/")[2],
        rows.title,
        *(str(getattr(recipe, key)) for key in _IN_NAMES if getattr(recipe, key) != own[key]),
        f"s{recipe.seed}",
        *([recipe.split] if recipe.split != "official" else []),
    ]
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", "-".join(parts))[:100]


def left_out(data: Artifact, faces: FaceSet, part: Part) -> int:
    """Bad rows that the import left out of the usages from which a part was made."""
    return rows_left_out(data, faces, part.rows)


def predictions_of(
    member: Member,
    faces: FaceSet,
    part: Part,
    trained: NDArray[np.int64],
    twins: TwinMap,
    *,
    source: str,
    protocol: Protocol,
    tta: str = "none",
    logits: NDArray[np.float32] | None = None,
    quiet: bool = True,
) -> Predictions:
    """What a member says of the rows of a part, complete with labels and with which has a twin among ``trained``.

    ``logits`` are what it said already, if that is at hand.
    """
    if logits is None:
        with progress(len(part), f"scoring {source}", quiet=quiet) as advance:
            logits = predict_rows(member, faces.images[part.rows], tta, advance=advance)
    return Predictions(
        logits=logits,
        labels=faces.labels[part.rows],
        rows=part.rows,
        groups=twins.groups[part.rows],
        twin_in_train=twins.have_twin_in(part.rows, trained),
        role=part.role,
        source=source,
        protocol=protocol,
    )


def module_latency(
    member: Member, shape: tuple[int, ...], threads: int, repeats: int = 30, at_most: float = 2.0
) -> dict[str, Any]:
    """Median milliseconds of one face through the member in eager torch, where it is now.

    Stops after ``at_most`` seconds: on a busy machine the figure means little anyway.
    """
    member.eval()
    face = torch.zeros(1, *shape, dtype=torch.uint8, device=next(member.parameters()).device)
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
                text += f"  epoch {values['epoch']}"
            if "macro_f1" in values:
                text += f": accuracy {values['accuracy']:.3f}, macro-F1 {values['macro_f1']:.3f}"
            advance(step - seen[0], note=text)
            seen[0] = step

        yield report
