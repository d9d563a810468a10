"""Boxes around faces, float32 [n, 4]: left, top, right, bottom in pixels of the picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]
Owners = NDArray[np.int64]


def suppress(
    boxes: Boxes, scores: NDArray[np.float32], owners: Owners, limit: float, *, smaller: bool = False, wide: int = 0
) -> NDArray[np.int64]:
    """Of boxes that overlap, only the best: positions of those that stay, best first within each owner.

    Each owner's boxes are gone through from the best score down, equal ones as they come; what overlaps a kept one by
    more than ``limit`` is dropped. All owners are gone through at once, so that the steps are as many as the most boxes
    that one keeps.

    Parameters
    ----------
    owners : int64 [n]
        Boxes of different owners do not see each other.
    limit : float
        Share of overlap, of the union of two boxes.
    smaller : bool
        Of the smaller of the two instead: a box within another one goes too.
    wide : float
        Added to both sides; 1 counts the last pixel in.
    """
    order = np.lexsort((-scores, owners))
    left, top, right, bottom = boxes[order].T
    owner, area = owners[order], ((right - left + wide) * (bottom - top + wide))
    alive = np.arange(len(order))
    kept = []
    while len(alive):
        own = owner[alive]
        first = np.flatnonzero(np.diff(own, prepend=own[0] - 1))
        best = alive[first]
        kept.append(best)
        best = np.repeat(best, np.diff(first, append=len(own)))
        across = np.minimum(right[alive], right[best]) - np.maximum(left[alive], left[best]) + wide
        down = np.minimum(bottom[alive], bottom[best]) - np.maximum(top[alive], top[best]) + wide
        shared = np.maximum(across, 0) * np.maximum(down, 0)
        one, other = area[alive], area[best]
        whole = np.minimum(one, other) if smaller else one + other - shared
        # Multiplied out, since boxes without an area have none to divide by.
        alive = alive[(shared <= limit * whole) & (alive != best)]
    return order[np.sort(np.concatenate(kept))] if kept else np.empty(0, np.int64)


def moved(boxes: Boxes, shifts: Boxes, *, wide: int = 0) -> Boxes:
    """Each side moved by its share of the box's width or height."""
    across, down = boxes[:, 2] - boxes[:, 0] + wide, boxes[:, 3] - boxes[:, 1] + wide
    return (boxes + shifts * np.stack([across, down, across, down], 1)).astype(np.float32, copy=False)


def squared(boxes: Boxes) -> Boxes:
    """Squares about the same centres, as wide as the longer side."""
    size = boxes[:, 2:] - boxes[:, :2]
    side = size.max(1, keepdims=True)
    half = np.float32(0.5)
    corner = boxes[:, :2] + size * half - side * half
    return np.concatenate([corner, corner + side], 1).astype(np.float32, copy=False)


def pixels_of(boxes: Boxes, width: int, height: int) -> NDArray[np.int64]:
    """Whole pixels of the picture that a box covers: first column and row, and those after the last."""
    left, top, right, bottom = np.trunc(boxes).astype(np.int64).T
    return np.stack(
        [np.maximum(left, 1) - 1, np.maximum(top, 1) - 1, np.minimum(right, width), np.minimum(bottom, height)], 1
    )
