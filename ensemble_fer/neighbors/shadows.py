"""Shadows of points: a few coordinates in which no two points are further apart than they are.

Let ``D`` have no singular value above 1: here, about the first principal axes. A point ``s`` has coordinates
``P = D' s`` and a rest of length ``r``, ``r^2 = |s|^2 - |P|^2``. As ``s -> (D' s, (I - D D')^{1/2} s)`` keeps all
distances, and the lengths of two second parts differ by at most the length of their difference,

    |s - t|^2  >=  |P_s - P_t|^2 + (r_s - r_t)^2,

the distance of two shadows ``(P, r)``. Most of a distance is seen in a few numbers: 64 of 2,304 leave about 100 faces
of 50,505 that could be nearer than the nearest one, and half of the rows have four or fewer.

Faces are smooth, so that the axes are looked for among those that are constant over blocks of 2 by 2 pixels: sums over
these, halved, are products with directions of length 1 at right angles, integers before they are scaled, and a quarter
of the numbers to multiply. Where such sums hold too little of the rows (noise, shuffled pixels), and for other tables
than square pictures of bytes, the axes are those of single pixels.

Coordinates of a mixture are the mixture of its parents' coordinates, and its length follows from theirs,
``|s|^2 = |a|^2 + w (|b|^2 - |a|^2) - w (1 - w) |a - b|^2``: no pixel of it is made.

Rounding
--------
Let ``u = 2^-24`` and ``S`` be the squared length of a point, or of the longer of its parents. Products are made in
float32 over 256 pixels or blocks at a time and summed in float64, whatever order float32 sums in: a coordinate is off
by less than ``256 u`` times its length and that of its axis, all ``d`` of a point by less than ``c u S^{1/2}`` as a
vector, ``c = 258 d^{1/2} + 10``, storing and mixing included. ``|s|^2`` is off by less than ``260 u S``. Rests are
raised, ``r^2 = |s|^2 - |P|^2 + (2 c + 300) u S``, so that they are never too short. Then the squared distance of two
shadows exceeds the true one by less than ``(4 c + 600) u (S_s + S_t)``, and a score, one product of d + 2 float32
numbers whose terms sum to at most ``S_s / 2 + S_t``, adds ``2 (d + 3) u (S_s + S_t)`` at most. Each point's part is its
``slack``.
Storing ``D`` as float32 may raise a singular value by a fraction of ``u``, for which the constants leave room.
"""

from __future__ import annotations

import math
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.neighbors import kernels
from ensemble_fer.neighbors.constants import MOST_BYTES
from ensemble_fer.neighbors.points import Mixtures

U = 2.0**-24
TINY = 1e-30  # of a squared length of order 1: below, squares leave what float32 can hold
LEVELS = (64, 256)
_SAMPLE, _SPARE = 1024, 32
_BATCH, _BLOCK = 512, 256
_SEEN = 0.7  # of the squared lengths that must be left in sums over 2 by 2 pixels


@dataclass(frozen=True)
class Axes:
    """Directions around a middle.

    Parameters
    ----------
    middle : uint8 or float64 [p]
        Of the type of the table.
    directions : float32 [q, d]
        With no singular value above 1. ``q`` is ``p``, or a quarter of it.
    scale : float
        A power of two that brings all lengths to the order of 1, where float32 is at home.
    side : int
        Of pictures whose blocks of 2 by 2 pixels are summed before the directions are met; 0 where none are.
    """

    middle: NDArray
    directions: NDArray[np.float32]
    scale: float
    side: int

    @classmethod
    def principal(cls, pixels: NDArray, most: int, pool: Executor) -> Axes:
        """About the first principal axes of the rows, at most ``most``, from a sample of them.

        By subspace iteration (Halko, Martinsson, Tropp 2011, algorithm 4.4). How near they come to the true ones
        decides speed alone.
        """
        sample = np.ascontiguousarray(pixels[:: max(1, len(pixels) // _SAMPLE)][: 2 * _SAMPLE])
        middle, whole = sample.mean(axis=0, dtype=np.float64), pixels.dtype == np.uint8
        most_seen = 255.0 if whole else max(float(pixels.max(initial=0)), -float(pixels.min(initial=0)))
        scale = 2.0 ** -np.ceil(np.log2(max(most_seen, 1e-150) * pixels.shape[1] ** 0.5))
        if whole:
            middle = np.rint(middle).astype(np.uint8)
        single = cls(middle, np.empty((0, 0), np.float32), scale, 0)
        blockwise = replace(single, side=side_of(pixels.shape[1]) if whole else 0)
        parts = [sample[start : start + _BATCH] for start in range(0, len(sample), _BATCH)]

        def spread_of(axes: Axes) -> tuple[list[NDArray[np.float32]], float]:
            found = list(pool.map(axes.spread, parts))
            return [block for block, _ in found], sum(float(squared.sum()) for _, squared in found)

        blocks, length = spread_of(blockwise)
        if blockwise.side and sum(float(np.vdot(block, block)) for block in blocks) < _SEEN * length:
            blockwise, blocks = single, spread_of(single)[0]
        q = blocks[0].shape[1]
        d = min(most, q)
        basis = np.random.default_rng(0).standard_normal((q, min(d + _SPARE, q)), "f")
        # Summed in the order of the blocks, so that the axes do not depend on the threads.
        basis = np.linalg.qr(sum(pool.map(lambda block: block.T @ (block @ basis), blocks)))[0]
        cast = np.concatenate(list(pool.map(lambda block: block @ basis, blocks)))
        turn = np.linalg.eigh(cast.T @ cast)[1][:, ::-1]
        directions = basis @ turn[:, :d]
        wide = directions.astype(np.float64)
        beyond = np.linalg.norm(wide.T @ wide - np.eye(d))
        return replace(blockwise, directions=(directions / np.sqrt(1 + 2 * beyond)).astype(np.float32))

    def spread(self, pixels: NDArray) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """What some rows differ from the middle by, times the scale, and their squared lengths."""
        if pixels.dtype == self.middle.dtype == np.uint8 and self.side:
            out, squared = np.empty((len(pixels), len(self.middle) // 4), np.float32), np.empty(len(pixels))
            kernels.summed(np.ascontiguousarray(pixels), self.middle, self.side, self.scale, out, squared)
            return out, squared
        # Queries may be of another type than the table: numbers that are no bytes, among bytes, or the reverse.
        off = np.subtract(pixels, self.middle, dtype=np.float64)
        off *= self.scale
        squared = np.einsum("ij,ij->i", off, off)
        if self.side:
            half = self.side // 2
            off = off.reshape(-1, half, 2, half, 2).sum(axis=(2, 4)).reshape(len(off), -1) / 2
        return off.astype(np.float32), squared

    def coordinates(
        self, pixels: NDArray, rows: NDArray[np.int64], pool: Executor, known: Coordinates | None = None
    ) -> Coordinates:
        """Of some rows of a table, times the scale: coordinates, near and far, and squared length.

        Parameters
        ----------
        pixels : uint8 or float64 [n, p]
        rows : int64 [m]
            Of which they are needed. Of others there is room, with nothing in it.
        pool : Executor
        known : Coordinates, optional
            Of the same table, where what is missing is put; a new one by default.
        """
        first, n = min(LEVELS[0], self.directions.shape[1]), len(pixels)
        if known is None:
            near, far = (np.empty((n, d), np.float32) for d in (first, self.directions.shape[1] - first))
            known = Coordinates(near, far, np.empty(n), np.zeros(n, bool))
        out, wanted = known, np.zeros(n, bool)
        wanted[rows] = True
        missing = np.flatnonzero(wanted & ~out.made)
        # As rows of a table of its own each block of directions is read in one go.
        parts = [(block, np.ascontiguousarray(self.directions[block])) for block in _blocks(len(self.directions))]

        def fill(start: int) -> None:
            some: NDArray | slice = missing[start : start + _BATCH]
            if some[-1] - some[0] < len(some):  # side by side: need not be copied
                some = slice(some[0], some[-1] + 1)
            off, squared = self.spread(pixels[some])
            found = np.zeros((len(off), self.directions.shape[1]))
            for block, directions in parts:
                found += off[:, block] @ directions
            out.near[some], out.far[some], out.squared[some] = found[:, :first], found[:, first:], squared

        list(pool.map(fill, range(0, len(missing), _BATCH)))
        out.made[missing] = True
        return out


def side_of(pixels: int) -> int:
    """Side of square pictures of so many bytes, if it is even; 0 otherwise.

    And 0 where sums over blocks are too few for the last level, or the pictures too large for sums of integers.
    """
    side = math.isqrt(pixels)
    fit = side**2 == pixels and side % 2 == 0 and 4 * LEVELS[-1] <= pixels <= MOST_BYTES
    return side if fit else 0


def _blocks(columns: int) -> list[slice]:
    return [slice(start, start + _BLOCK) for start in range(0, columns, _BLOCK)]


@dataclass(frozen=True)
class Coordinates:
    """Of the rows of a table.

    Parameters
    ----------
    near : float32 [n, d1]
        The first coordinates, of which scores are made.
    far : float32 [n, d2]
        The others, looked at for candidates alone.
    squared : float64 [n]
        Squared lengths of the rows.
    made : bool [n]
        Rows of which all this is known.
    """

    near: NDArray[np.float32]
    far: NDArray[np.float32]
    squared: NDArray[np.float64]
    made: NDArray[np.bool_]

    @property
    def width(self) -> int:
        """Number of coordinates."""
        return self.near.shape[1] + self.far.shape[1]


@dataclass(frozen=True)
class Shadows:
    """The shadows of some points.

    Parameters
    ----------
    near, far : float32 [m, d1], [m, d2]
    rests : float32 [2, m]
        What is left of each point beyond the near coordinates, and beyond all.
    squared : float64 [m]
        Squared lengths.
    slack : float64 [m]
        By how much a squared distance of shadows may exceed the true one is at most the sum of both points' slack.
    largest : float
        Squared length of the longest point or parent.
    """

    near: NDArray[np.float32]
    far: NDArray[np.float32]
    rests: NDArray[np.float32]
    squared: NDArray[np.float64]
    slack: NDArray[np.float64]
    largest: float

    @classmethod
    def of(cls, points: Mixtures, table: Coordinates, scale: float, pool: Executor, most: int = LEVELS[-1]) -> Shadows:
        """Of points, from the coordinates of the rows of their table, of which about ``most`` are kept."""
        a, b, w, m = *points.fields[1:], len(points)
        near, far, squared, longest = table.near, table.far, table.squared, table.squared
        if table.width > most:
            far = np.ascontiguousarray(far[:, : max(0, most - near.shape[1])])
        d = near.shape[1] + far.shape[1]
        if not points.is_table:
            own, apart = (
                (np.empty((m, near.shape[1]), np.float32), np.empty((m, far.shape[1]), np.float32)),
                np.empty(m),
            )

            def fill(start: int) -> None:
                end = min(m, start + _BATCH)
                kernels.gaps(points.fields, start, end, apart)
                for part, out in zip((near, far), own, strict=True):
                    kernels.mixed(part, points.fields, start, end, out)

            list(pool.map(fill, range(0, m, _BATCH)))
            # What rounding costs a mixture depends on its parents, which may be much longer than it is.
            longest = np.maximum(squared[a], squared[b])
            squared = squared[a] + w * (squared[b] - squared[a]) - w * (1 - w) * apart * scale**2
            near, far = own
        off = 258 * d**0.5 + 10
        left = squared + (2 * off + 300) * U * longest + TINY - np.einsum("ij,ij->i", near, near, dtype=np.float64)
        rests = np.stack([left, left - np.einsum("ij,ij->i", far, far, dtype=np.float64)])
        # One step up: the nearest float32 may be below.
        rests = np.nextafter(np.sqrt(np.maximum(rests, 0)).astype(np.float32), np.float32(np.inf))
        return cls(
            near, far, rests, squared, (4 * off + 600 + 2 * (d + 3)) * U * longest + TINY, float(longest.max(initial=0))
        )

    def __len__(self) -> int:
        return len(self.squared)

    @property
    def fields(self) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """What the compiled loops need of them (``kernels.py``)."""
        return self.far, self.rests, self.squared, self.slack
