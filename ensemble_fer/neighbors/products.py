"""Exact inner products of bytes: as int8 where the processor does that rightly, else as float32 in small blocks.

A pixel less 128 lies in -128 to 127; the centre cancels in every distance.

int8: the processor's instructions for bytes (VNNI, AMX) sum products in int32 and are exact. Without them the same
library call has been seen to saturate in int16, silently, and to be exact and ten times slower than float32, depending
on its version: hence a self-test decides, not the name of the processor.

float32: a product of two centred pixels is at most 2^14 and a sum of 1,024 of them at most 2^24, so every partial sum
is an integer that float32 holds, whatever order the sums are made in and with or without fused multiply-add. Blocks of
1,024 pixels are therefore exact, and are summed as int32.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import lru_cache
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ensemble_fer.errors import UsageError, unknown_name

CENTRE = 128
PIXELS_A_BLOCK = 1024
MOST_PIXELS = 2**31 // CENTRE**2 - 1  # beyond, a sum of products may leave int32
_ROWS_A_BLOCK = 256

Products = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.int32]]


def exact_products(x: NDArray[np.uint8], y: NDArray[np.uint8], *, engine: str | None = None) -> NDArray[np.int32]:
    """All inner products of two sets of rows of pixels less 128.

    Parameters
    ----------
    x : uint8 [m, p]
    y : uint8 [n, p]
    engine : str, optional
        ``int8`` or ``float32``; by default as ``best_engine`` finds.

    Returns
    -------
    int32 [m, n]
        Exact.

    Raises
    ------
    UsageError
        More pixels than int32 can sum, or an unknown engine.
    """
    if x.shape[1] > MOST_PIXELS:
        raise UsageError(f"{x.shape[1]} pixels a row; exact products hold for at most {MOST_PIXELS}.")
    engine = engine or best_engine()
    if engine not in ENGINES:
        raise unknown_name("engine of products", engine, ENGINES)
    return ENGINES[engine](x, y)


@lru_cache(maxsize=1)
def best_engine() -> str:
    """``int8`` if it is exact and faster on this processor, else ``float32``; tested once a process.

    torch, which has the int8 product, is imported only where the processor claims the instructions for it.
    """
    if not _claims_int8() or not is_exact("int8"):
        return "float32"
    # Where the library may not use these instructions it can be exact and slow.
    return min(ENGINES, key=_seconds)


def _seconds(engine: str) -> float:
    x = np.zeros((512, 2304), np.uint8)
    took = []
    for _ in range(3):
        began = time.perf_counter()
        ENGINES[engine](x, x)
        took.append(time.perf_counter() - began)
    return min(took)


def is_exact(engine: str) -> bool:
    """Whether an engine gives the products of integers, also of the largest there are."""
    draw = np.random.default_rng(0)
    x = draw.integers(0, 256, (48, 2304), np.uint8)
    y = draw.integers(0, 256, (64, 2304), np.uint8)
    x[:4], y[:4] = np.array([0, 255, 128, 127], np.uint8)[:, None], np.array([0, 255, 1, 254], np.uint8)[:, None]
    wide = (x.astype(np.int64) - CENTRE) @ (y.astype(np.int64) - CENTRE).T
    try:
        return np.array_equal(ENGINES[engine](x, y), wide)
    except (ImportError, RuntimeError, AttributeError, NotImplementedError):
        return False


def _claims_int8() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return any(flag in flags for flag in ("avx512_vnni", "avx_vnni", "amx_int8"))


def _as_int8(x: NDArray[np.uint8], y: NDArray[np.uint8]) -> NDArray[np.int32]:
    # By name, so that whoever only searches does not load torch: the rooms above promise to do without it.
    torch = import_module("torch")
    m, n, p = len(x), len(y), -x.shape[1] % 8
    padded = []
    # The kernels want more than 16 rows, and all sides to be multiples of 8. Pixels of value 128 add nothing.
    for rows in (x, y):
        high = max(32, len(rows) + -len(rows) % 8)
        out = np.full((high, rows.shape[1] + p), CENTRE, np.uint8)
        out[: len(rows), : rows.shape[1]] = rows
        padded.append(torch.from_numpy((out ^ CENTRE).view(np.int8)))
    return torch._int_mm(padded[0], padded[1].t()).numpy()[:m, :n]


def _as_float32(x: NDArray[np.uint8], y: NDArray[np.uint8]) -> NDArray[np.int32]:
    out = np.zeros((len(x), len(y)), np.int32)
    columns = y.astype(np.float32)
    columns -= CENTRE
    for top in range(0, len(x), _ROWS_A_BLOCK):
        rows = x[top : top + _ROWS_A_BLOCK].astype(np.float32)
        rows -= CENTRE
        for first in range(0, x.shape[1], PIXELS_A_BLOCK):
            block = slice(first, first + PIXELS_A_BLOCK)
            out[top : top + _ROWS_A_BLOCK] += (rows[:, block] @ columns[:, block].T).astype(np.int32)
    return out


ENGINES: dict[str, Products] = {"int8": _as_int8, "float32": _as_float32}


class one_blas_thread:
    """Lets each of our threads make its own products.

    A product that BLAS splits ends at a barrier, where on a busy machine every thread waits for the slowest;
    tiles of our own have none. Where several searches overlap, the first sets the limit and the last takes it back.
    """

    _lock, _inside, _limit = threading.Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        cls = one_blas_thread
        with cls._lock:
            if not cls._inside:
                cls._limit.enter_context(threadpool_limits(1, user_api="blas"))
            cls._inside += 1

    def __exit__(self, *problem: object) -> None:
        cls = one_blas_thread
        with cls._lock:
            cls._inside -= 1
            if not cls._inside:
                cls._limit.close()


def squared_norms(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Exact squared length of each row less 128, int64 [n]."""
    out = np.empty(len(pixels), np.int64)
    for first in range(0, len(pixels), 1024):  # 1,024 rows of 2,304 int32 are 9 MB
        rows = slice(first, first + 1024)
        values = pixels[rows].astype(np.int32) - CENTRE
        np.einsum("ij,ij->i", values, values, out=out[rows], dtype=np.int64, casting="unsafe")
    return out
