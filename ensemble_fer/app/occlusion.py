"""Which parts of a face decide, asked of the graph alone: parts are covered, one after the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.export.session import OUTPUT, Graph

COVER, STEP, LEVEL = 12, 4, 127
"""Pixels of a cover, pixels from one to the next, and its grey, which members see as 0."""


def occlusion(graph: Graph, face: NDArray[np.uint8], label: int) -> NDArray[np.float32]:
    """How much of a class's probability each pixel carries (Zeiler & Fergus 2014).

    Parameters
    ----------
    graph : Graph
    face : uint8 [h, w]
    label : int
        The class.

    Returns
    -------
    float32 [h, w]
        The mean, over the covers that hide a pixel, of how much less probable the class is with it; divided by the
        largest absolute value. Positive speaks for the class.
    """
    height, width = face.shape
    corners = [(y, x) for y in _starts(height) for x in _starts(width)]
    covered = np.repeat(face[None], len(corners), axis=0)
    for picture, (y, x) in zip(covered, corners, strict=True):
        picture[y : y + COVER, x : x + COVER] = LEVEL
    whole = float(graph.run(face[None])[OUTPUT][0, label])
    lost = whole - graph.run(covered)[OUTPUT][:, label]
    total, times = np.zeros((height, width)), np.zeros((height, width))
    for (y, x), drop in zip(corners, lost, strict=True):
        total[y : y + COVER, x : x + COVER] += drop
        times[y : y + COVER, x : x + COVER] += 1
    shown = total / times
    return (shown / max(float(np.abs(shown).max()), 1e-12)).astype(np.float32)


def _starts(length: int) -> list[int]:
    """Where covers begin so that the last one ends with the face."""
    last = max(0, length - COVER)
    return sorted({*range(0, last, STEP), last})
