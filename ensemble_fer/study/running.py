"""Every run and ensemble of a study, made where it is not there yet: one after the other, over a store."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ensemble_fer.config import resolve_recipe
from ensemble_fer.data.synthetic import synth_data
from ensemble_fer.errors import EnsembleFerError, UsageError
from ensemble_fer.export.fusing import fuse
from ensemble_fer.report import evaluate
from ensemble_fer.resample import make_resampling
from ensemble_fer.store import Artifact, Store, need_data
from ensemble_fer.study.plan import Arm, Blend, Study
from ensemble_fer.train import train
from ensemble_fer.train.finetuning import finetuning_recipe
from ensemble_fer.types import Role

DRAWN = "drawn:"


def run_study(
    store: Store,
    study: Study,
    *,
    threads: int | None = None,
    quiet: bool = False,
    report: Callable[[dict], None] = lambda row: None,
) -> dict:
    """Make what a study asks for. What is done already is answered from the store; what was interrupted goes on.

    A run that fails is written down with its reason, what needs it is left out, and the rest goes on. The select part
    is scored; the test part only after all, and only if the study's scale says so (``look``).

    Parameters
    ----------
    threads : int, optional
        Of each training.
    report : callable
        Is given each row when it is done.

    Returns
    -------
    dict
        ``study``, ``scale``, ``data``, ``rows``: for each run and ensemble ``{of, kind, seed, split, name, id, seconds,
        select, test}``, or ``problem`` in place of what came of it.

    Raises
    ------
    MissingError
        The set is not imported.
    KeyboardInterrupt
        Interrupted; the same call goes on.
    """
    data = _data_of(store, study)
    rows: list[dict[str, Any]] = []

    def note(of: str, kind: str, seed: int, split: str, make: Callable[[], Artifact]) -> None:
        row: dict[str, Any] = {"of": of, "kind": kind, "seed": seed, "split": split}
        row["name"] = study.run_name(of, seed, split)
        began = time.perf_counter()
        try:
            made = make()
            row |= {"id": made.id, "select": made.metrics.get("select")}
        except EnsembleFerError as error:
            row["problem"] = str(error)
        row["seconds"] = round(time.perf_counter() - began, 1)
        rows.append(row)
        report(row)

    for arm, seed, split in study.cells():
        note(arm.name, "run", seed, split, lambda a=arm, s=seed, p=split: _trained(
            store, study, data, a, s, p, rows, threads, quiet))  # fmt: skip
    for blend in study.blends:
        for seed in study.seeds:
            for split in sorted({row["split"] for row in rows if row["of"] in blend.of and row["seed"] == seed}):
                note(blend.name, "ensemble", seed, split, lambda b=blend, s=seed, p=split: _fused(
                    store, study, b, s, p, rows, quiet))  # fmt: skip
    if study.look:
        for row in rows:
            if "id" in row:
                row["test"] = evaluate(
                    store, f"{row['kind']}:{row['id']}", role=Role.TEST, quiet=quiet
                ).report.to_dict()
    return {"study": study.name, "scale": study.scale, "data": data.id, "rows": rows}


def _data_of(store: Store, study: Study) -> Artifact:
    """The set that the study's scale names; drawn faces are drawn where they are not there yet."""
    if not study.data.startswith(DRAWN):
        return need_data(store, study.data)
    count = study.data.removeprefix(DRAWN)
    if not count.isdecimal():
        raise UsageError(f"data {study.data!r}: expected the name of a set, or {DRAWN}N for N drawn faces.")
    return synth_data(store, rows=int(count), name=f"drawn-{count}")


def _trained(
    store: Store, study: Study, data: Artifact, arm: Arm, seed: int, split: str, rows: list[dict], threads: int | None,
    quiet: bool,
) -> Artifact:  # fmt: skip
    """The run of an arm."""
    settings = {**arm.recipe, "seed": seed, "split": split}
    if arm.resample and arm.resample["method"] != "none":
        made = make_resampling(store, data, split=split, seed=seed, quiet=quiet, **arm.resample)
        assert isinstance(made, Artifact)
        settings["resampling"] = made.id
    if arm.start:
        before = _best(study, arm, seed, split, rows)
        recipe = finetuning_recipe(store, before["id"], **settings)
    else:
        recipe = resolve_recipe(**settings)
    return train(store, recipe, data=data.id, name=study.run_name(arm.name, seed, split), threads=threads, quiet=quiet)


def _best(study: Study, arm: Arm, seed: int, split: str, rows: list[dict]) -> dict:
    """The run that an arm goes on from: of this seed and split the best on the select part."""
    own = [
        row
        for row in rows
        if row["of"].partition("/")[0] == arm.start or row["of"] == arm.start
        if row["seed"] == seed and row["split"] == split and row.get("select")
    ]
    if not own:
        raise UsageError(f"{arm.name} goes on from {arm.start}, of which no run of seed {seed} is there.")
    return max(own, key=lambda row: row["select"][study.metric])


def _fused(store: Store, study: Study, blend: Blend, seed: int, split: str, rows: list[dict], quiet: bool) -> Artifact:
    """The ensemble of a blend."""
    there = {row["of"]: row["id"] for row in rows if row["seed"] == seed and row["split"] == split and "id" in row}
    missing = [name for name in blend.of if name not in there]
    if missing:
        raise UsageError(f"{blend.name} lacks {', '.join(missing)}, which failed.")
    return fuse(
        store, [there[name] for name in blend.of], rule=blend.rule, calibrate=blend.calibrate, tta=blend.tta,
        name=study.run_name(blend.name, seed, split), quiet=quiet,
    )  # fmt: skip
