"""Figures of a study as SVG text. The numbers are computed elsewhere; here they are only drawn."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.evaluate.counts import ratio
from ensemble_fer.types import CLASSES

COLORS = ("#1f6fb4", "#d1495b", "#2e933c", "#8e5ea2", "#e08e0b", "#2a9d8f", "#6b4226", "#d16ba5")
GRAY, INK, LEAK = "#9aa5b1", "#1d2733", "#b00020"
DRAWN = len(COLORS)
"""Lines that get a colour; others are gray."""
WIDTH = 9.2  # inches


def curves_figure(lines: Mapping[str, Mapping[str, Sequence[float]]], ranked: Sequence[str]) -> str:
    """Loss, accuracy and macro-F1 by epoch: a line for each arm, the best of ``ranked`` in colour."""
    figure, grid = _figure(3.2, columns=3)
    kinds = (("train_loss", "training loss", 1), ("accuracy", "accuracy, %", 100), ("macro_f1", "macro-F1, %", 100))
    for axes, (key, label, scale) in zip(grid, kinds, strict=True):
        for of in [*[of for of in lines if of not in ranked[:DRAWN]], *ranked[:DRAWN]]:
            values = lines.get(of, {}).get(key)
            if not values:
                continue
            place = ranked.index(of) if of in ranked[:DRAWN] else None
            color = GRAY if place is None else COLORS[place]
            epochs = range(1, len(values) + 1)
            axes.plot(epochs, scale * np.array(values), color=color, lw=1 if place is None else 1.6, label=of,
                      marker="o" if len(values) < 4 else None, ms=3)  # fmt: skip
        axes.set_title(label, fontsize=9)
        axes.set_xlabel("epoch", fontsize=8)
    handles = {line.get_label(): line for line in grid[1].get_lines()}
    shown = [of for of in ranked[:DRAWN] if of in handles]
    figure.legend([handles[of] for of in shown], shown, loc="outside lower center", ncols=3, fontsize=7, frameon=False)
    return _svg(figure)


def classes_figure(curves: Mapping[str, NDArray]) -> str:
    """Precision and recall of each class by epoch, [epochs, 7] each."""
    figure, grid = _figure(3.2, columns=2)
    for axes, what in zip(grid, ("precision", "recall"), strict=True):
        values = np.atleast_2d(curves[what])
        for code, name in enumerate(CLASSES):
            axes.plot(range(1, len(values) + 1), 100 * values[:, code], color=COLORS[code], lw=1.4, label=name,
                      marker="o" if len(values) < 4 else None, ms=3)  # fmt: skip
        axes.set_title(f"{what}, %", fontsize=9)
        axes.set_xlabel("epoch", fontsize=8)
        axes.set_ylim(0, 100)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=7, fontsize=7, frameon=False)
    return _svg(figure)


def confusion_figures(matrices: Mapping[str, NDArray]) -> str:
    """Confusion matrices side by side, as shares of each true class in per cent."""
    columns = min(3, len(matrices))
    lines = -(-len(matrices) // columns)
    figure, grid = _figure(3.1 * lines, columns=columns, rows=lines, frame=False)
    short = [name[:3] for name in CLASSES]
    for axes, (of, counts) in zip(grid, matrices.items(), strict=False):
        shares = ratio(counts, counts.sum(axis=1, keepdims=True))
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), share in np.ndenumerate(shares):
            color = "white" if share > 0.55 else INK
            axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=6.5, color=color)
        axes.set_xticks(range(len(CLASSES)), short, fontsize=6.5)
        axes.set_yticks(range(len(CLASSES)), short, fontsize=6.5)
        axes.tick_params(length=0)
        axes.set_title(of, fontsize=8)
    for axes in grid[len(matrices) :]:
        axes.set_visible(False)
    return _svg(figure)


def intervals_figure(rows: Sequence[tuple[str, Mapping[str, Any]]], metrics: Mapping[str, str], zero: bool) -> str:
    """Points with their intervals in per cent, a line for each row and a panel for each metric.

    Parameters
    ----------
    rows : sequence of (name, {metric: {"value", "ci95", "verdict"?}})
        From top to bottom.
    metrics : {metric: its title}
    zero : bool
        Draw where no difference is.
    """
    figure, grid = _figure(0.9 + 0.24 * len(rows), columns=len(metrics), share=True)
    for axes, (metric, title) in zip(grid, metrics.items(), strict=True):
        if zero:
            axes.axvline(0, color=GRAY, lw=1)
        for place, (_, scores) in enumerate(rows):
            one = scores.get(metric)
            if not one or one["value"] is None:
                continue
            verdict = one.get("verdict", "")
            color = {"better": "#2e933c", "worse": "#d1495b", "undecided": GRAY}.get(verdict, COLORS[0])
            if one["ci95"]:
                axes.plot([100 * end for end in one["ci95"]], [place, place], color=color, lw=2, solid_capstyle="butt")
            axes.plot(100 * one["value"], place, "o", color=color, ms=4)
        axes.set_title(title, fontsize=9)
        axes.grid(axis="x", color="#e6eaee", lw=0.8)
        axes.set_axisbelow(True)
    grid[0].set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=7.5)
    grid[0].set_ylim(len(rows) - 0.4, -0.6)
    return _svg(figure)


def mistakes_figure(groups: Sequence[tuple[str, Sequence[Any]]]) -> str:
    """For each mistake the honest and the leaky accuracy and macro-F1, joined by what was added; below, its interval.

    Parameters
    ----------
    groups : sequence of (kind of mistake, mistakes)
        A kind with one mistake is one line, one with several has a line above them.
    """
    lines: list[tuple[str, Any]] = []
    for group, found in groups:
        lines += [(group, found[0])] if len(found) == 1 else [(group, None), *((one.what, one) for one in found)]
    figure, grid = _figure(1.2 + 0.27 * len(lines), columns=2, share=True)
    for axes, (metric, title) in zip(grid, (("accuracy", "accuracy, %"), ("macro_f1", "macro-F1, %")), strict=True):
        for place, (_, one) in enumerate(lines):
            if one is None:
                continue
            honest, leaky = (100 * float(np.mean(side[metric])) for side in (one.honest, one.leaky))
            axes.plot([honest, leaky], [place, place], color=LEAK, lw=1.6, zorder=1)
            axes.plot(honest, place, "o", color=COLORS[0], ms=5)
            if one.alike:
                alike = 100 * float(np.mean(one.alike[metric]))
                axes.plot(alike, place, "o", mfc="white", mec=COLORS[0], ms=4.5, zorder=2)
            axes.plot(leaky, place, "D", color=LEAK, ms=4.5)
            if ends := one.added[metric]["ci95"]:
                axes.plot([honest + 100 * end for end in ends], [place + 0.25] * 2, color=LEAK, lw=2, alpha=0.45)
            if metric == "accuracy" and one.published:
                axes.plot(100 * one.published, place, "x", color=INK, ms=5, mew=1.4)
            added = one.added[metric]["mean"]
            right = max(honest, leaky, 100 * (one.published or 0) if metric == "accuracy" else 0)
            axes.annotate(f"{100 * added:+.1f}", (right, place), xytext=(7, 0), textcoords="offset points",
                          va="center", fontsize=7, color=LEAK if added > 0 else INK)  # fmt: skip
        axes.set_title(title, fontsize=9)
        axes.grid(axis="x", color="#e6eaee", lw=0.8)
        axes.set_axisbelow(True)
        axes.margins(x=0.12)
    grid[0].set_yticks(range(len(lines)), [text for text, _ in lines], fontsize=7)
    for label, (text, one) in zip(grid[0].get_yticklabels(), lines, strict=True):
        label.set_weight("bold" if one is None or text == one.group else "normal")
    grid[0].set_ylim(len(lines) - 0.4, -0.6)
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], marker="o", ls="", color=COLORS[0], label="honest"),
        Line2D([], [], marker="o", ls="", mfc="white", mec=COLORS[0], label="honest, classes alike"),
        Line2D([], [], marker="D", ls="", color=LEAK, label="LEAKY, the same member"),
        Line2D([], [], color=LEAK, lw=2, alpha=0.45, label="95 % interval of what it adds"),
        Line2D([], [], marker="x", ls="", color=INK, label="published"),
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=5, fontsize=7.5, frameon=False)
    return _svg(figure)


def _figure(height: float, *, columns: int, rows: int = 1, share: bool = False, frame: bool = True) -> tuple[Any, list]:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), facecolor="white", layout="constrained")
    FigureCanvasSVG(figure)
    grid = list(figure.subplots(rows, columns, squeeze=False, sharey=share).flat)
    for axes in grid:
        axes.tick_params(labelsize=7, color=GRAY)
        for side in ("top", "right") if frame else ("top", "right", "left", "bottom"):
            axes.spines[side].set_visible(False)
    return figure, grid


def _svg(figure: Any) -> str:
    """The figure as text that is the same for the same numbers."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "ensemble-fer", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": "ensemble-fer"})
    return buffer.getvalue()
