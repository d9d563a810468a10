"""Nearest neighbours with most points ruled out by their shadows; the argument is in ``search.py``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.neighbors import kernels
from ensemble_fer.neighbors.constants import NEVER
from ensemble_fer.neighbors.dense import Dense
from ensemble_fer.neighbors.folding import SHARE, Scratch
from ensemble_fer.neighbors.points import Mixtures
from ensemble_fer.neighbors.shadows import Shadows

GIVE_UP = 0.25  # share of points within the limit of a row, and share of such rows, beyond which shadows do not help
SIDES = 9  # first axes by which queries are put in order
TILE = 16 << 20  # bytes of scores that a thread holds


class Pruned:
    """What shadows cannot rule out, measured.

    Parameters
    ----------
    points, asked : Mixtures
        Among whom and for whom.
    wanted : int64 [m]
        Neighbours of each query.
    there, here : Shadows
        Of the points and of the queries.
    dense : Dense
        Asked where shadows rule out too little.
    memory : int
        Bytes for one thread.
    unit : float
        Squared length in shadows of a distance of 1.
    """

    def __init__(
        self,
        points: Mixtures,
        asked: Mixtures,
        wanted: NDArray[np.int64],
        there: Shadows,
        here: Shadows,
        dense: Dense,
        memory: int,
        *,
        unit: float,
    ) -> None:
        if there.far.shape[1] != here.far.shape[1]:
            raise ValueError("points and queries have different numbers of coordinates.")
        self.points, self.asked, self.wanted, self.dense = points, asked, wanted, dense
        self.there, self.here, self.unit = there, here, unit
        self.wide = -(-len(points) // SHARE) * SHARE
        self.tall = int(np.clip(min(memory // 8, TILE) // (4 * self.wide), 8, 256))
        # The last row is half the squared length, so that one product makes whole scores. Columns beyond the points
        # are never near to anything.
        self.columns = np.zeros((there.near.shape[1] + 2, self.wide), np.float32)
        self.columns[:-2, : len(points)] = there.near.T
        self.columns[-2, : len(points)] = there.rests[0]
        self.columns[-1] = NEVER
        self.columns[-1, : len(points)] = (there.squared - there.slack) / 2
        self.scratch = Scratch(self.tall, self.wide)

    @property
    def order(self) -> NDArray[np.int64]:
        """The queries so that those of one tile are near to each other: they have candidates in common.

        By the sides of the middle on which they lie along the first axes.
        """
        near = self.here.near[:, :SIDES]
        sides = near > np.median(near, axis=0)
        return np.argsort(sides @ (1 << np.arange(sides.shape[1])[::-1]), kind="stable")

    def candidates(self, ids: NDArray[np.int64]) -> tuple[NDArray, NDArray, NDArray]:
        """For these queries: row, point and squared distance of candidates among which the k nearest are."""
        row, column, squared, given_up = self._settled(ids, int(GIVE_UP * len(self.points)) + 1)
        if not given_up.any():
            return row, column, squared
        rest = np.flatnonzero(given_up)
        # A lone face is measured against all it must be. Where many are alone, products are faster than differences.
        many = len(rest) > GIVE_UP * len(ids)
        tall = self.dense.tall if many else len(rest)
        for start in range(0, len(rest), tall):
            some = rest[start : start + tall]
            others = self.dense.candidates(ids[some]) if many else self._settled(ids[some], self.wide + 1)
            row, column = np.append(row, some[others[0]]), np.append(column, others[1])
            squared = np.append(squared, others[2])
        return row, column, squared

    def _settled(self, ids: NDArray[np.int64], most: int) -> tuple[NDArray, NDArray, NDArray, NDArray[np.bool_]]:
        return kernels.settle(
            self._scores(ids).reshape(len(ids), SHARE, -1),
            ids,
            self.wanted[ids],
            most,
            self.asked.fields,
            self.points.fields,
            self.here.fields,
            self.there.fields,
            self.unit,
        )

    def _scores(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """``|t|^2 / 2 - <s, t>`` of the shadows of these queries and all points, float32 [len(ids), wide]."""
        scores = self.scratch.tile(len(ids), self.wide)
        rows = np.empty((len(ids), len(self.columns)), np.float32)
        np.negative(self.here.near[ids], out=rows[:, :-2])
        np.negative(self.here.rests[0, ids], out=rows[:, -2])
        rows[:, -1] = 1
        return np.matmul(rows, self.columns, out=scores)
