"""Distances of single pairs, as numba compiles them into the loops (``loops.py``)."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from ensemble_fer.neighbors.constants import MOST_BYTES

# Sums may be made in any order, which lets many be made at a time; no other liberty is taken with rounding. (The width
# that ``compiler.py`` forces lets the compiler reorder sums without this too: no loop may rely on the order of a sum.)
SUMS = {"reassoc", "nsz"}


def compiled(fastmath: Any = False) -> Any:
    """As part of a loop, with each operation rounded as it is written or with liberties that numba names."""
    return njit(fastmath=fastmath, error_model="numpy")


@intrinsic
def _ask_for(typing, address):
    """Have the processor fetch 64 bytes while it goes on."""

    def emit(context, builder, signature, arguments):
        pointer, number = ir.PointerType(ir.IntType(8)), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
        builder.call(function, [builder.inttoptr(arguments[0], pointer), number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(types.uintp), emit


@compiled()
def soon(table, row):
    """Fetch a row that is needed next: it lies anywhere, and waiting for it takes as long as measuring it."""
    step = table.shape[1] * table.itemsize
    start = table.ctypes.data + row * step
    for place in range(0, step, 64):
        _ask_for(np.uintp(start + place))  # pyright: ignore[reportCallIssue]


@compiled()
def squared_distance(pixels, a, b, w, i, pictures, c, d, v, j):
    """Squared distance of point ``i`` of ``(pixels, a, b, w)`` and point ``j`` of ``(pictures, c, d, v)``.

    Made from differences, of which all terms are positive: an integer between faces. Of mixtures each difference is
    rounded by at most ``4 2^-53`` of the grey levels that enter it, and the sum by ``p 2^-53``: 3e-13 of the squared
    distance, unless mixtures of the same parents are within a millionth of each other. Of a point and itself exactly 0.
    """
    if w[i] != 0 or v[j] != 0:
        return _of_mixtures(pixels, a[i], b[i], w[i], pictures, c[j], d[j], v[j])
    if pixels.itemsize == 1 and pictures.itemsize == 1 and pixels.shape[1] <= MOST_BYTES:
        return of_bytes(pixels, a[i], pictures, c[j])
    return of_numbers(pixels, a[i], pictures, c[j])


# Each loop is a function of its own: the compiler makes many sums at a time of small functions alone.
@compiled()
def of_bytes(x, i, y, j):
    one, other, total = x[i], y[j], np.int32(0)
    for n in range(len(one)):
        apart = np.int16(np.int16(one[n]) - np.int16(other[n]))
        total = np.int32(total + np.int32(np.int32(apart) * np.int32(apart)))
    return np.float64(total)


@compiled(fastmath=SUMS)
def of_numbers(x, i, y, j):
    total = 0.0
    for n in range(x.shape[1]):
        apart = np.float64(x[i, n]) - np.float64(y[j, n])
        total += apart * apart
    return total


@compiled(fastmath=SUMS)
def _of_mixtures(x, a, b, w, y, c, d, v):
    total = 0.0
    for n in range(x.shape[1]):
        s, t = np.float64(x[a, n]), np.float64(y[c, n])
        apart = (s + w * (np.float64(x[b, n]) - s)) - (t + v * (np.float64(y[d, n]) - t))
        total += apart * apart
    return total


@compiled(fastmath=SUMS)
def further(x, i, y, j):
    """Squared distance of two rows."""
    total = np.float32(0)
    for n in range(x.shape[1]):
        apart = x[i, n] - y[j, n]
        total += apart * apart
    return total
