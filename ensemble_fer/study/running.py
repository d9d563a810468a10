"""Every run and ensemble of a study, made where it is not there yet, over a store that several processes share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from ensemble_fer.errors import MissingError, StoreError, UsageError
from ensemble_fer.files import MOST_JSON, UnfitFile, read_file, write_atomic
from ensemble_fer.runtime import check_threads
from ensemble_fer.store import Store
from ensemble_fer.study.cells import SEARCH, Cell, cells_of
from ensemble_fer.study.making import Means, make_cell, problem_of, row_of, score_cell, set_of
from ensemble_fer.study.plan import Study
from ensemble_fer.study.workers import LOST, Pool, pool_of


def run_study(
    store: Store,
    study: Study,
    *,
    jobs: int | None = None,
    ray: str | None = None,
    gpus: float = 0,
    threads: int | None = None,
    processes: int = 1,
    storage: str | None = None,
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
    storage : str, optional
        Address of the database of its searches, as SQLAlchemy takes it; needed where nodes of a cluster share them.
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
    if gpus and ray is None:
        raise UsageError("gpus is the share of each run on a cluster. Name one with ray, or leave it out.")
    check_threads(threads)
    data = set_of(store, study.data)
    cells = cells_of(study)
    with pool_of(jobs, ray=ray, cpus=threads or 1, gpus=gpus) as pool:
        means = Means(threads, processes, storage, quiet)
        former = {row["name"]: row for row in _former(_place(store, study))}
        rows = _made(pool, store.root.resolve(), study, data.id, cells, means, former, report)
    ordered = [rows[cell.name] for cell in cells if not cell.worker]
    write_atomic(_place(store, study), json.dumps(ordered))
    if study.look:
        _look(store.root.resolve(), ordered, quiet)
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
        rows = json.loads(read_file(place, MOST_JSON))
        cells = [row_of(study, cell) for cell in cells_of(study) if not cell.worker]
        same = [(row["name"], row.get("asked")) for row in rows] == [(cell["name"], cell["asked"]) for cell in cells]
    except (ValueError, TypeError, KeyError, UnfitFile) as error:
        raise StoreError(f"{place} is damaged. {again}") from error
    if not same:
        raise MissingError(f"the file of study {study.name} asks for other runs than those that were made. {again}")
    return rows


def _place(store: Store, study: Study) -> Path:
    """Where the rows of a study are kept."""
    return store.root / "studies" / f"{study.name}.{study.scale}.json"


def _former(place: Path) -> list[dict]:
    """The rows of the last time, as far as they can be read: what they lack is made again."""
    try:
        rows = json.loads(read_file(place, MOST_JSON))
    except (OSError, ValueError):
        return []
    return [row for row in rows if isinstance(row, dict) and "name" in row] if isinstance(rows, list) else []


def _made(
    pool: Pool,
    root: Path,
    study: Study,
    data: str,
    cells: list[Cell],
    means: Means,
    former: dict[str, dict],
    report: Callable[[dict], None],
) -> dict[str, dict]:
    """The row of each cell by name; each is begun when what it needs is done."""
    rows: dict[str, dict] = {}
    waiting, running = list(cells), 0
    while waiting or running:
        ready = [cell for cell in waiting if all(need in rows for need in cell.needs)]
        for cell in ready[: max(0, pool.room - running)]:
            waiting.remove(cell)
            before = [rows[need] for need in cell.needs]
            pool.submit(cell.name, make_cell, root, study, data, cell, before, means, former.get(cell.name))
            running += 1
        name, row = pool.next_done()
        if LOST in row:
            (cell,) = [cell for cell in cells if cell.name == name]
            row = {**row_of(study, cell), "problem": row[LOST], "seconds": 0.0}
        running -= 1
        rows[name] = row
        report(row)
    return rows


def _look(root: Path, rows: list[dict], quiet: bool) -> None:
    """Score the test part of each row, in their order, so that looks are counted in the same order always."""
    for row in rows:
        if "id" in row and row["kind"] != SEARCH and "test" not in row:
            try:
                row["test"] = score_cell(root, row["kind"], row["id"], quiet)
            except Exception as error:  # of the others the scores are good
                row["problem"] = f"its test part could not be scored: {problem_of(error)}"
