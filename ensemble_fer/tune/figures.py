"""Pictures of a study. The values come from ``results``; here they are only drawn."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np

from ensemble_fer.files import write_atomic
from ensemble_fer.tune.results import Slice

_BLUE, _GRAY = "#2171b5", "#9a9a9a"
_COLUMNS, _BETWEEN = 4, 0.3
_PANEL, _GAP, _LEFT, _TOP = (2.8, 1.9), 0.95, 0.75, 0.75  # inches; the gap holds the names of choices


def importance_figure(importance: dict[str, float], path: Path, *, title: str, complete: int) -> Path:
    """A bar for each parameter, the most important on top, and of how many complete trials that is said."""
    height = 1.1 + 0.28 * max(4, len(importance))
    figure = _figure(7.0, height)
    axes = figure.add_axes((0.3, 0.6 / height, 0.66, 1 - 1.1 / height))
    names = list(importance)[::-1]
    if names:
        bars = axes.barh(names, [100 * importance[name] for name in names], color=_BLUE)
        axes.bar_label(bars, [_percent(importance[name]) for name in names], padding=3, fontsize=8)
        axes.set_xlim(0, 112 * max(importance.values()))
    else:
        _say_nothing(axes, "too few complete trials that differ")
    axes.set_xlabel(f"share in being among the best of {complete} complete trials, % (PED-ANOVA)")
    _finish(figure, title)
    return _save(figure, path)


def slices_figure(slices: list[Slice], path: Path, *, title: str) -> Path:
    """One panel for each parameter: its values beside the macro-F1 that was reached with them."""
    columns = min(_COLUMNS, max(2, len(slices)))
    lines = max(1, math.ceil(len(slices) / columns))
    width, height = _LEFT + columns * (_PANEL[0] + _BETWEEN), _TOP + lines * (_PANEL[1] + _GAP)
    figure = _figure(width, height)
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
    figure.subplots_adjust(
        left=_LEFT / width,
        right=1 - _BETWEEN / width,
        bottom=_GAP / height,
        top=1 - _TOP / height,
        wspace=_BETWEEN / _PANEL[0],
        hspace=_GAP / _PANEL[1],
    )
    for axes, drawn in zip(grid.flat, slices, strict=False):
        _draw_slice(axes, drawn)
    for axes in grid.flat[len(slices) :]:
        axes.set_visible(False)
    if slices:
        for axes in grid[:, 0]:
            axes.set_ylabel("macro-F1, select")
    else:
        grid.flat[0].set_visible(True)
        _say_nothing(grid.flat[0], "no trial has a score")
    _finish(figure, f"{title}   (filled: complete, open: pruned)")
    return _save(figure, path)


def _draw_slice(axes: Any, drawn: Slice) -> None:
    scores, complete = np.array(drawn.scores), np.array(drawn.complete)
    if not drawn.choices:
        places = np.array(drawn.values, float)
        if drawn.log:
            _set_log(axes, places)
    else:
        # Side by side; trials of one choice a little apart.
        names = list(dict.fromkeys(drawn.values))
        if all(isinstance(name, int | float) for name in names):
            names.sort()
        order = {name: index for index, name in enumerate(names)}
        ranks = np.array([drawn.values[:i].count(v) for i, v in enumerate(drawn.values)])
        places = np.array([order[v] for v in drawn.values], float) + 0.09 * ((ranks % 5) - 2)
        long = sum(len(str(name)) for name in names) > 22
        axes.set_xticks(range(len(names)), [str(name) for name in names])
        axes.tick_params(axis="x", labelrotation=30 if long else 0)
        if long:
            for label in axes.get_xticklabels():
                label.set_ha("right")
        axes.set_xlim(-0.6, len(names) - 0.4)
    axes.scatter(places[~complete], scores[~complete], s=16, facecolors="none", edgecolors=_GRAY, linewidths=1)
    axes.scatter(places[complete], scores[complete], s=18, color=_BLUE, alpha=0.8, linewidths=0)
    axes.set_title(drawn.name, fontsize=9)
    axes.tick_params(labelsize=7.5)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)


def _set_log(axes: Any, places: np.ndarray) -> None:
    """A logarithmic axis with few numbers on it, however narrow its span is."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    decades = math.log10(places.max() / places.min()) if len(places) and places.min() > 0 else 0.0
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if decades >= 2 else (1.0, 3.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, place: _short(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _short(value: float) -> str:
    return f"{value:g}" if 0.01 <= value < 1000 else f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=130, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.005 or not share else "< 1 %"


def _say_nothing(axes: Any, why: str) -> None:
    axes.text(0.5, 0.5, why, ha="center", va="center", transform=axes.transAxes, color="#666666")
    axes.set_xticks([])
    axes.set_yticks([])


def _finish(figure: Any, title: str) -> None:
    for axes in figure.axes:
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.suptitle(title, fontsize=10, y=0.985, va="top")


def _save(figure: Any, path: Path) -> Path:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": "ensemble-fer"})
    write_atomic(path, buffer.getvalue())
    return path
