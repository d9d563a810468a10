"""Shadows of points: a few coordinates in which no two points are further apart than they are.

Along orthonormal axes a point ``s`` has coordinates ``P`` and a rest of length ``r``, ``r^2 = |s - m|^2 - |P|^2``. The
rests of two points have a product of at most ``r_s r_t`` (Cauchy-Schwarz), hence

    |s - t|^2  >=  |P_s - P_t|^2 + (r_s - r_t)^2,

the distance of two shadows ``(P, r)``. With the first principal axes of the faces most of a distance is seen in a few
numbers: 64 of 2,304 leave about 160 faces of 50,505 that could be nearer than the nearest one found so far.

Coordinates of a mixture are the mixture of its parents' coordinates, and its length follows from theirs,
``|s|^2 = |a|^2 + w (|b|^2 - |a|^2) - w (1 - w) |a - b|^2``: no pixel of it is made.

Rounding
--------
In units of the largest length of a point or a parent, with ``u = 2^-24``: coordinates are made in float64 and kept as
float32; with one mixing they are off by less than ``8 u`` as a vector, so that a product ``<P_s, P_t>`` is off by less
than ``17 u``. Rests are raised, ``r^2 = |s - m|^2 - |P|^2 + 20 u``, so that they are never too short; products of
shadows are then too small by at most ``17 u``, squared lengths too large by at most ``24 u``. A squared distance of
shadows exceeds the true one by less than ``2 * 17 u + 2 * 24 u``; a score, made as one product of d + 2 float32
numbers whose terms sum to at most 1.5, adds ``3 (d + 3) u``. ``slack`` is above all that. A basis that is orthonormal
only to 1e-12 changes nothing on this scale.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.neighbors.points import Mixtures

U = 2.0**-24
LEVELS = (64, 128, 384)
_SAMPLE, _SPARE, _ROUNDS = 2048, 48, 1
_BATCH = 1024


@dataclass(frozen=True)
class Axes:
    """Orthonormal directions around a middle.

    Parameters
    ----------
    middle : float64 [p]
    directions : float64 [p, d]
    scale : float
        A power of two that brings all lengths to the order of 1, where float32 is at home.
    """

    middle: NDArray[np.float64]
    directions: NDArray[np.float64]
    scale: float

    @classmethod
    def principal(cls, pixels: NDArray, most: int, pool: Executor) -> Axes:
        """About the first principal axes of the rows, at most ``most``, from a sample of them.

        By subspace iteration (Halko, Martinsson, Tropp 2011, algorithm 4.4). How near they come to the true ones
        decides speed alone.
        """
        sample = pixels[:: max(1, len(pixels) // _SAMPLE)][: 2 * _SAMPLE]
        middle = sample.mean(axis=0, dtype=np.float64)
        spread = sample - middle
        most_seen = 255.0 if pixels.dtype == np.uint8 else float(np.abs(pixels).max(initial=0))
        scale = 2.0 ** -np.ceil(np.log2(max(most_seen, 1e-150) * pixels.shape[1] ** 0.5))
        d = min(most, pixels.shape[1])
        spread = (spread * scale).astype(np.float32)
        basis = np.random.default_rng(0).standard_normal(
            (pixels.shape[1], min(d + _SPARE, pixels.shape[1])), np.float32
        )
        blocks = np.array_split(spread, max(1, len(spread) // 512))
        for _ in range(_ROUNDS):
            # Summed in the order of the blocks, so that the axes do not depend on the threads.
            parts = pool.map(lambda block, basis=basis: block.T @ (block @ basis), blocks)
            basis = np.linalg.qr(sum(parts))[0]
        cast = np.concatenate(list(pool.map(lambda block: block @ basis, blocks))).astype(np.float64)
        turn = np.linalg.eigh(cast.T @ cast)[1][:, ::-1]
        return cls(middle, np.linalg.qr(basis.astype(np.float64) @ turn[:, :d])[0], scale)

    def coordinates(self, pixels: NDArray, pool: Executor) -> Coordinates:
        """Of each row, times the scale: its coordinates by levels, and its squared length."""
        parts = [np.empty((len(pixels), last - first), np.float32) for first, last in _edges(self.directions.shape[1])]
        squared = np.empty(len(pixels))

        def fill(start: int) -> None:
            rows = slice(start, start + _BATCH)
            off = (pixels[rows] - self.middle) * self.scale
            np.einsum("ij,ij->i", off, off, out=squared[rows])
            found, first = off @ self.directions, 0
            for part in parts:
                part[rows] = found[:, first : first + part.shape[1]]
                first += part.shape[1]

        list(pool.map(fill, range(0, len(pixels), _BATCH)))
        return Coordinates(parts, squared)


@dataclass(frozen=True)
class Coordinates:
    """Of the rows of a table.

    Parameters
    ----------
    parts : list of float32 [n, levels[i] - levels[i - 1]]
        Those that each level adds.
    squared : float64 [n]
        Squared lengths of the rows.
    """

    parts: list[NDArray[np.float32]]
    squared: NDArray[np.float64]


@dataclass(frozen=True)
class Shadows:
    """The shadows of some points at several levels, each with more coordinates than the one before.

    Parameters
    ----------
    coordinates : list of float32 [m, levels[i] - levels[i - 1]]
        Those that each level adds.
    rests : float32 [levels, m]
        What is left of each point beyond the first ``levels[i]`` coordinates.
    squared : float64 [m]
        Squared lengths.
    levels : tuple of int
        Ascending numbers of coordinates, the last one is d.
    largest : float
        Squared length of the longest point or parent: the unit of rounding.
    """

    coordinates: list[NDArray[np.float32]]
    rests: NDArray[np.float32]
    squared: NDArray[np.float64]
    levels: tuple[int, ...]
    largest: float

    @classmethod
    def of(cls, points: Mixtures, table: Coordinates, scale: float, pool: Executor, most: int = LEVELS[-1]) -> Shadows:
        """Of points, from the coordinates of the rows of their table, of which at most ``most`` are kept."""
        a, b, w, m = points.a, points.b, points.w, len(points)
        levels = np.cumsum([part.shape[1] for part in table.parts])
        levels = tuple(int(level) for level in levels if level <= max(most, levels[0]))
        parts = table.parts[: len(levels)]
        if points.is_table:
            squared, coordinates = table.squared, parts
        else:
            squared = table.squared[a] + w * (table.squared[b] - table.squared[a])
            squared -= w * (1 - w) * points.gaps() * scale**2
            coordinates = [np.empty((m, part.shape[1]), np.float32) for part in parts]
        rests = np.empty((len(levels), m), np.float32)
        largest = squared.max(initial=0.0)
        if not points.is_table:
            # What rounding costs a mixture depends on its parents, which may be much longer than it is.
            largest = max(largest, table.squared[a].max(initial=0.0), table.squared[b].max(initial=0.0))
        raised = 20 * U * largest

        def cast(start: int) -> None:
            some = slice(start, min(m, start + _BATCH))
            mixed = np.flatnonzero(w[some]) + start
            weight = w[mixed, None].astype(np.float32)
            left = squared[some] + raised
            for number, (part, out) in enumerate(zip(parts, coordinates, strict=True)):
                if out is not part:
                    out[some] = part[a[some]]
                    out[mixed] += weight * (part[b[mixed]] - out[mixed])
                left = left - np.einsum("ij,ij->i", out[some], out[some], dtype=np.float64)
                # One step up: the nearest float32 may be below.
                rests[number, some] = np.nextafter(np.sqrt(np.maximum(left, 0)).astype(np.float32), np.float32(np.inf))

        list(pool.map(cast, range(0, m, _BATCH)))
        return cls(coordinates, rests, squared, levels, float(largest))

    def __len__(self) -> int:
        return len(self.squared)


def _edges(d: int) -> list[tuple[int, int]]:
    """Where the coordinates of each level begin and end."""
    return list(pairwise((0, *(level for level in LEVELS if level < d), d)))


def slack(level: int, squared: float) -> float:
    """By how much a squared distance of shadows may exceed the true one, for lengths of at most ``squared ** 0.5``."""
    return (3 * level + 128) * U * squared
