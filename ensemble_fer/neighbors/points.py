"""Points that are rows of a table, or mixtures of two of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

_BATCH, _FEW = 512, 64  # rows at once: 64 of 2,304 float64 are 1.2 MB


@dataclass(frozen=True)
class Mixtures:
    """Points ``a + w (b - a)`` of rows of a table, unrounded.

    Parameters
    ----------
    pixels : uint8 or float64 [n, p]
        The faces, flattened, or other rows of finite numbers.
    a, b : int64 [m]
        Parents, rows of ``pixels``.
    w : float64 [m]
        Weights, 0 to 1. A face itself is ``a = b`` with weight 0.
    """

    pixels: NDArray
    a: NDArray[np.int64]
    b: NDArray[np.int64]
    w: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.a)

    @classmethod
    def faces(cls, pixels: NDArray, rows: NDArray[np.int64] | None = None) -> Mixtures:
        """Each face as it is: all of them, or these rows."""
        chosen = np.arange(len(pixels)) if rows is None else np.asarray(rows, np.int64)
        # The same object where it is a table already: a search knows its own table by that.
        table = pixels if pixels.ndim == 2 else pixels.reshape(len(pixels), -1)
        return cls(table, chosen, chosen, np.zeros(len(chosen)))

    @cached_property
    def is_table(self) -> bool:
        """The points are the rows of the table in their order."""
        return len(self) == len(self.pixels) and not self.w.any() and np.array_equal(self.a, np.arange(len(self)))

    def values(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """The points themselves, float64 [len(ids), p]."""
        out, step = (np.empty((len(ids), self.pixels.shape[1])) for _ in range(2))
        return self._into(out, step, ids, mixed=True)

    def _into(self, out: NDArray, step: NDArray, ids: NDArray, *, mixed: bool) -> NDArray[np.float64]:
        out, step = out[: len(ids)], step[: len(ids)]
        out[...] = self.pixels[self.a[ids]]
        if mixed:
            step[...] = self.pixels[self.b[ids]]
            step -= out
            step *= self.w[ids, None]
            out += step
        return out

    def gaps(self) -> NDArray[np.float64]:
        """Squared distance between the parents of each point, float64 [m]."""
        out = np.zeros(len(self))
        mixed = np.flatnonzero(self.w)
        for start in range(0, len(mixed), _BATCH):
            ids = mixed[start : start + _BATCH]
            step = self.pixels[self.a[ids]].astype(np.float64)
            step -= self.pixels[self.b[ids]]
            out[ids] = np.einsum("ij,ij->i", step, step)
        return out


def squared_distances(
    one: Mixtures, other: Mixtures, i: NDArray[np.int64], j: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Squared distance between point ``i[n]`` of one and ``j[n]`` of the other, for all n.

    Made from differences in float64: every term is positive, so that the relative error stays below ``(p + 8) 2^-53``
    (3e-13 for a face) however near two points are, and a point is at distance 0 from itself.
    """
    out = np.empty(len(i))
    # Three buffers that stay in the cache; fresh memory for each batch would cost four times the arithmetic.
    first, second, step = (np.empty((_FEW, one.pixels.shape[1])) for _ in range(3))
    mixed, blended = one.w[i] != 0, other.w[j] != 0
    for kind in range(4):
        pairs = np.flatnonzero(2 * mixed + blended == kind)
        for start in range(0, len(pairs), _FEW):
            part = pairs[start : start + _FEW]
            left = one._into(first, step, i[part], mixed=kind >= 2)
            left -= other._into(second, step, j[part], mixed=kind % 2 == 1)
            out[part] = np.einsum("ij,ij->i", left, left)
    return out
