"""A study while it runs: on a terminal a table of its arms with the time left, elsewhere a line for each run."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np

from ensemble_fer.study.cells import Cell

INSTANT = 1.0
"""Seconds; what took less was there already, and says nothing of how long the others take."""


@contextmanager
def watched(cells: Sequence[Cell], *, jobs: int = 1) -> Iterator[Callable[[dict], None]]:
    """Show the rows of a study as they are done, on stderr; gives what ``run_study`` takes as ``report``."""
    rows: list[dict] = []
    if not sys.stderr.isatty():

        def line(row: dict) -> None:
            rows.append(row)
            print(
                f"{len(rows)} of {len(cells)}  {row['name']}: {came_of(row)} ({row['seconds']:,.0f} s)", file=sys.stderr
            )

        yield line
        return
    from rich.console import Console
    from rich.live import Live

    began = time.monotonic()

    def drawn() -> Any:
        return board(cells, rows, time.monotonic() - began, jobs)

    with Live(get_renderable=drawn, console=Console(stderr=True), refresh_per_second=1, transient=True):
        yield rows.append


def came_of(row: dict) -> str:
    """What came of a run, in words."""
    if "problem" in row:
        return str(row["problem"])
    scored = row.get("select") or row.get("test") or {}
    value = scored.get("macro_f1")
    mark = "LEAKY " if row.get("leaky") else ""
    return f"{mark}macro-F1 {100 * value:.1f}" if value is not None else f"{mark}done"


def left(cells: Sequence[Cell], rows: Sequence[dict], jobs: int) -> float | None:
    """Seconds until all is done, as the runs of the same arm took, or those of all; None before one was done."""
    done = {row["name"] for row in rows}
    took = [(row["of"], row["seconds"]) for row in rows if row["seconds"] > INSTANT]
    if not took:
        return None
    everywhere = float(np.mean([seconds for _, seconds in took]))
    own = {of: float(np.mean([seconds for other, seconds in took if other == of])) for of in {of for of, _ in took}}
    return sum(own.get(cell.what.name, everywhere) for cell in cells if cell.name not in done) / jobs


def board(cells: Sequence[Cell], rows: Sequence[dict], elapsed: float, jobs: int) -> Any:
    """The table: arms with runs done, failures, and macro-F1 on the select part so far."""
    from rich.table import Table
    from rich.text import Text

    rest = left(cells, rows, jobs)
    ahead = "" if rest is None else f" · about {timedelta(seconds=round(rest))} left"
    title = f"{len(rows)} of {len(cells)} done · {timedelta(seconds=round(elapsed))}{ahead}"
    table = Table("arm", "done", "failed", "macro-F1, select", "seconds a run", title=title, title_justify="left")
    for of in dict.fromkeys(cell.what.name for cell in cells):
        own = [row for row in rows if row["of"] == of]
        scores = [row["select"]["macro_f1"] for row in own if row.get("select")]
        seconds = [row["seconds"] for row in own if row["seconds"] > INSTANT]
        table.add_row(
            Text(f"LEAKY {of}" if any(row.get("leaky") for row in own) else of),
            f"{len(own)}/{sum(cell.what.name == of for cell in cells)}",
            str(sum("problem" in row for row in own) or ""),
            f"{100 * float(np.mean(scores)):.1f}" if scores else "",
            f"{float(np.mean(seconds)):,.0f}" if seconds else "",
        )
    return table
