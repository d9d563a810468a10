"""Points that are rows of a table, or mixtures of two of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


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
        out = self.pixels[self.a[ids]].astype(np.float64)
        step = self.pixels[self.b[ids]] - out
        step *= self.w[ids, None]
        out += step
        return out

    @cached_property
    def fields(self) -> tuple[NDArray, NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """As the compiled loops take them (``kernels.py``): rows one behind the other, copied where they are not."""
        return (
            np.ascontiguousarray(self.pixels),
            np.ascontiguousarray(self.a, np.int64),
            np.ascontiguousarray(self.b, np.int64),
            np.ascontiguousarray(self.w, np.float64),
        )
