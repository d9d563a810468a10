"""Reliability diagram: how often an ensemble is right when it is so sure, before and after its temperature."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from ensemble_fer.files import write_atomic

COLOURS = {"before": "#9aa0a6", "after": "#1a5fb4"}


def reliability_figure(calibration: dict, path: str | Path, *, name: str = "", dpi: int = 150) -> Path:
    """PNG of about 900 x 1,000 pixels from what ``ensemble.fit`` says of an ensemble's calibration.

    Above, the accuracy of each bin of confidence over its mean confidence, a dot as large as the bin is full; a
    calibrated ensemble is on the diagonal. Below, how many rows each bin has.

    Parameters
    ----------
    calibration : dict
        ``temperature``, and of ``before`` and ``after`` it ``bins`` (as ``reliability`` gives them), ``ece``,
        ``ece_null``, ``nll`` and ``brier``.
    name : str
        What to call the ensemble in the title.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.0, 6.8), dpi=dpi, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    above.plot([0, 1], [0, 1], color="#cccccc", linewidth=1)
    shown = ("before", "after") if calibration["temperature"] != 1 else ("after",)
    for when in shown:
        found = calibration[when]
        full = [each for each in found["bins"] if each["rows"]]
        sure, right, rows = (np.array([each[key] for each in full]) for key in ("confidence", "accuracy", "rows"))
        label = f"T = {calibration['temperature']:.2f}" if when == "after" else "T = 1"
        numbers = f"ECE {found['ece']:.3f} (chance {found['ece_null']:.3f}), NLL {found['nll']:.3f}"
        above.plot(sure, right, color=COLOURS[when], linewidth=1.2, label=f"{label}: {numbers}", zorder=3)
        above.scatter(sure, right, s=8 + 220 * rows / rows.sum(), color=COLOURS[when], zorder=4, linewidths=0)
        edges = [each["from"] for each in found["bins"]] + [1.0]
        below.stairs([each["rows"] for each in found["bins"]], edges, color=COLOURS[when], linewidth=1.2)
    above.set_xlim(0, 1)
    above.set_ylim(0, 1)
    above.set_ylabel("accuracy")
    above.legend(loc="upper left", frameon=False, fontsize=8.5)
    above.set_title(f"{name}  ·  select rows without a twin in training".strip(" ·"), fontsize=10.5)
    below.set_xlabel("confidence, the probability of the class that was said")
    below.set_ylabel("rows")
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": "ensemble-fer"})
    write_atomic(Path(path), buffer.getvalue())
    return Path(path)
