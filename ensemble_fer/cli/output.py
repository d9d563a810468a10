"""What commands print: data on stdout, as a table for people or as JSON alone; remarks on stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ensemble_fer.errors import harmless


def plain(value: Any) -> Any:
    """The value with only what JSON knows: a number that is not finite becomes null.

    Numpy scalars and arrays become numbers and lists, paths become text, keys become text.
    """
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def print_json(value: Any) -> None:
    """One JSON document on stdout and nothing else, so that ``| jq`` works."""
    print(json.dumps(plain(value), indent=1, allow_nan=False))


def described(made: Any, name: str) -> dict[str, Any]:
    """Id, name and metrics of an artifact; the metrics may hold another name, that of the first request."""
    return {"id": made.id, **made.metrics, "name": name}


def say(text: str = "") -> None:
    """A line for the reader, on stdout."""
    print(harmless(text))


def remark(text: str) -> None:
    """A line that is no data, on stderr."""
    print(harmless(text), file=sys.stderr)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, note: str = "") -> None:
    """A table on stdout; columns whose cells are numbers are aligned on the right.

    Where stdout is not a terminal the table is as wide as it needs to be, so that nothing is cut off
    in a file or a pipe.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [[cell_text(value) for value in row] for row in rows]
    table = Table(box=box.SIMPLE_HEAD, show_header=any(columns), pad_edge=False)
    for index, column in enumerate(columns):
        numeric = bool(cells) and all(_is_number(row[index]) for row in cells)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        # Text, not markup: a name may hold square brackets.
        table.add_row(*(Text(cell) for cell in row))
    console = Console() if sys.stdout.isatty() else Console(width=200)
    if title:
        # Not as the table's own title, which rich would break at the width of the table.
        console.print(Text(title, style="bold"))
    console.print(table)
    if note:
        console.print(Text(note, style="dim"))


def cell_text(value: Any) -> str:
    """A value as it stands in a table: nothing for None, thousands apart, four digits of a fraction."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"
    return harmless(str(value))


def percent(value: float | None, interval: Sequence[float] | None = None) -> str:
    """``69.4 [67.9, 70.8]``: a share of 1 in per cent with its interval, or nothing."""
    if value is None or not math.isfinite(value):
        return ""
    if interval is None:
        return f"{100 * value:.1f}"
    return f"{100 * value:.1f} [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def _is_number(text: str) -> bool:
    return not text or text[0].isdigit() or (text[0] in "-+." and text[1:2].isdigit())
