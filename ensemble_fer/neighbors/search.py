"""Exact nearest neighbours among faces and mixtures of faces.

How exactness is argued
-----------------------
1. ``scores`` of one query against all points, ``|t|^2 / 2 - <s, t>`` of their shadows (``shadows.py``), order the
   points as the shadows' distances do, and these exceed no true distance by more than both points' ``slack``.
2. The points of the lowest scores are a guess. Their true distances are made (``kernels.squared_distance``, relative
   error below 1e-12), and the k-th smallest of them is at least the distance of the k-th neighbour: a limit.
3. Only points whose shadow is within the limit (and ties, and the slack) can be among the k nearest. Of these, more
   coordinates are looked at, and what is left is measured, near shadows first, which lowers the limit that the
   next ones must be within (``kernels.settle``).
4. Where shadows rule out too little (noise), and in small sets, every distance of a row is made from exact integer
   products of bytes (``dense.py``, ``products.py``).

Ties
----
Distances that are equal within ``TIE`` (1e-9 relative, for bytes also 1e-7 grey levels squared) are ordered by row.
Distances between originals are integers, so that there "equal" means equal. A face that is in the set
twice is at distance 0 from both, so the first of a face's neighbours is the one with the smaller row,
which need not be the face itself.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.errors import UsageError
from ensemble_fer.neighbors.dense import Dense
from ensemble_fer.neighbors.on_device import OnDevice, torch_device
from ensemble_fer.neighbors.points import Mixtures
from ensemble_fer.neighbors.products import one_blas_thread
from ensemble_fer.neighbors.pruned import SHARE, TILE, Pruned
from ensemble_fer.neighbors.shadows import LEVELS, Axes, Coordinates, Shadows, side_of
from ensemble_fer.runtime import cpu_count, progress

TIE = (1e-9, 1e-7)
SMALL = 1024  # points among which shadows save nothing
CAP = 1_000_000_000  # bytes
LEAST = 50_000_000  # bytes beside the table
TINY = 1e-24  # squared length of all points beside the table, likewise
FAR = 1e12  # squared length of queries, beside points of length 1, with which float32 has nothing to say
FEW_PAIRS, FEW_COORDINATES = 100_000_000, 128  # of which more coordinates would cost more than they save
_AXES_ROWS, _REST = 1024, 100_000_000
_START = 0.2  # seconds in which the compiled loops are loaded
_finding = threading.Lock()  # of no search, since these travel between processes


def _renew() -> None:
    """A lock that another thread held when this process was forked would never be free."""
    global _finding
    _finding = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


@dataclass(frozen=True)
class Neighbors:
    """The nearest points of each query.

    Parameters
    ----------
    rows : int64 [m, k]
        Positions of the neighbours, nearest first, ties by position.
    squared : float64 [m, k]
        Squared Euclidean distances in grey levels squared.
    """

    rows: NDArray[np.int64]
    squared: NDArray[np.float64]


def nearest(
    points: Mixtures,
    k: int | NDArray[np.int64],
    *,
    queries: Mixtures | None = None,
    memory: int = CAP,
    quiet: bool = True,
) -> Neighbors:
    """The ``k`` nearest points of every point (itself included), or of every query; see ``Search.nearest``."""
    return Search(points.pixels, memory=memory, quiet=quiet).nearest(points, k, queries=queries)


class Search:
    """Exact nearest neighbours among rows of one table and mixtures of them.

    Parameters
    ----------
    pixels : uint8 or float64 [n, p]
        The table; its axes are found on first need and kept.
    memory : int
        Bytes that a search may take, the table included; what the process has taken before is not in it.
    device : str
        ``cpu``, ``cuda``, ``cuda:N``, or ``auto``: a GPU where there is one.
    quiet : bool
        Draw no progress bar.
    """

    def __init__(self, pixels: NDArray, *, memory: int = CAP, device: str = "cpu", quiet: bool = True) -> None:
        self.pixels, self.quiet = pixels, quiet
        # Loops walk along rows; a table that lies otherwise is copied, once.
        self.table = np.ascontiguousarray(pixels)
        self.memory = memory - pixels.nbytes - (self.table.nbytes if self.table is not pixels else 0)
        if self.memory < LEAST:
            least = (memory - self.memory + LEAST) / 1e6
            raise UsageError(
                f"{memory / 1e6:,.0f} MB are not enough to search {len(pixels):,} rows of {pixels.shape[1]} pixels: "
                f"give at least {least:,.0f} MB (--memory {least:.0f}MB)."
            )
        self.device = torch_device(device)
        # One pair in one place, so that two threads never mix the axes of one with the coordinates of the other.
        self._found: tuple[Axes, Coordinates] | None = None

    def nearest(self, points: Mixtures, k: int | NDArray[np.int64], *, queries: Mixtures | None = None) -> Neighbors:
        """The ``k`` nearest points of every point (itself included), or of every query.

        Parameters
        ----------
        points : Mixtures
            Among whom to search; of the table of this search.
        k : int or int64 [m]
            At least 1 and at most the number of points; of every query its own. Where that is fewer than the most of
            them, -1 and infinity follow.
        queries : Mixtures, optional
            For whom to search, of any table; the points themselves by default.

        Raises
        ------
        UsageError
            ``k`` or a weight is out of range, or queries and points differ in their number of pixels.
        """
        asked = points if queries is None else queries
        numbers = np.asarray(k, np.int64)
        if numbers.shape not in ((), (len(asked),)):
            raise UsageError(f"{numbers.size} numbers of neighbours were given for {len(asked)} queries.")
        k, least = int(numbers.max(initial=1)), int(numbers.min(initial=len(points)))
        for number in (k, least):
            if not 1 <= number <= len(points):
                raise UsageError(
                    f"{number} neighbours were asked for among {len(points)} points. Expected 1 to {len(points)}."
                )
        wanted = np.ascontiguousarray(np.broadcast_to(numbers, len(asked)))
        if points.pixels is not self.pixels:
            raise UsageError("these points are of another table than this search. Open a Search on their table.")
        if asked.pixels.shape[1] != points.pixels.shape[1]:
            raise UsageError(f"queries have {asked.pixels.shape[1]} pixels, points have {points.pixels.shape[1]}.")
        for w in (points.w, asked.w):
            if not ((w >= 0) & (w <= 1)).all():
                raise UsageError("mixtures have weights that are not between 0 and 1.")
        if self.table is not self.pixels:
            same_table = asked.pixels is self.pixels
            points = replace(points, pixels=self.table)
            asked = replace(asked, pixels=self.table) if same_table else asked
        if not len(asked):
            return Neighbors(np.empty((0, k), np.int64), np.empty((0, k)))
        with one_blas_thread(), ThreadPoolExecutor(cpu_count() if self.device is None else 1) as pool:
            work = self._work(points, asked, wanted, pool, itself=queries is None)
            out = Neighbors(np.empty((len(asked), k), np.int64), np.empty((len(asked), k)))
            order = work.order if isinstance(work, Pruned) else np.arange(len(asked))
            starts = range(0, len(asked), work.tall)

            def fill(start: int) -> int:
                ids = order[start : start + work.tall]
                found = work.candidates(ids)
                out.rows[ids], out.squared[ids] = _ordered(len(ids), k, *found, points.pixels.dtype)
                return len(ids)

            with progress(len(asked), "neighbours", quiet=self.quiet) as advance:
                for done in pool.map(fill, starts):
                    advance(done)
        beyond = np.arange(k) >= wanted[:, None]
        out.rows[beyond], out.squared[beyond] = -1, np.inf
        return out

    def _work(
        self,
        points: Mixtures,
        asked: Mixtures,
        wanted: NDArray[np.int64],
        pool: ThreadPoolExecutor,
        *,
        itself: bool,
    ) -> Dense | Pruned | OnDevice:
        k = int(wanted.max())
        dense = Dense(points, asked, k, self.memory // (4 * cpu_count()))
        small = SMALL if self.table.dtype == np.uint8 else SMALL // 4
        if len(points) <= max(small, 4 * k * SHARE):
            return dense
        held = [points] if itself else [points, asked]
        # The first coordinates of the points are held twice, as columns of the product.
        rows = len(self.table) + sum(len(some) for some in held if not some.is_table)
        most = coordinates_for(rows, self.memory - 4 * (LEVELS[0] + 2) * len(points))
        level = min(most, FEW_COORDINATES) if len(points) * len(asked) <= FEW_PAIRS else most
        with _finding:
            found = self._found
            if found is None or found[1].width < min(level, len(found[0].directions)):
                found = self._found = None  # not held beside the new ones
            axes = found[0] if found else Axes.principal(self.table, level, pool)
            parents = np.concatenate([row for some in held if some.pixels is self.table for row in (some.a, some.b)])
            own = axes.coordinates(self.table, parents, pool, found[1] if found else None)
            self._found = axes, own
        there = here = Shadows.of(points, own, axes.scale, pool, most)
        if not itself:
            own = own if asked.pixels is self.table else axes.coordinates(asked.pixels, np.r_[asked.a, asked.b], pool)
            here = Shadows.of(asked, own, axes.scale, pool, most)
        if not all(TINY < shadows.largest < FAR for shadows in (there, here)):
            return dense
        if self.device is not None:
            return OnDevice(self.device, points, asked, k, there, here, dense, itself=itself, unit=axes.scale**2)
        return Pruned(points, asked, wanted, there, here, dense, self.memory // cpu_count(), unit=axes.scale**2)


def _ordered(
    n: int, k: int, row: NDArray, column: NDArray, squared: NDArray, dtype: np.dtype
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The k nearest of each of n rows among candidates, nearest first, ties by column.

    Of a row with fewer candidates, what follows them means nothing.
    """
    order = np.lexsort((column, squared, row))
    row, column, squared = row[order], column[order], squared[order]
    # Distances that count as equal to the first of a run belong to it; within a run the smaller row comes first.
    new = np.ones(len(row), bool)
    new[1:] = (row[1:] != row[:-1]) | ~same(squared[:-1], squared[1:], dtype)
    starts = np.flatnonzero(new)
    ends = np.append(starts[1:], len(row)) - 1
    for run in np.flatnonzero((ends > starts + 1) & ~same(squared[starts], squared[ends], dtype)):
        # Steps that are each too small to see may add up: begin a new run where they do.
        start, end = starts[run], ends[run]
        first = start
        for place in range(start + 1, end + 1):
            if not same(squared[first], squared[place], dtype):
                new[place], first = True, place
    order = np.lexsort((column, np.cumsum(new)))
    column, squared = column[order], squared[order]
    taken = np.searchsorted(row, np.arange(n))[:, None] + np.arange(k)
    taken = np.minimum(taken, len(row) - 1)
    return column[taken], squared[taken]


def same(smaller: NDArray, larger: NDArray, dtype: np.dtype) -> NDArray[np.bool_]:
    """Whether ascending neighbouring distances count as equal."""
    return larger - smaller <= TIE[0] * larger + (TIE[1] if dtype == np.uint8 else 0.0)


def cost(searches: list[tuple[int, int]], table: int, pixels: int, memory: int = CAP) -> tuple[float, float, int]:
    """What searches for so many queries among so many points each will take.

    Parameters
    ----------
    searches : list of (int, int)
        Queries and points of each, from one table; where both are as many, the points are the queries.
    table : int
        Its rows.

    Returns
    -------
    flops : float
        Of products in float32.
    seconds : float
        Of all else, on one processor as it was measured (docs/benchmarks.md).
    size : int
        Bytes beside the table, as measured too.
    """
    pairs = sum(float(asked) * among for asked, among in searches)
    largest = max(among for _, among in searches)
    if largest <= SMALL:
        return 2 * pairs * pixels, 3e-8 * pairs, 12 * largest**2 * 4
    # Points and queries each have shadows, unless they are the same.
    shadowed = max(among + (asked if asked != among else 0) for asked, among in searches)
    level = coordinates_for(table + shadowed, memory - table * pixels)
    terms = pixels // 4 if side_of(pixels) else pixels  # as it is for faces; noise takes all
    axes = (10 * _AXES_ROWS + 2 * table) * terms * level
    size = 4 * level * (table + shadowed) + TILE * cpu_count() + _REST
    passes = _START + 6e-10 * pairs + 1e-4 * sum(asked for asked, _ in searches)
    return axes + 2 * pairs * (LEVELS[0] + 2), passes, size


def coordinates_for(rows: int, memory: int) -> int:
    """How many coordinates of so many rows fit in half of the memory; half of the first level at least."""
    fit = [level for level in LEVELS if rows * level * 4 <= memory // 2]
    return max(fit, default=LEVELS[0] // 2)


def count_ties(squared: NDArray[np.float64]) -> int:
    """Rows in which two of the distances are equal within ``TIE``.

    Parameters
    ----------
    squared : float64 [m, k]
        Ascending squared distances of each row, as in ``Neighbors``. Take one neighbour more than is used:
        a tie between the last used and the first unused one changes the list too.
    """
    known = np.where(np.isfinite(squared), squared, np.nan)  # behind the last of a short list nothing is tied
    return int(same(known[:, :-1], known[:, 1:], np.dtype(np.uint8)).any(axis=1).sum())
