"""Exact inner products of bytes, with the float32 matrix product that every processor has.

A pixel less 128 lies in -128 to 127, so a product of two is at most 2^14 and a sum of 1,024 of them at
most 2^24: every partial sum is an integer that float32 holds, whatever order the sums are made in and
with or without fused multiply-add. Blocks of 1,024 pixels are therefore exact, and are summed as int32.
The centre cancels in every distance.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.errors import UsageError

CENTRE = 128
PIXELS_A_BLOCK = 1024
MOST_PIXELS = 2**31 // CENTRE**2 - 1  # beyond, a sum of products may leave int32
_ROWS_A_BLOCK = 256  # 256 x 8,192 float32 is 8 MB: the scratch of a thread


def centred(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pixels less 128 as float32, the form in which products are made.

    Parameters
    ----------
    pixels : uint8 [n, p]
    """
    if pixels.shape[1] > MOST_PIXELS:
        raise UsageError(f"{pixels.shape[1]} pixels a row; exact products hold for at most {MOST_PIXELS}.")
    out = pixels.astype(np.float32)
    out -= CENTRE
    return out


def exact_products(
    x: NDArray[np.float32], y: NDArray[np.float32], pool: ThreadPoolExecutor | None = None
) -> NDArray[np.int32]:
    """All inner products of two sets of centred rows.

    Parameters
    ----------
    x : float32 [m, p]
    y : float32 [n, p]
        Both from ``centred``.
    pool : ThreadPoolExecutor, optional
        Threads to share the work; best within ``one_blas_thread``.

    Returns
    -------
    int32 [m, n]
        Exact. Where ``x is y`` half of the work is mirrored.
    """
    out = np.empty((len(x), len(y)), np.int32)

    def fill(top: int) -> None:
        bottom = min(len(x), top + _ROWS_A_BLOCK)
        left = top if x is y else 0
        total = out[top:bottom, left:]
        part = np.empty(total.shape, np.float32)
        for first in range(0, x.shape[1], PIXELS_A_BLOCK):
            block = slice(first, first + PIXELS_A_BLOCK)
            np.matmul(x[top:bottom, block], y[left:, block].T, out=part)
            if first == 0:
                np.copyto(total, part, casting="unsafe")
            else:
                total += part.astype(np.int32)
        if x is y:
            out[bottom:, top:bottom] = out[top:bottom, bottom:].T

    tops = range(0, len(x), _ROWS_A_BLOCK)
    for _ in map(fill, tops) if pool is None else pool.map(fill, tops):
        pass
    return out


def one_blas_thread() -> AbstractContextManager:
    """Lets each of our threads make its own products.

    A product that BLAS splits ends at a barrier, where on a busy machine every thread waits for the slowest;
    tiles of our own have none.
    """
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, user_api="blas")


def squared_norms(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Exact squared length of each centred row, int64 [n]."""
    return _sums_of_squares(lambda rows: pixels[rows].astype(np.int32) - CENTRE, len(pixels))


def _sums_of_squares(rows_of: Callable[[slice], NDArray[np.int32]], n: int) -> NDArray[np.int64]:
    out = np.empty(n, np.int64)
    for first in range(0, n, 1024):  # 1,024 rows of 2,304 int32 are 9 MB
        rows = slice(first, min(n, first + 1024))
        values = rows_of(rows)
        np.einsum("ij,ij->i", values, values, out=out[rows], dtype=np.int64, casting="unsafe")
    return out
