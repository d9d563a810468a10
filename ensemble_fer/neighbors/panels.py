"""Points that are mixtures of faces, cut into panels whose parents fit in memory together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.neighbors.products import squared_gaps, squared_norms


@dataclass(frozen=True)
class Mixtures:
    """Points ``a + w (b - a)`` of rows of bytes, unrounded.

    Parameters
    ----------
    pixels : uint8 [n, p]
        The faces, flattened.
    a, b : int64 [m]
        Parents, rows of ``pixels``.
    w : float64 [m]
        Weights, 0 to 1. A face itself is ``a = b`` with weight 0.
    group : int [m], optional
        Points whose parents lie among the same faces (the class): they share a panel. Only speed depends on it.
    """

    pixels: NDArray[np.uint8]
    a: NDArray[np.int64]
    b: NDArray[np.int64]
    w: NDArray[np.float64]
    group: NDArray | None = None

    def __len__(self) -> int:
        return len(self.a)

    @classmethod
    def faces(cls, pixels: NDArray[np.uint8]) -> Mixtures:
        """Each face as it is."""
        rows = np.arange(len(pixels))
        return cls(pixels.reshape(len(pixels), -1), rows, rows, np.zeros(len(pixels)))


@dataclass(frozen=True)
class Panel:
    """Some points with all their parents.

    Parameters
    ----------
    ids : int64 [m]
        Positions of the points in their set.
    base : uint8 [u, p]
        The distinct parents.
    a, b : int64 [m]
        Parents of each point, rows of ``base``. Points with weight 0 come first.
    w : float64 [m]
    """

    ids: NDArray[np.int64]
    base: NDArray[np.uint8]
    a: NDArray[np.int64]
    b: NDArray[np.int64]
    w: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def plain(self) -> int:
        """How many points are faces, not mixtures."""
        return int(np.count_nonzero(self.w == 0))

    @cached_property
    def plain_is_base(self) -> bool:
        """The faces among the points are the parents in their order, so that nothing need be gathered."""
        return np.array_equal(self.a[: self.plain], np.arange(len(self.base)))

    @cached_property
    def w32(self) -> NDArray[np.float32]:
        return self.w.astype(np.float32)

    @cached_property
    def norm(self) -> NDArray[np.int64]:
        """Squared length of each centred parent."""
        return squared_norms(self.base)

    @cached_property
    def inside(self) -> NDArray[np.float64]:
        """``w (1 - w) |a - b|^2``: what a mixture is nearer to everything than its parents are on average."""
        out = np.zeros(len(self))
        mixed = slice(self.plain, None)
        gaps = squared_gaps(self.base, self.a[mixed], self.b[mixed])
        out[mixed] = self.w[mixed] * (1 - self.w[mixed]) * gaps
        return out

    @cached_property
    def half_norm(self) -> NDArray[np.float32]:
        """Half the squared length of each centred point."""
        first = self.norm[self.a].astype(np.float64)
        second = self.norm[self.b].astype(np.float64)
        return ((first + self.w * (second - first) - self.inside) / 2).astype(np.float32)


def panels_of(points: Mixtures, most: int) -> list[Panel]:
    """Cut points into panels of at most ``most`` distinct parents (more only if one point has more).

    A group that is small enough is one panel, and then every product of two parents is made once.
    Larger ones are cut along their first parents.
    """
    if points.group is None:
        groups = [np.arange(len(points))]
    else:
        groups = [np.flatnonzero(points.group == code) for code in np.unique(points.group)]
    return [_panel(points, ids) for group in groups for ids in _cut(points, group, most)]


def _cut(points: Mixtures, ids: NDArray[np.int64], most: int) -> list[NDArray[np.int64]]:
    if not len(ids):
        return []
    parents = len(np.unique(np.concatenate([points.a[ids], points.b[ids]])))
    if parents <= most or len(ids) == 1:
        return [ids]
    ids = ids[np.argsort(points.a[ids], kind="stable")]
    pieces = min(len(ids), -(-parents // most))
    return [piece for part in np.array_split(ids, pieces) for piece in _cut(points, part, most)]


def _panel(points: Mixtures, ids: NDArray[np.int64]) -> Panel:
    ids = ids[np.lexsort((points.a[ids], points.w[ids] != 0))]
    base, place = np.unique(np.concatenate([points.a[ids], points.b[ids]]), return_inverse=True)
    first, second = place[: len(ids)], place[len(ids) :]
    return Panel(ids, points.pixels[base], first, second, points.w[ids])
