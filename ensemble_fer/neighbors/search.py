"""Exact nearest neighbours among faces and mixtures of faces.

How exactness is argued
-----------------------
1. The products of the parents are exact integers (``products.py``).
2. A mixture ``s = a + w (b - a)`` has ``<s, x> = <a, x> + w (<b, x> - <a, x>)``: products of mixtures
   follow from those of their parents, in rows and in columns, without another pixel being read.
3. All of them are made in float32 first, as ``score = |t|^2 / 2 - <s, t>``, which orders the columns ``t``
   of one row ``s`` as the distance does. With ``u = 2^-24`` and ``M = 128^2 p`` (no product is larger) the
   rounding of an integer to float32 costs at most ``u M``, each mixing step ``7 u M`` more, half the norm
   ``u M / 2`` and the subtraction ``1.5 u M``: a score is off by less than ``18 u M``.
4. If some k scores of a row are at most ``bound``, its k nearest have scores at most ``bound + 36 u M``.
   Only columns up to ``bound + 40 u M`` are kept; for FER2013 that is 90 on scores of about a million.
5. Those few are computed again in float64 from the integers, and ordered.

Ties
----
Distances that are equal within ``TIE`` (1e-9 relative, 1e-7 grey levels squared absolute) are ordered by row.
Distances between originals are integers, so that there "equal" means equal. A face that is in the set
twice is at distance 0 from both, so the first of a face's neighbours is the one with the smaller row,
which need not be the face itself.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.errors import UsageError
from ensemble_fer.neighbors.panels import Mixtures, Panel, panels_of
from ensemble_fer.neighbors.products import CENTRE, centred, exact_products, one_blas_thread
from ensemble_fer.runtime import cpu_count, progress

TIE = (1e-9, 1e-7)
ROUNDING = 40 * 2.0**-24 * CENTRE**2  # times the number of pixels: the slack of point 4
PANEL_ROWS = 8192  # distinct parents a panel: products of two panels take 268 MB as int32
_ROWS_A_TILE = 32  # queries a step: its scores (32 x 14,000 float32) stay in the processor's cache
_CHUNKS = 64  # scores of a row that share one minimum when bounding


@dataclass(frozen=True)
class Neighbors:
    """The nearest points of each query.

    Parameters
    ----------
    rows : int64 [m, k]
        Positions of the neighbours, nearest first, ties by position.
    squared : float64 [m, k]
        Squared Euclidean distances in grey levels squared.
    """

    rows: NDArray[np.int64]
    squared: NDArray[np.float64]


def nearest(points: Mixtures, k: int, *, queries: Mixtures | None = None, quiet: bool = True) -> Neighbors:
    """The ``k`` nearest points of every point (itself included), or of every query.

    Parameters
    ----------
    points : Mixtures
        Among whom to search.
    k : int
        At least 1 and at most the number of points.
    queries : Mixtures, optional
        For whom to search; the points themselves by default, which takes half the products.
    quiet : bool
        Draw no progress bar.

    Raises
    ------
    UsageError
        ``k`` is out of range, or queries and points differ in their number of pixels.

    Notes
    -----
    Memory: two panels as float32, their products twice as int32, and one tile a thread; see ``memory_mb``.
    """
    if not 1 <= k <= len(points):
        raise UsageError(f"{k} neighbours were asked for among {len(points)} points. Expected 1 to {len(points)}.")
    columns = panels_of(points, PANEL_ROWS)
    rows = columns if queries is None else panels_of(queries, PANEL_ROWS)
    asked = points if queries is None else queries
    if asked.pixels.shape[1] != points.pixels.shape[1]:
        raise UsageError(f"queries have {asked.pixels.shape[1]} pixels, points have {points.pixels.shape[1]}.")
    if not len(asked):
        return Neighbors(np.empty((0, k), np.int64), np.empty((0, k)))
    search = _Search(len(asked), k, points.pixels.shape[1], itself=queries is None)
    total = sum(len(r.base) * len(c.base) for r in rows for c in columns) // (2 if queries is None else 1)
    threads = ThreadPoolExecutor(cpu_count())
    with one_blas_thread(), progress(total, "neighbours", quiet=quiet) as advance, threads as pool:
        for i, row in enumerate(rows):
            x = centred(row.base)
            for column in columns[i if queries is None else 0 :]:
                y = x if column is row else centred(column.base)
                products = exact_products(x, y, pool)
                search.offer(pool, row, column, products)
                if queries is None and column is not row:
                    search.offer(pool, column, row, np.ascontiguousarray(products.T))
                advance(products.size)
    return search.result()


def count_ties(squared: NDArray[np.float64]) -> int:
    """Rows in which two of the distances are equal within ``TIE``.

    Parameters
    ----------
    squared : float64 [m, k]
        Ascending squared distances of each row, as in ``Neighbors``. Take one neighbour more than is used:
        a tie between the last used and the first unused one changes the list too.
    """
    return int(_same(squared[:, :-1], squared[:, 1:]).any(axis=1).sum())


def memory_mb(panel_rows: list[int], pixels: int) -> float:
    """Memory that ``nearest`` takes beside the bytes, in MB, for panels of so many distinct parents."""
    a, b = sorted([*panel_rows, 0], reverse=True)[:2]
    pair = max(a * a, 2 * a * b) * 4
    return (pair + (a + b) * pixels * 4 + cpu_count() * (256 * a * 8 + _ROWS_A_TILE * 6 * a * 4)) / 1e6


class _Search:
    """Candidates of every query so far, and the bound below which a score still matters."""

    def __init__(self, queries: int, k: int, pixels: int, *, itself: bool) -> None:
        self.k, self.itself, self.slack = k, itself, np.float32(ROUNDING * pixels)
        self.bound = np.full(queries, np.inf, np.float32)
        self.found: list[tuple[NDArray, NDArray, NDArray]] = []
        self._own = threading.local()

    def offer(self, pool: ThreadPoolExecutor, queries: Panel, columns: Panel, products: NDArray[np.int32]) -> None:
        """Offer all points of ``columns`` to all of ``queries``; ``products`` are those of their parents."""
        tiles = [slice(i, i + _ROWS_A_TILE) for i in range(0, len(queries), _ROWS_A_TILE)]
        self.found += pool.map(lambda tile: self._tile(queries, columns, products, tile), tiles)

    def _tile(self, queries: Panel, columns: Panel, products: NDArray, tile: slice) -> tuple:
        scores = self._scores(queries, columns, products, tile)
        ids = queries.ids[tile]
        bound = np.minimum(self.bound[ids], self._kth(scores))
        self.bound[ids] = bound
        flat = np.flatnonzero(scores <= (bound + self.slack)[:, None])
        row, column = np.divmod(flat, scores.shape[1])
        row += tile.start
        squared = _squared(queries, columns, products, row, column)
        found, offered = queries.ids[row], columns.ids[column]
        if self.itself:
            squared[found == offered] = 0.0
        return found, offered, squared

    def _scores(self, queries: Panel, columns: Panel, products: NDArray, tile: slice) -> NDArray[np.float32]:
        """``|t|^2 / 2 - <s, t>`` for the queries s of a tile and all columns t, float32."""
        a, w = queries.a[tile], queries.w[tile]
        parents = self._scratch("parents", len(a), len(columns.base))
        np.copyto(parents, products[a], casting="unsafe")
        if w.any():
            second = self._scratch("second", len(a), len(columns.base))
            np.copyto(second, products[queries.b[tile]], casting="unsafe")
            second -= parents
            second *= w.astype(np.float32)[:, None]
            parents += second
        scores = self._scratch("scores", len(a), len(columns))
        plain = columns.plain
        if columns.plain_is_base:
            scores[:, :plain] = parents
        else:
            np.take(parents, columns.a[:plain], axis=1, out=scores[:, :plain], mode="clip")
        if plain < len(columns):
            first = self._scratch("left", len(a), len(columns) - plain)
            mixed = self._scratch("right", len(a), len(columns) - plain)
            np.take(parents, columns.a[plain:], axis=1, out=first, mode="clip")
            np.take(parents, columns.b[plain:], axis=1, out=mixed, mode="clip")
            mixed -= first
            mixed *= columns.w32[plain:]
            np.add(mixed, first, out=scores[:, plain:])
        return np.subtract(columns.half_norm, scores, out=scores)

    def _kth(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """For each row a value that at least k of its scores do not exceed (inf where there are fewer)."""
        n, k = scores.shape[1], self.k
        if n < k:
            return np.full(len(scores), np.inf, np.float32)
        share = max(1, min(_CHUNKS, n // (8 * k)))
        chunks = n // share
        # The kth smallest of the minima of disjoint chunks: those minima are k scores.
        minima = scores[:, : share * chunks].reshape(len(scores), share, chunks).min(axis=1)
        return np.partition(minima, k - 1, axis=1)[:, k - 1]

    def _scratch(self, what: str, rows: int, columns: int) -> NDArray[np.float32]:
        """Memory of this thread, used again: fresh pages would cost more than the arithmetic on them."""
        held = getattr(self._own, what, None)
        if held is None or held.size < rows * columns:
            held = np.empty(_ROWS_A_TILE * columns, np.float32)
            setattr(self._own, what, held)
        return held[: rows * columns].reshape(rows, columns)

    def result(self) -> Neighbors:
        """Order the candidates of each query and keep k."""
        query, point, squared = (np.concatenate(parts) for parts in zip(*self.found, strict=True))
        self.found.clear()
        order = np.lexsort((point, squared, query))
        query, point, squared = query[order], point[order], squared[order]
        # Neighbouring distances that count as equal form a run; within a run the smaller row comes first.
        new = np.ones(len(query), bool)
        new[1:] = (query[1:] != query[:-1]) | ~_same(squared[:-1], squared[1:])
        order = np.lexsort((point, np.cumsum(new)))
        point, squared = point[order], squared[order]
        starts = np.searchsorted(query, np.arange(len(self.bound)))
        taken = starts[:, None] + np.arange(self.k)
        return Neighbors(point[taken], squared[taken])


def _same(smaller: NDArray, larger: NDArray) -> NDArray[np.bool_]:
    return larger - smaller <= TIE[0] * larger + TIE[1]


def _squared(
    queries: Panel, columns: Panel, products: NDArray[np.int32], row: NDArray, column: NDArray
) -> NDArray[np.float64]:
    """Squared distances of pairs, float64, from the integer distances of the four pairs of parents.

    ``|s - t|^2 = mean of |x - y|^2 over parents x of s, y of t - w (1 - w) |a - b|^2 of s - the same of t``,
    with the mean weighted as the mixtures are. Written with differences, so that equal parents give
    exactly what one of them gives: copies tie with each other to the last bit.
    """
    qa, qb, w = queries.a[row], queries.b[row], queries.w[row]
    ca, cb, v = columns.a[column], columns.b[column], columns.w[column]

    def gap(i: NDArray, j: NDArray) -> NDArray[np.float64]:
        exact = queries.norm[i] + columns.norm[j] - 2 * products[i, j].astype(np.int64)
        return exact.astype(np.float64)

    to_first = gap(qa, ca)
    to_second = to_first
    if w.any():
        to_first = to_first + w * (gap(qb, ca) - to_first)
    if v.any():
        to_second = gap(qa, cb)
        if w.any():
            to_second = to_second + w * (gap(qb, cb) - to_second)
        to_first = to_first + v * (to_second - to_first)
    out = to_first - queries.inside[row] - columns.inside[column]
    return np.maximum(out, 0.0, out=out)
