"""What a study shows while it runs."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from ensemble_fer.study.cells import Cell, cells_of
from ensemble_fer.study.reading import read_study
from ensemble_fer.study.watching import board, came_of, left, watched
from tests.study.test_running import FILE


@pytest.fixture
def cells(tmp_path: Path) -> list[Cell]:
    (tmp_path / "little.toml").write_text(FILE)
    return cells_of(read_study(tmp_path / "little.toml"))


def row(cell: Cell, seconds: float, **more: object) -> dict:
    return {"name": cell.name, "of": cell.what.name, "seconds": seconds, "select": {"macro_f1": 0.5}, **more}


def test_the_time_that_is_left(cells: list[Cell]) -> None:
    assert left(cells, [], 1) is None
    assert left(cells, [row(cells[0], 0.1)], 1) is None, "what was there already says nothing"
    # Six cells, one of 10 s done: five more of as many.
    assert left(cells, [row(cells[0], 10.0)], 1) == 50
    assert left(cells, [row(cells[0], 10.0)], 2) == 25
    assert left(cells, [row(cell, 10.0) for cell in cells], 1) == 0


def test_the_table(cells: list[Cell]) -> None:
    from rich.console import Console

    rows = [row(cells[0], 10.0), {**row(cells[1], 2.0, problem="no room"), "select": None}]
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(board(cells, rows, 75, 1))
    text = console.export_text()
    assert "2 of 6 done · 0:01:15 · about 0:00:24 left" in text
    lines = {line.split()[1]: line.split() for line in text.splitlines() if "/" in line and "arm" not in line}
    assert lines["balanced/none"][3:] == ["1/1", "│", "│", "50.0", "│", "10", "│"]
    assert lines["balanced/ros"][3:] == ["1/1", "│", "1", "│", "│", "2", "│"]
    assert lines["pair"][3] == "0/1"


def test_lines_where_there_is_no_terminal(cells: list[Cell], capsys: pytest.CaptureFixture[str]) -> None:
    with watched(cells) as seen:
        seen(row(cells[0], 10.0))
        seen({**row(cells[1], 2.0), "problem": "no room"})
    assert capsys.readouterr().err.splitlines() == [
        "1 of 6  little.smoke.balanced.none-s0: macro-F1 50.0 (10 s)",
        "2 of 6  little.smoke.balanced.ros-s0: no room (2 s)",
    ]


def test_what_came_of_a_leaky_one() -> None:
    assert came_of({"select": {"macro_f1": 0.97}, "leaky": True}) == "LEAKY macro-F1 97.0"
    assert came_of({"select": {"macro_f1": 0.97}, "leaky": False}) == "macro-F1 97.0"
    assert came_of({"select": None}) == "done"
