"""Every run and ensemble of a study, made where it is not there yet, over a store that several processes share."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ensemble_fer.align import align
from ensemble_fer.config import resolve_recipe
from ensemble_fer.data.injection import inject_data
from ensemble_fer.data.synthetic import synth_data
from ensemble_fer.errors import EnsembleFerError, MissingError, StoreError, UsageError
from ensemble_fer.export.fusing import fuse
from ensemble_fer.files import write_atomic
from ensemble_fer.report import evaluate
from ensemble_fer.resample import SearchOptions, make_resampling
from ensemble_fer.store import Artifact, Store, need_data
from ensemble_fer.study.leaking import fuse_leaky, leaky_data, memory
from ensemble_fer.study.plan import Arm, Blend, Study
from ensemble_fer.study.workers import Pool, pool_of
from ensemble_fer.train import train
from ensemble_fer.train.finetuning import finetuning_recipe
from ensemble_fer.train.spaces import space_of
from ensemble_fer.types import Role

DRAWN = "drawn:"
_LOOK = ":test"


@dataclass(frozen=True)
class Means:
    """With what each run is trained: see ``train``."""

    threads: int | None = None
    processes: int = 1
    quiet: bool = False


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
        needs = named(study.needs(arm), seed, split)
        found.append(Cell(study.run_name(arm.name, seed, split), arm, seed, split, needs))
    for blend in study.blends:
        (first,) = (arm for arm in study.arms if arm.name == blend.of[0])
        seeds = study.seeds[:1] if blend.across_seeds else study.seeds
        for seed, split in itertools.product(seeds, study.splits(first)):
            own = study.seeds if blend.across_seeds else (seed,)
            needs = tuple(need for each in own for need in named(list(blend.of), each, split))
            found.append(Cell(study.run_name(blend.name, seed, split), blend, seed, split, needs))
    return found


def run_study(
    store: Store,
    study: Study,
    *,
    jobs: int | None = None,
    ray: str | None = None,
    gpus: float = 0,
    threads: int | None = None,
    processes: int = 1,
    quiet: bool = False,
    report: Callable[[dict], None] = lambda row: None,
) -> dict:
    """Make what a study asks for. What is done already is answered from the store; what was interrupted goes on.

    A run that fails is written down with its reason, what needs it is left out, and the rest goes on. The select part
    is scored; the test part only after all, and only if the study's scale says so (``look``).

    Parameters
    ----------
    jobs : int, optional
        Runs at once, each in a process of its own; on a cluster at most so many. By default one, and on a cluster as
        many as it has room for.
    ray : str, optional
        A Ray cluster to run on, see ``cluster_of``; ``store`` must be a folder that all its nodes share.
    gpus : float
        Of a cluster, the share of each run.
    threads : int, optional
        Of each training.
    processes : int
        That train each run together, see ``train``.
    report : callable
        Is given each row when it is done.

    Returns
    -------
    dict
        ``study``, ``scale``, ``data``, ``rows``: for each run and ensemble ``{name, of, kind, seed, split, id, seconds,
        leaky, select, test}``, or ``problem`` in place of what came of it.

    Raises
    ------
    MissingError
        The set is not imported.
    KeyboardInterrupt
        Interrupted; the same call goes on.
    """
    if jobs is not None and jobs < 1:
        raise UsageError(f"jobs {jobs}: expected 1 or more.")
    data = _set(store, study.data)
    cells = cells_of(study)
    with pool_of(jobs, ray=ray, cpus=threads or 1, gpus=gpus) as pool:
        means = Means(threads, processes, quiet)
        rows = _made(pool, store.root.resolve(), study, data.id, cells, means, report)
        if study.look:
            _look(pool, store.root.resolve(), rows, quiet)
    ordered = [rows[cell.name] for cell in cells]
    write_atomic(_place(store, study), json.dumps(ordered))
    return {"study": study.name, "scale": study.scale, "data": data.id, "rows": ordered}


def last_rows(store: Store, study: Study) -> list[dict]:
    """The rows of the last time that a study was run to its end.

    Raises
    ------
    MissingError
        It was not, or its file has asked for other runs since.
    """
    place = _place(store, study)
    again = f"Run it:  ensemble-fer study run {study.name} --scale {study.scale}"
    if not place.is_file():
        raise MissingError(f"study {study.name} was not run to its end at scale {study.scale} in this store. {again}")
    try:
        rows = json.loads(place.read_text(encoding="utf-8"))
        same = [row["name"] for row in rows] == [cell.name for cell in cells_of(study)]
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(f"{place} is damaged. {again}") from error
    if not same:
        raise MissingError(f"the file of study {study.name} asks for other runs than those that were made. {again}")
    return rows


def _place(store: Store, study: Study) -> Path:
    """Where the rows of a study are kept."""
    return store.root / "studies" / f"{study.name}.{study.scale}.json"


def _made(
    pool: Pool, root: Path, study: Study, data: str, cells: list[Cell], means: Means, report: Callable[[dict], None]
) -> dict[str, dict]:
    """The row of each cell by name; each is begun when what it needs is done."""
    rows: dict[str, dict] = {}
    waiting, running = list(cells), 0
    while waiting or running:
        ready = [cell for cell in waiting if all(need in rows for need in cell.needs)]
        for cell in ready[: max(0, pool.room - running)]:
            waiting.remove(cell)
            before = [rows[need] for need in cell.needs]
            pool.submit(cell.name, make_cell, root, study, data, cell, before, means)
            running += 1
        name, row = pool.next_done()
        running -= 1
        rows[name] = row
        report(row)
    return rows


def _look(pool: Pool, root: Path, rows: dict[str, dict], quiet: bool) -> None:
    """Score the test part, one after the other, so that looks are counted in the same order always."""
    for name, row in rows.items():
        if "id" in row and "test" not in row:
            pool.submit(name + _LOOK, score_cell, root, row["kind"], row["id"], quiet)
            _, row["test"] = pool.next_done()


def make_cell(root: Path, study: Study, data: str, cell: Cell, before: list[dict], means: Means) -> dict:
    """Train or fuse one cell; its row, with a problem if there was one."""
    store, arm = Store(root), isinstance(cell.what, Arm)
    row: dict[str, Any] = {"name": cell.name, "of": cell.what.name, "kind": "run" if arm else "ensemble"}
    row |= {"seed": cell.seed, "split": cell.split}
    began = time.perf_counter()
    try:
        if isinstance(cell.what, Arm):
            made = _trained(store, study, store.by_id("data", data), cell, before, means)
            if study.memory:
                row["memory"] = memory(store, made)
        else:
            leaky = any(each.leak for each in study.arms if each.name in cell.what.of)
            made = _fused(store, cell, before, leaky, means.quiet)
            if leaky:
                row |= {"kind": made.kind, "test": made.metrics}
        leaks = (made.metrics.get("protocol") or {}).get("leaks", [])
        row |= {"id": made.id, "select": made.metrics.get("select"), "leaky": bool(leaks)}
    except EnsembleFerError as error:
        row["problem"] = str(error)
    row["seconds"] = round(time.perf_counter() - began, 1)
    return row


def score_cell(root: Path, kind: str, identity: str, quiet: bool) -> dict:
    """The scores of the test part; a look, if it was not scored before."""
    return evaluate(Store(root), f"{kind}:{identity}", role=Role.TEST, quiet=quiet).report.to_dict()


def _set(store: Store, name: str, seed: int = 0) -> Artifact:
    """The set of this name; drawn faces are drawn where they are not there yet."""
    if not name.startswith(DRAWN):
        return need_data(store, name)
    count = name.removeprefix(DRAWN)
    if not count.isdecimal():
        raise UsageError(f"data {name!r}: expected the name of a set, or {DRAWN}N for N drawn faces.")
    return synth_data(store, rows=int(count), seed=seed, name=f"drawn-{count}" + (f"-{seed}" if seed else ""))


def _trained(store: Store, study: Study, data: Artifact, cell: Cell, before: list[dict], means: Means) -> Artifact:
    """The run of an arm."""
    arm, quiet = cell.what, means.quiet
    assert isinstance(arm, Arm)
    arm = _combined(study, arm, before)
    settings = {**arm.recipe, "seed": cell.seed, "split": cell.split}
    method = arm.resample.get("method", "none")
    if arm.inject:
        other = _set(store, arm.inject["name"], seed=1)
        data = inject_data(store, data, other, classes=arm.inject["classes"], quiet=quiet)
    if arm.aligned:
        data = align(store, data, quiet=quiet)
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
    return train(store, recipe, data=data.id, name=cell.name, **vars(means))


def _best(study: Study, arm: Arm, stage: str, before: list[dict]) -> dict:
    """Of the runs of a stage or arm the one with the best score on the select part."""
    there = [row for row in before if row["of"] in study.named(stage) and row.get("select")]
    if not there:
        raise UsageError(f"{arm.name} goes on from {stage}, of which no run with a select part is there.")
    return max(there, key=lambda row: row["select"][study.metric])


def _combined(study: Study, arm: Arm, before: list[dict]) -> Arm:
    """An arm with recipe and resampling of the best arm of each stage that it combines; what it says itself counts."""
    recipe, resample = {}, dict(arm.resample)
    for stage in arm.combine:
        (best,) = [each for each in study.arms if each.name == _best(study, arm, stage, before)["of"]]
        recipe |= {key: value for key, value in best.recipe.items() if key in best.own - arm.own}
        resample |= {
            key: value for key, value in best.resample.items() if best.resample.get("method", "none") != "none"
        }
    return replace(arm, recipe={**arm.recipe, **recipe}, resample=resample)


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
