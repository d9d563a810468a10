"""How long one face takes in a graph."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from ensemble_fer.errors import UsageError
from ensemble_fer.export.session import Graph, open_graph

WARM_UP = 5


def graph_latency(graph: str | Path | Graph, *, batch: int = 1, repeats: int = 30, threads: int | None = None) -> dict:
    """Median time of one call of a graph in onnxruntime.

    Parameters
    ----------
    graph : path or Graph
        An opened one is used as it is, with its threads.
    batch : int
        Faces a call.
    repeats : int
        Calls timed, after a few that are not: the first ones allocate.
    threads : int, optional
        Threads inside one operation; all processors of this process by default.

    Returns
    -------
    dict
        ``ms`` (median of a call, milliseconds), ``engine``, ``batch``, ``threads``, ``repeats``.
    """
    if batch < 1 or repeats < 1:
        raise UsageError(f"batch and repeats must be 1 or more; found {batch} and {repeats}.")
    opened = graph if isinstance(graph, Graph) else open_graph(graph, threads)
    faces = np.random.default_rng(0).integers(0, 256, (batch, *opened.shape), dtype=np.uint8)
    seconds = []
    for _ in range(WARM_UP + repeats):
        started = time.perf_counter()
        opened.run(faces, batch)
        seconds.append(time.perf_counter() - started)
    return {
        "ms": round(float(np.median(seconds[WARM_UP:])) * 1000, 3),
        "engine": "onnxruntime",
        "batch": batch,
        "threads": opened.threads,
        "repeats": repeats,
    }
