"""The compiled loops of the search, each with the room that it writes to.

Sets of points are handed over as ``(pixels, a, b, w)``, the fields of ``Mixtures``; what a loop does is said in
``loops.py``.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ensemble_fer.neighbors.compiling import Loop, stop_compilers
from ensemble_fer.neighbors.constants import GUESSES, STEPS
from ensemble_fer.runtime import cpu_count, progress

_FOUND = 16  # times k: candidates of a query for which there is room at first
Fields = tuple[NDArray, NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
_squared_distances, _gaps, _summed, _mixed, _settle = (
    Loop(name) for name in ("squared_distances", "gaps", "summed", "mixed", "settle")
)


def prepare(dtype: DTypeLike = np.uint8, *, quiet: bool = True) -> None:
    """Have all loops over tables of a type ready: compiled where that was not done yet, in a quarter of a minute.

    Parameters
    ----------
    dtype : uint8 or float64
    quiet : bool
        Draw no progress bar; none is drawn where nothing must be compiled.
    """
    places, one, numbers = np.zeros(1, np.int64), np.ones(1, np.int64), np.zeros(1)
    face = (np.zeros((1, 4), dtype), places, places, numbers)
    near, room = np.zeros((1, 1), np.float32), np.zeros(2, np.int16)
    shadow = (near, np.zeros((2, 1), np.float32), numbers, numbers)
    guessing, looking, found = _room(1, 1, 1, 1, 2)
    calls: list[tuple[Loop, tuple]] = [
        (_gaps, (face, 0, 1, numbers)),
        (_mixed, (near, face, 0, 1, near)),
        (_squared_distances, (face, face, places, places, numbers)),
        (
            _settle,
            (near[None], places, one, face, face, shadow, shadow, 1.0, guessing, looking, found, *_account(1)),
        ),
    ]
    if face[0].dtype == np.uint8:
        calls.append((_summed, (face[0], face[0][0], 2, 1.0, np.zeros(4, np.int16), room, near, numbers)))
    missing = [call for call in calls if not call[0].is_kept(*call[1])]
    with (
        progress(len(missing), "compiling the search, once after installation", quiet=quiet or not missing) as advance,
        ThreadPoolExecutor(cpu_count()) as pool,
    ):
        try:
            for _ in pool.map(lambda call: call[0](*call[1]), missing):
                advance()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            stop_compilers()
            raise
    for loop, arguments in calls:
        loop(*arguments)


def squared_distances(one: Fields, other: Fields, i: NDArray[np.int64], j: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of points ``i[n]`` of the one set and ``j[n]`` of the other."""
    out = np.empty(len(i))
    _squared_distances(one, other, i, j, out)
    return out


def gaps(points: Fields, start: int, end: int, out: NDArray[np.float64]) -> None:
    """Squared distance between the parents of each point from ``start`` to ``end``."""
    _gaps(points, start, end, out)


def summed(
    pixels: NDArray[np.uint8],
    middle: NDArray[np.uint8],
    side: int,
    unit: float,
    out: NDArray[np.float32],
    squared: NDArray[np.float64],
) -> None:
    """What pictures differ from the middle by, summed over blocks of 2 by 2 pixels, and their squared lengths."""
    off, lines = np.empty(side * side, np.int16), np.empty(side * (side // 2), np.int16)
    _summed(pixels, middle, side, unit, off, lines, out, squared)


def mixed(table: NDArray[np.float32], points: Fields, start: int, end: int, out: NDArray[np.float32]) -> None:
    """Coordinates of the points from ``start`` to ``end``, mixed from those of their parents."""
    _mixed(table, points, start, end, out)


def settle(
    chunks: NDArray[np.float32],
    ids: NDArray[np.int64],
    wanted: NDArray[np.int64],
    most: int,
    asked: Fields,
    points: Fields,
    here: tuple,
    there: tuple,
    unit: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
    """The candidates of some rows of scores, of which the shadows rule out the others.

    Parameters
    ----------
    chunks, ids, wanted, asked, points, here, there, unit
        As for the loop.
    most : int
        Candidates from which on a row is given up.

    Returns
    -------
    row, column : int64 [c]
        Positions in ``ids`` and the points that can be among their k nearest, ties included.
    squared : float64 [c]
    given_up : bool [n]
    """
    k, wide = int(wanted.max(initial=1)), chunks.shape[2]
    guessing, looking, found = _room(wide, min(GUESSES * k, wide), k, len(ids), most)
    given_up, done = _account(len(ids))
    while True:
        _settle(chunks, ids, wanted, asked, points, here, there, unit, guessing, looking, found, given_up, done)
        if done[0] == len(ids):
            return found[0][: done[1]], found[1][: done[1]], found[2][: done[1]], given_up.view(bool)
        found = _longer(found, most)


def _longer(found: tuple, most: int) -> tuple:
    return tuple(np.concatenate([part, np.empty(len(part) + most, part.dtype)]) for part in found)


def _room(wide: int, guesses: int, k: int, n: int, most: int) -> tuple[tuple, tuple, tuple]:
    """What ``settle`` looks at and finds."""
    places = [np.empty(size, np.int64) for size in (guesses, k, most, most, STEPS, k)]
    floats = [np.empty(size, np.float32) for size in (wide, guesses, k, most)]
    room = _FOUND * n * k + k + most
    return (
        (floats[0], floats[1], places[0], floats[2], places[1]),
        (places[2], floats[3], places[3], places[4], np.empty(k), places[5]),
        (np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room)),
    )


def _account(n: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    return np.zeros(n, np.uint8), np.zeros(2, np.int64)
