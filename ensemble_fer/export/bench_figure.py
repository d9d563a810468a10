"""A plot of ``bench``: milliseconds a call of each form, at each batch."""

from __future__ import annotations

import io
from pathlib import Path

from ensemble_fer.files import write_atomic

COLOURS = {
    "torch": "#9aa0a6",
    "sessions": "#c88a3d",
    "fused": "#1a5fb4",
    "simplified": "#62a0ea",
    "int8": "#2e9e6b",
}


def bench_figure(found: dict, path: str | Path, *, dpi: int = 150) -> Path:
    """PNG with a panel for each batch: bars to the median, lines from the fastest call to the 95th percentile.

    Parameters
    ----------
    found : dict
        What ``bench`` returns.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    batches = sorted({row["batch"] for row in found["rows"]})
    figure = Figure(figsize=(3.3 * len(batches) + 0.6, 3.4), dpi=dpi, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(batches), squeeze=False)[0]
    for axes, batch in zip(panels, batches, strict=True):
        rows = [row for row in found["rows"] if row["batch"] == batch]
        names = [row["variant"] for row in rows]
        medians = [row["p50_ms"] for row in rows]
        spread = [
            [max(0.0, row["p50_ms"] - row["min_ms"]) for row in rows],
            [max(0.0, row["p95_ms"] - row["p50_ms"]) for row in rows],
        ]
        axes.bar(names, medians, color=[COLOURS[name] for name in names], width=0.68)
        axes.errorbar(names, medians, yerr=spread, fmt="none", ecolor="#444444", elinewidth=1, capsize=2)
        top = max(row["p95_ms"] for row in rows)
        for position, row in enumerate(rows):
            axes.text(position, row["p95_ms"] + 0.02 * top, f"{row['p50_ms']:.3g}", ha="center", fontsize=8)
        axes.set_ylim(0, 1.12 * top)
        axes.set_title(f"{batch} face{'s' if batch > 1 else ''} a call", fontsize=10)
        axes.tick_params(axis="x", rotation=35, labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("milliseconds, median")
    threads = f"{found['threads']} thread{'s' if found['threads'] > 1 else ''}"
    figure.suptitle(f"{' + '.join(found['members'])}  ·  {threads}  ·  {found['machine']['processor']}", fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": "ensemble-fer"})
    write_atomic(Path(path), buffer.getvalue())
    return Path(path)
