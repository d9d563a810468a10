"""Every distance between a few queries and all points, from exact products of their parents."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.neighbors import kernels
from ensemble_fer.neighbors.points import Mixtures
from ensemble_fer.neighbors.products import exact_products, squared_norms

_WIDE = 2048  # points whose distances are made at once
_TALL = 256
_MOST_PIXELS = 20_000


class Dense:
    """All distances, in blocks of columns of which only the nearest are kept.

    Parameters
    ----------
    points, asked : Mixtures
    k : int
    memory : int
        Bytes for one block.
    """

    def __init__(self, points: Mixtures, asked: Mixtures, k: int, memory: int) -> None:
        self.points, self.asked, self.k = points, asked, k
        # A block holds up to four parents of products as int32 and three matrices of float64.
        self.wide = _WIDE
        self.tall = int(np.clip(memory // (self.wide * 48), 8, _TALL))

    def candidates(self, ids: NDArray[np.int64]) -> tuple[NDArray, NDArray, NDArray]:
        """For these queries: row, point and squared distance of candidates among which the k nearest are."""
        n = len(ids)
        found: list[tuple[NDArray, NDArray, NDArray]] = []
        limit = np.full(n, np.inf)
        kept = np.empty((n, 0))
        bytes_ = self.points.pixels.dtype == np.uint8 and self.asked.pixels.dtype == np.uint8
        # Beyond, what cancels among parents of mixtures is larger than what counts as equal.
        bytes_ = bytes_ and self.points.pixels.shape[1] <= _MOST_PIXELS
        for start in range(0, len(self.points), self.wide):
            columns = np.arange(start, min(len(self.points), start + self.wide))
            if bytes_:
                squared = _from_products(self.asked, ids, self.points, columns)
            else:
                i, j = np.repeat(ids, len(columns)), np.tile(columns, n)
                squared = kernels.squared_distances(self.asked.fields, self.points.fields, i, j).reshape(n, -1)
            kept = np.concatenate([kept, squared], axis=1)
            if kept.shape[1] > self.k:
                kept = np.partition(kept, self.k - 1, axis=1)[:, : self.k]
            if kept.shape[1] == self.k:
                limit = kept.max(axis=1)
            # Ties beyond the limit by less than a millionth stay, so that they can be ordered by row.
            near = squared <= (limit * (1 + 1e-6) + 1e-6 * bytes_)[:, None]
            if np.count_nonzero(near) > 2 * self.k * n:
                # Of many that are as far as the limit to the last bit, only the k lowest rows can be among the nearest.
                equal = squared == limit[:, None]
                near &= ~equal | (np.cumsum(equal, axis=1) <= self.k)
            row, column = np.nonzero(near)
            found.append((row, columns[column], squared[row, column]))
        row, column, squared = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return row, column, squared


def _from_products(asked: Mixtures, ids: NDArray, points: Mixtures, columns: NDArray) -> NDArray[np.float64]:
    """Squared distances, float64 [len(ids), len(columns)], from the integer distances of the four pairs of parents.

    ``|s - t|^2 = mean of |x - y|^2 over parents x of s, y of t - w (1 - w) |a - b|^2 of s - the same of t``,
    with the mean weighted as the mixtures are. Written with differences, so that equal parents give
    exactly what one of them gives: copies tie with each other to the last bit.
    """
    one, first, second, w, inside = _parents(asked, ids)
    other, left, right, v, within = _parents(points, columns)
    norms, lengths = squared_norms(one), squared_norms(other)
    gaps = (norms[:, None] + lengths - 2 * exact_products(one, other).astype(np.int64)).astype(np.float64)
    of_rows = gaps[first]
    if w.any():
        of_rows += w[:, None] * (gaps[second] - of_rows)
    out = of_rows[:, left]
    if v.any():
        out += v * (of_rows[:, right] - out)
    out -= inside[:, None]
    out -= within
    return np.maximum(out, 0.0, out=out)


def _parents(points: Mixtures, ids: NDArray) -> tuple[NDArray[np.uint8], NDArray, NDArray, NDArray, NDArray]:
    """Distinct parents of some points, where each point has its own in them, weights, and ``w (1 - w) |a - b|^2``."""
    some = Mixtures(points.pixels, points.a[ids], points.b[ids], points.w[ids])
    rows, place = np.unique(np.concatenate([some.a, some.b]), return_inverse=True)
    parents, w, apart = points.pixels[rows], some.w, np.empty(len(some))  # rows that do not exist are refused here
    kernels.gaps(some.fields, 0, len(some), apart)
    return parents, place[: len(ids)], place[len(ids) :], w, w * (1 - w) * apart
