"""Nearest neighbours with most points ruled out by their shadows; the argument is in ``search.py``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.neighbors.dense import Dense
from ensemble_fer.neighbors.folding import SHARE, Scratch, at_most, folded
from ensemble_fer.neighbors.points import Mixtures, squared_distances
from ensemble_fer.neighbors.shadows import Shadows, slack

GUESSES = 4  # times k: points of which more coordinates are looked at before k are measured
GIVE_UP = 0.25  # share of points within the limit beyond which shadows do not help
SOME_PAIRS = 512  # of which coordinates are compared at once
NEVER = 1e30  # a score; not infinite, since a product may meet it with 0
TILE = 32 << 20  # bytes of scores that a thread holds


class Pruned:
    """What shadows cannot rule out, measured.

    Parameters
    ----------
    points, asked : Mixtures
        Among whom and for whom.
    k : int
    there, here : Shadows
        Of the points and of the queries.
    dense : Dense
        Asked where shadows rule out too little.
    memory : int
        Bytes for one thread.
    itself : bool
        The queries are the points.
    unit : float
        Squared length in shadows of a distance of 1.
    """

    def __init__(
        self,
        points: Mixtures,
        asked: Mixtures,
        k: int,
        there: Shadows,
        here: Shadows,
        dense: Dense,
        memory: int,
        *,
        itself: bool,
        unit: float,
    ) -> None:
        self.points, self.asked, self.k, self.itself, self.dense = points, asked, k, itself, dense
        self.there, self.here = there, here
        self.level = there.levels[0]
        self.slack = slack(self.level, max(there.largest, here.largest))
        self.unit = unit
        self.wide = -(-len(points) // SHARE) * SHARE
        self.tall = int(np.clip(min(memory // 8, TILE) // (4 * self.wide), 8, 256))
        # The last row is half the squared length, so that one product makes whole scores. Columns beyond the points
        # are never near to anything.
        self.columns = np.zeros((self.level + 2, self.wide), np.float32)
        self.columns[:-2, : len(points)] = there.coordinates[0].T
        self.columns[-2, : len(points)] = there.rests[0]
        self.columns[-1] = NEVER
        self.columns[-1, : len(points)] = there.squared / 2
        self.scratch = Scratch(self.tall, self.wide)

    def candidates(self, ids: NDArray[np.int64]) -> tuple[NDArray, NDArray, NDArray]:
        """For these queries: row, point and squared distance of candidates among which the k nearest are."""
        scores = self._scores(ids)
        chunks, lowest = folded(scores, SHARE)
        row, column = self._guess(ids, chunks, lowest)
        known = _Known(row, column, self._squared(ids[row], column), len(ids), self.k)
        scores[row, column] = np.inf
        own = self.here.squared[ids]

        bound = ((known.limit * self.unit * (1 + 1e-4) - own + self.slack) / 2).astype(np.float32)
        row, column = at_most(chunks, lowest, bound)
        if len(row) > GIVE_UP * scores.size:
            return self.dense.candidates(ids)
        shadow = 2 * scores[row, column] + own[row].astype(np.float32)
        self._settle(ids, known, row, column, shadow)
        return known.row, known.column, known.squared

    def _guess(self, ids: NDArray, chunks: NDArray, lowest: NDArray) -> tuple[NDArray, NDArray]:
        """For each query k points that are near: of the best of some chunks those whose whole shadows are nearest."""
        some = min(GUESSES * self.k, lowest.shape[1])
        chunk = np.argpartition(lowest, some - 1, axis=1)[:, :some].ravel()
        row = np.repeat(np.arange(len(ids)), some)
        column = chunk + chunks[row, :, chunk].argmin(axis=1) * lowest.shape[1]
        apart = sum(self._further(ids[row], column, number) for number in range(len(self.there.levels)))
        apart = apart + (self.here.rests[-1, ids[row]] - self.there.rests[-1, column]) ** 2
        best = np.argpartition(apart.reshape(-1, some), self.k - 1, axis=1)[:, : self.k]
        return np.repeat(np.arange(len(ids)), self.k), np.take_along_axis(column.reshape(-1, some), best, 1).ravel()

    def _scores(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """``|t|^2 / 2 - <s, t>`` of the shadows of these queries and all points, float32 [len(ids), wide]."""
        scores = self.scratch.tile(len(ids), self.wide)
        rows = np.empty((len(ids), self.level + 2), np.float32)
        np.negative(self.here.coordinates[0][ids], out=rows[:, :-2])
        np.negative(self.here.rests[0, ids], out=rows[:, -2])
        rows[:, -1] = 1
        return np.matmul(rows, self.columns, out=scores)

    def _settle(self, ids: NDArray, known: _Known, row: NDArray, column: NDArray, shadow: NDArray) -> None:
        """Measure candidates until those that are left are too far: more coordinates, the nearest first."""
        here, there = self.here, self.there
        apart = shadow - (here.rests[0, ids[row]] - there.rests[0, column]) ** 2
        for number in range(1, len(there.levels)):
            apart = apart + self._further(ids[row], column, number)
            shadow = apart + (here.rests[number, ids[row]] - there.rests[number, column]) ** 2
            keep = self._within(known, row, shadow)
            row, column, apart, shadow = row[keep], column[keep], apart[keep], shadow[keep]
        step = 1
        while len(row):
            order = np.lexsort((shadow, row))
            row, column, shadow = row[order], column[order], shadow[order]
            rank = np.arange(len(row)) - np.searchsorted(row, row)
            now = rank < step
            known.add(row[now], column[now], self._squared(ids[row[now]], column[now]))
            keep = ~now & self._within(known, row, shadow)
            row, column, shadow = row[keep], column[keep], shadow[keep]
            step *= 2

    def _within(self, known: _Known, row: NDArray, shadow: NDArray) -> NDArray[np.bool_]:
        return shadow <= (known.limit[row] * self.unit * (1 + 1e-4) + self.slack).astype(np.float32)

    def _further(self, query: NDArray, column: NDArray, number: int) -> NDArray[np.float32]:
        """Squared distance of pairs along the coordinates that a level adds."""
        here, there = self.here.coordinates[number], self.there.coordinates[number]
        out = np.empty(len(query), np.float32)
        # Two buffers that stay in the cache.
        first, second = np.empty((2, SOME_PAIRS, there.shape[1]), np.float32)
        for start in range(0, len(query), SOME_PAIRS):
            part = slice(start, min(len(query), start + SOME_PAIRS))
            n = part.stop - start
            np.take(there, column[part], axis=0, out=first[:n], mode="clip")
            np.take(here, query[part], axis=0, out=second[:n], mode="clip")
            first[:n] -= second[:n]
            np.einsum("ij,ij->i", first[:n], first[:n], out=out[part])
        return out

    def _squared(self, query: NDArray[np.int64], column: NDArray[np.int64]) -> NDArray[np.float64]:
        if not self.itself:
            return squared_distances(self.asked, self.points, query, column)
        out = np.zeros(len(query))
        other = query != column
        out[other] = squared_distances(self.asked, self.points, query[other], column[other])
        return out


class _Known:
    """Measured candidates of the rows of a tile, and the k-th smallest distance of each row."""

    def __init__(self, row: NDArray, column: NDArray, squared: NDArray, n: int, k: int) -> None:
        self.row, self.column, self.squared, self.n, self.k = row, column, squared, n, k
        self.limit = self._limit(np.arange(n), row, squared)

    def add(self, row: NDArray, column: NDArray, squared: NDArray) -> None:
        self.row, self.column = np.append(self.row, row), np.append(self.column, column)
        self.squared = np.append(self.squared, squared)
        self.limit = self._limit(np.arange(self.n), self.row, self.squared)

    def _limit(self, rows: NDArray, row: NDArray, squared: NDArray) -> NDArray[np.float64]:
        order = np.lexsort((squared, row))
        return squared[order][np.searchsorted(row[order], rows) + self.k - 1]
