"""One cell of a study: its set, its recipe, what it goes on from, and the run, search or ensemble that comes of it."""

from __future__ import annotations

import hashlib
import os
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ensemble_fer.align import align
from ensemble_fer.artifact import ID_LENGTH, canonical
from ensemble_fer.config import resolve_recipe
from ensemble_fer.data.injection import inject_data
from ensemble_fer.data.synthetic import synth_data
from ensemble_fer.errors import EnsembleFerError, UsageError
from ensemble_fer.export.fusing import fuse
from ensemble_fer.report import evaluate
from ensemble_fer.resample import SearchOptions, make_resampling
from ensemble_fer.store import Artifact, Store, need_data
from ensemble_fer.study.cells import SEARCH, Cell
from ensemble_fer.study.leaking import fuse_leaky, leaky_data, memory
from ensemble_fer.study.plan import DRAWN, Arm, Blend, Study, drawn_name
from ensemble_fer.study.searching import chosen, search_recipe
from ensemble_fer.train import train
from ensemble_fer.train.finetuning import finetuning_recipe
from ensemble_fer.train.spaces import space_of
from ensemble_fer.types import Role


@dataclass(frozen=True)
class Means:
    """With what each run is trained and searched: see ``train`` and ``tune``."""

    threads: int | None = None
    processes: int = 1
    storage: str | None = None
    quiet: bool = False


def make_cell(
    root: Path, study: Study, data: str, cell: Cell, before: list[dict], means: Means, former: dict | None = None
) -> dict:
    """Train, search or fuse one cell; its row, with a problem if there was one.

    ``former`` is its row of the last time, of which is taken what says the same of the same run.
    """
    store, row = Store(root), row_of(study, cell)
    began = time.perf_counter()
    try:
        if isinstance(cell.what, Arm):
            if cell.what.combine:
                row["combined"] = [_best(study, cell.what, stage, before)["of"] for stage in cell.what.combine]
            made = _trained(store, study, store.by_id("data", data), cell, before, means)
            if row["kind"] == SEARCH:
                row["chosen"] = chosen(made)
                row |= {"trials": made.metrics["trials"], "value": made.metrics["best"]["value"]}
            elif study.memory:
                known = former or {}
                row["memory"] = (
                    known["memory"] if known.get("id") == made.id and "memory" in known else memory(store, made)
                )
        else:
            leaky = any(each.leak for each in study.arms if each.name in cell.what.of)
            made = _fused(store, cell, before, leaky, means.quiet)
            if leaky:
                row |= {"kind": made.kind, "test": made.metrics}
        leaks = (made.metrics.get("protocol") or {}).get("leaks", [])
        row |= {"id": made.id, "select": made.metrics.get("select"), "leaky": bool(leaks)}
    except Exception as error:  # one run that fails, however, is no reason not to make the others
        row["problem"] = problem_of(error)
    row["seconds"] = round(time.perf_counter() - began, 1)
    return row


def row_of(study: Study, cell: Cell) -> dict[str, Any]:
    """What is known of a cell before anything is done."""
    kind = "ensemble" if isinstance(cell.what, Blend) else SEARCH if cell.what.search else "run"
    asked = hashlib.sha256(canonical(plain_of(study, cell)).encode()).hexdigest()[:ID_LENGTH]
    return {
        "name": cell.name,
        "of": cell.what.name,
        "kind": kind,
        "seed": cell.seed,
        "split": cell.split,
        "asked": asked,
    }


def plain_of(study: Study, cell: Cell) -> dict:
    """What a cell asks for as JSON values, in an order that does not depend on the process."""
    found = {**asdict(cell.what), "data": study.data, "seed": cell.seed, "split": cell.split, "needs": list(cell.needs)}
    return {key: sorted(value) if isinstance(value, frozenset) else value for key, value in found.items()}


def problem_of(error: Exception) -> str:
    """Why something failed, in words; of what nobody foresaw also its kind, and the place."""
    if isinstance(error, EnsembleFerError):
        return str(error)
    if os.environ.get("ENSEMBLE_FER_DEBUG"):
        return traceback.format_exc()
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(place.filename).name}, line {place.lineno})"


def score_cell(root: Path, kind: str, identity: str, quiet: bool) -> dict:
    """The scores of the test part; a look, if it was not scored before."""
    return evaluate(Store(root), f"{kind}:{identity}", role=Role.TEST, quiet=quiet).report.to_dict()


def set_of(store: Store, name: str, seed: int = 0) -> Artifact:
    """The set of this name; drawn faces are drawn where they are not there yet."""
    if not name.startswith(DRAWN):
        return need_data(store, name)
    count = name.removeprefix(DRAWN)
    if not count.isdecimal():
        raise UsageError(f"data {name!r}: expected the name of a set, or {DRAWN}N for N drawn faces.")
    return synth_data(store, rows=int(count), seed=seed, name=drawn_name(name, seed))


def _trained(store: Store, study: Study, data: Artifact, cell: Cell, before: list[dict], means: Means) -> Artifact:
    """The run of an arm."""
    arm, quiet = cell.what, means.quiet
    assert isinstance(arm, Arm)
    arm = _combined(study, arm, before)
    settings = {**arm.recipe, "seed": cell.seed, "split": cell.split}
    if arm.tuned:
        (found,) = [row for row in before if row["of"] == arm.tuned]
        if "id" not in found:
            raise UsageError(f"{arm.name} is trained as {arm.tuned} has chosen, which failed.")
        settings |= found["chosen"]
    method = arm.resample.get("method", "none")
    if arm.inject:
        other = set_of(store, arm.inject["name"], seed=1)
        data = inject_data(store, data, other, classes=arm.inject["classes"], quiet=quiet)
    if arm.aligned:
        data = align(store, data, quiet=quiet)
    if arm.search:
        name = study.run_name(arm.name, cell.seed, cell.split)
        return search_recipe(
            store, arm, settings, data=data.id, name=name, storage=means.storage, threads=means.threads, quiet=quiet
        )
    if arm.leak:
        data = leaky_data(store, data, method=method, division=arm.leak, seed=cell.seed)
    elif method != "none":
        options = dict(arm.resample)
        space = options.pop("space", None)
        if arm.space_of:
            (run,) = [row for row in before if row["of"] == arm.space_of]
            if "id" not in run:
                raise UsageError(f"{arm.name} looks for neighbours as {arm.space_of} sees them, which failed.")
            space = f"run:{run['id']}"
        search = SearchOptions(space=space_of(store, space) if space else None)
        made = make_resampling(store, data, split=cell.split, seed=cell.seed, options=search, quiet=quiet, **options)
        assert isinstance(made, Artifact)
        settings["resampling"] = made.id
    if arm.start:
        best = _best(study, arm, arm.start, before)
        recipe = finetuning_recipe(store, best["id"], **settings)
    else:
        recipe = resolve_recipe(**settings)
    return train(
        store, recipe, data=data.id, name=cell.name, threads=means.threads, processes=means.processes, quiet=quiet
    )


def _best(study: Study, arm: Arm, stage: str, before: list[dict]) -> dict:
    """Of the runs of a stage or arm the one with the best score on the select part."""
    there = [row for row in before if row["of"] in study.named(stage) and row.get("select")]
    if not there:
        raise UsageError(f"{arm.name} goes on from {stage}, of which no run with a select part is there.")
    return max(there, key=lambda row: row["select"][study.metric])


def _combined(study: Study, arm: Arm, before: list[dict]) -> Arm:
    """An arm with recipe and resampling of the best arm of each stage that it combines; what it says itself counts."""
    recipe: dict = {}
    found: Mapping[str, Any] = {}
    for stage in arm.combine:
        (best,) = [each for each in study.arms if each.name == _best(study, arm, stage, before)["of"]]
        recipe |= {key: value for key, value in best.recipe.items() if key in best.own - arm.own}
        if best.resample.get("method", "none") != "none":
            found = best.resample
    return replace(arm, recipe={**arm.recipe, **recipe}, resample=arm.resample or found)


def _fused(store: Store, cell: Cell, before: list[dict], leaky: bool, quiet: bool) -> Artifact:
    """The ensemble of a blend; of members of leaky sets, what they say together."""
    blend = cell.what
    assert isinstance(blend, Blend)
    failed = [row["of"] for row in before if "id" not in row]
    if failed:
        raise UsageError(f"{blend.name} lacks {', '.join(failed)}, which failed.")
    runs = [row["id"] for row in before]
    if leaky:
        return fuse_leaky(store, [store.by_id("run", run) for run in runs], name=cell.name)
    return fuse(store, runs, rule=blend.rule, calibrate=blend.calibrate, tta=blend.tta, name=cell.name, quiet=quiet)
