"""Faces with the maps of what decided, as one picture for a paper."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.app.drawing import overlay
from ensemble_fer.files import write_atomic

CELL = 1.15
"""Inches of one face."""


@dataclass(frozen=True)
class Strip:
    """A face and its maps, side by side.

    Parameters
    ----------
    face : uint8 [h, w] or [h, w, 3]
    maps : list of float32 [h, w]
        -1 to 1, as ``attribute`` gives them.
    title : str
        What is written above.
    """

    face: NDArray[np.uint8]
    maps: list[NDArray[np.float32]]
    title: str = ""


def contact_sheet(
    rows: Sequence[tuple[str, Sequence[Strip]]],
    heads: Sequence[str],
    path: str | Path,
    *,
    title: str = "",
    dpi: int = 200,
) -> Path:
    """Write rows of strips as PNG.

    Parameters
    ----------
    rows : sequence of (str, sequence of Strip)
        What stands at the left of a row, and its strips, each with as many maps as any other.
    heads : sequence of str
        Under the last row: what each picture of a strip is.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    across, wide = max(len(strips) for _, strips in rows), len(heads)
    size = (CELL * across * wide + 0.4, (CELL + 0.2) * len(rows) + 0.4)
    figure = Figure(figsize=size, dpi=dpi, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(rows), across * wide, squeeze=False, gridspec_kw={"wspace": 0.04, "hspace": 0.1})
    for line, (name, strips) in zip(grid, rows, strict=True):
        for place in line:
            place.set_axis_off()
        for number, strip in enumerate(strips):
            cells = line[number * wide : (number + 1) * wide]
            cells[0].imshow(strip.face, cmap="gray", vmin=0, vmax=255)
            cells[0].set_title(strip.title, fontsize=7, loc="left", pad=3)
            for cell, shown in zip(cells[1:], strip.maps, strict=True):
                cell.imshow(overlay(strip.face, shown), interpolation="bilinear")
        if name:
            line[0].text(
                -0.12, 0.5, name, fontsize=8, rotation=90, ha="right", va="center", transform=line[0].transAxes
            )
    for number in range(across):
        for cell, head in zip(grid[-1][number * wide :], heads, strict=False):
            cell.text(0.5, -0.06, head, fontsize=7, ha="center", va="top", transform=cell.transAxes)
    if title:
        figure.suptitle(title, fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_atomic(Path(path), buffer.getvalue())
    return Path(path)
