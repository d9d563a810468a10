"""Every run and ensemble of a study, made where it is not there yet, over a store that several processes share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemble_fer.config import resolve_recipe
from ensemble_fer.data.synthetic import synth_data
from ensemble_fer.errors import EnsembleFerError, UsageError
from ensemble_fer.export.fusing import fuse
from ensemble_fer.report import evaluate
from ensemble_fer.resample import make_resampling
from ensemble_fer.store import Artifact, Store, need_data
from ensemble_fer.study.plan import Arm, Blend, Study
from ensemble_fer.study.workers import Pool, pool_of
from ensemble_fer.train import train
from ensemble_fer.train.finetuning import finetuning_recipe
from ensemble_fer.types import Role

DRAWN = "drawn:"
_LOOK = ":test"


@dataclass(frozen=True)
class Cell:
    """One run or ensemble: an arm or blend, at a seed and a split.

    Parameters
    ----------
    needs : tuple of str
        Names of the cells that must be done before: of an ensemble all of them, of a run one at least.
    """

    name: str
    what: Arm | Blend
    seed: int
    split: str
    needs: tuple[str, ...] = ()


def cells_of(study: Study) -> list[Cell]:
    """Every run, then every ensemble, of a study; what others need comes before them."""
    found: list[Cell] = []

    def named(arms: list[str], seed: int, split: str) -> tuple[str, ...]:
        return tuple(study.run_name(name, seed, split) for name in arms)

    for arm, seed, split in study.cells():
        earlier = [each.name for each in study.arms if arm.start in (each.name, each.name.partition("/")[0])]
        found.append(Cell(study.run_name(arm.name, seed, split), arm, seed, split, named(earlier, seed, split)))
    for blend in study.blends:
        arms = [arm for arm in study.arms if arm.name in blend.of]
        for seed in study.seeds:
            for split in dict.fromkeys(split for arm in arms for split in study.splits(arm)):
                needs = named(list(blend.of), seed, split)
                found.append(Cell(study.run_name(blend.name, seed, split), blend, seed, split, needs))
    return found


def run_study(
    store: Store,
    study: Study,
    *,
    jobs: int = 1,
    threads: int | None = None,
    quiet: bool = False,
    report: Callable[[dict], None] = lambda row: None,
) -> dict:
    """Make what a study asks for. What is done already is answered from the store; what was interrupted goes on.

    A run that fails is written down with its reason, what needs it is left out, and the rest goes on. The select part
    is scored; the test part only after all, and only if the study's scale says so (``look``).

    Parameters
    ----------
    jobs : int
        Runs at once, each in a process of its own.
    threads : int, optional
        Of each training.
    report : callable
        Is given each row when it is done.

    Returns
    -------
    dict
        ``study``, ``scale``, ``data``, ``rows``: for each run and ensemble ``{name, of, kind, seed, split, id, seconds,
        select, test}``, or ``problem`` in place of what came of it.

    Raises
    ------
    MissingError
        The set is not imported.
    KeyboardInterrupt
        Interrupted; the same call goes on.
    """
    if jobs < 1:
        raise UsageError(f"jobs {jobs}: expected 1 or more.")
    data = _data_of(store, study)
    cells = cells_of(study)
    with pool_of(jobs) as pool:
        rows = _made(pool, store.root, study, data.id, cells, threads, quiet, report)
        if study.look:
            _look(pool, store.root, rows, quiet)
    ordered = [rows[cell.name] for cell in cells]
    return {"study": study.name, "scale": study.scale, "data": data.id, "rows": ordered}


def _made(
    pool: Pool, root: Path, study: Study, data: str, cells: list[Cell], threads: int | None, quiet: bool,
    report: Callable[[dict], None],
) -> dict[str, dict]:  # fmt: skip
    """The row of each cell by name; each is begun when what it needs is done."""
    rows: dict[str, dict] = {}
    waiting, running = list(cells), 0
    while waiting or running:
        ready = [cell for cell in waiting if all(need in rows for need in cell.needs)]
        for cell in ready[: max(0, pool.room - running)]:
            waiting.remove(cell)
            before = [rows[need] for need in cell.needs]
            pool.submit(cell.name, make_cell, root, study, data, cell, before, threads, quiet)
            running += 1
        name, row = pool.next_done()
        running -= 1
        rows[name] = row
        report(row)
    return rows


def _look(pool: Pool, root: Path, rows: dict[str, dict], quiet: bool) -> None:
    """Score the test part, one after the other, so that looks are counted in the same order always."""
    for name, row in rows.items():
        if "id" in row:
            pool.submit(name + _LOOK, score_cell, root, row["kind"], row["id"], quiet)
            _, row["test"] = pool.next_done()


def make_cell(
    root: Path, study: Study, data: str, cell: Cell, before: list[dict], threads: int | None, quiet: bool
) -> dict:
    """Train or fuse one cell; its row, with a problem if there was one."""
    store, arm = Store(root), isinstance(cell.what, Arm)
    row: dict[str, Any] = {"name": cell.name, "of": cell.what.name, "kind": "run" if arm else "ensemble"}
    row |= {"seed": cell.seed, "split": cell.split}
    began = time.perf_counter()
    try:
        made = (
            _trained(store, study, store.by_id("data", data), cell, before, threads, quiet)
            if arm
            else _fused(store, cell, before, quiet)
        )
        row |= {"id": made.id, "select": made.metrics.get("select")}
    except EnsembleFerError as error:
        row["problem"] = str(error)
    row["seconds"] = round(time.perf_counter() - began, 1)
    return row


def score_cell(root: Path, kind: str, identity: str, quiet: bool) -> dict:
    """The scores of the test part; a look, if it was not scored before."""
    return evaluate(Store(root), f"{kind}:{identity}", role=Role.TEST, quiet=quiet).report.to_dict()


def _data_of(store: Store, study: Study) -> Artifact:
    """The set that the study's scale names; drawn faces are drawn where they are not there yet."""
    if not study.data.startswith(DRAWN):
        return need_data(store, study.data)
    count = study.data.removeprefix(DRAWN)
    if not count.isdecimal():
        raise UsageError(f"data {study.data!r}: expected the name of a set, or {DRAWN}N for N drawn faces.")
    return synth_data(store, rows=int(count), name=f"drawn-{count}")


def _trained(
    store: Store, study: Study, data: Artifact, cell: Cell, before: list[dict], threads: int | None, quiet: bool
) -> Artifact:
    """The run of an arm."""
    arm = cell.what
    assert isinstance(arm, Arm)
    settings = {**arm.recipe, "seed": cell.seed, "split": cell.split}
    if arm.resample and arm.resample["method"] != "none":
        made = make_resampling(store, data, split=cell.split, seed=cell.seed, quiet=quiet, **arm.resample)
        assert isinstance(made, Artifact)
        settings["resampling"] = made.id
    if arm.start:
        there = [row for row in before if row.get("select")]
        if not there:
            raise UsageError(f"{arm.name} goes on from {arm.start}, of which no run of seed {cell.seed} is there.")
        best = max(there, key=lambda row: row["select"][study.metric])
        recipe = finetuning_recipe(store, best["id"], **settings)
    else:
        recipe = resolve_recipe(**settings)
    return train(store, recipe, data=data.id, name=cell.name, threads=threads, quiet=quiet)


def _fused(store: Store, cell: Cell, before: list[dict], quiet: bool) -> Artifact:
    """The ensemble of a blend."""
    blend = cell.what
    assert isinstance(blend, Blend)
    failed = [row["of"] for row in before if "id" not in row]
    if failed:
        raise UsageError(f"{blend.name} lacks {', '.join(failed)}, which failed.")
    runs = [row["id"] for row in before]
    return fuse(store, runs, rule=blend.rule, calibrate=blend.calibrate, tta=blend.tta, name=cell.name, quiet=quiet)
