"""Pictures of a report. The numbers are in the report; here they are only drawn."""

from __future__ import annotations

import io
import textwrap
from pathlib import Path

import numpy as np

from ensemble_fer.evaluate.counts import ratio
from ensemble_fer.evaluate.metrics import Report
from ensemble_fer.files import write_atomic
from ensemble_fer.types import CLASSES

_DARK = 0.55  # shares above it are drawn on dark blue and need white text


def confusion_figure(report: Report, path: str | Path, *, name: str = "", dpi: int = 150) -> Path:
    """Confusion matrix as PNG, about 1,000 x 1,100 pixels: rows are the truth, colours shares of a row.

    Each cell has the share of its row in percent and the number of faces. The title gives accuracy and
    macro-F1 with intervals, and the protocol stamp stands below the matrix.

    Parameters
    ----------
    name : str
        What to call the run in the title; its id by default.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = np.array(report.confusion)
    shares = ratio(counts, counts.sum(axis=1, keepdims=True))
    figure = Figure(figsize=(7.0, 7.4), dpi=dpi, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.155, 0.175, 0.805, 0.7))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        color = "white" if share > _DARK else "#08306b"
        weight = "bold" if row == column else "normal"
        axes.text(column, row - 0.1, f"{100 * share:.1f} %", ha="center", va="center", color=color, weight=weight)
        axes.text(column, row + 0.22, str(counts[row, column]), ha="center", va="center", color=color, fontsize=7.5)
    supports = counts.sum(axis=1)
    axes.set_xticks(range(len(CLASSES)), CLASSES)
    axes.set_yticks(range(len(CLASSES)), [f"{c}\n{n}" for c, n in zip(CLASSES, supports, strict=True)])
    axes.set_xticks(np.arange(0.5, len(CLASSES) - 1), minor=True)
    axes.set_yticks(np.arange(0.5, len(CLASSES) - 1), minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.set_xlabel("said", labelpad=6)
    axes.set_ylabel("truth", labelpad=6)
    for spine in axes.spines.values():
        spine.set_visible(False)
    leaky = report.protocol.leaky
    figure.text(
        0.5,
        0.945,
        f"{'LEAKY · ' if leaky else ''}{name or report.source}  ·  {report.rows:,} faces",
        ha="center",
        fontsize=13,
        weight="bold",
        color="#b00020" if leaky else "black",
    )
    figure.text(
        0.5,
        0.9,
        f"accuracy {_with_interval(report, 'accuracy')}   macro-F1 {_with_interval(report, 'macro_f1')}",
        ha="center",
        fontsize=10.5,
    )
    stamp = textwrap.fill(report.protocol.line(), 118)
    figure.text(0.5, 0.09, stamp, ha="center", va="top", fontsize=7, color="#444444", linespacing=1.4)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": "ensemble-fer"})
    write_atomic(Path(path), buffer.getvalue())
    return Path(path)


def _with_interval(report: Report, metric: str) -> str:
    low, high = (100 * v for v in report.ci95[metric])
    return f"{100 * getattr(report, metric):.1f} % [{low:.1f}, {high:.1f}]"
