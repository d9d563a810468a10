"""What a resampling will give and cost, without doing it."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

import numpy as np

from ensemble_fer.neighbors import CAP, cost
from ensemble_fer.resample.methods import METHODS, Method
from ensemble_fer.runtime import cpu_count, peak_mb


@dataclass(frozen=True)
class Plan:
    """Answer of a dry run.

    Parameters
    ----------
    method : str
    counts_before : list of 7
    counts_after : list of 7
        Exact, or as ``exact`` says.
    rows : int
        Sum of ``counts_after``.
    exact : bool
        False for methods that clean, where counts are at most these, since what is removed is known afterwards; and
        for adasyn, whose rounded shares add up to more or less. What borderline_smote leaves as it is because
        nothing lies near a border (with a warning) is not foreseen.
    memory_mb : float
        Peak of the whole process, MB.
    seconds : float
        On this machine, from a product timed just now.
    """

    method: str
    counts_before: list[int]
    counts_after: list[int]
    rows: int
    exact: bool
    memory_mb: float
    seconds: float

    def to_dict(self) -> dict:
        return asdict(self)


def plan(
    counts: list[int],
    method: str,
    *,
    pixels: int,
    target: int | None = None,
    classes: tuple[int, ...] | None = None,
    memory: int = CAP,
) -> Plan:
    """Counts, memory and time ahead.

    Parameters
    ----------
    counts : list of 7
        Training rows of each class.
    method : str
        A name of ``METHODS``; its settings are taken as checked.
    pixels : int
        Pixels a face.
    target, classes, memory
        As for ``resample``, classes as codes.
    """
    entry = METHODS[method]
    before = np.array(counts)
    after = before.copy()
    named = np.flatnonzero(before) if classes is None else np.array(classes)
    if entry.target:
        assert target is not None
        # What is above the target loses rows by hybrid only.
        after = before.copy() if entry.transforms else np.minimum(before, target)
        after[named] = np.where(before[named] > 0, np.maximum(after[named], target), 0)
    elif entry.over:
        after[named] = before.max()
    elif method == "rus":
        after[before > 0] = before[before > 0].min()
    short = named[before[named] < before.max()]
    seconds, needed = _cost(_searches(entry, before, after, short), int(before.sum()), pixels, memory)
    return Plan(
        method,
        before.tolist(),
        after.tolist(),
        int(after.sum()),
        not (entry.cleans or entry.shares),
        round(peak_mb() + needed, 1),
        round(seconds, 1),
    )


def _searches(entry: Method, before: np.ndarray, after: np.ndarray, short: np.ndarray) -> list[tuple[int, int]]:
    """Queries and points of each search: of a class among all rows, within it, and of all rows for a cleaning.

    Within a class only the rows from which mixtures start are asked for: about ``n (1 - (1 - 1/n)^m)`` of n if m draw.
    """
    sizes = [int(n) for n in before[short] if entry.mixes]
    among_all = [(n, int(before.sum())) for n in sizes if entry.surveys]
    made = int(after.sum())
    everything = [(made, made)] if entry.cleans else []
    drawn = [round(n * (1 - (1 - 1 / max(n, 1)) ** int(before.max() - n))) for n in sizes]
    return among_all + list(zip(drawn, sizes, strict=True)) + everything


def _cost(searches: list[tuple[int, int]], table: int, pixels: int, memory: int) -> tuple[float, float]:
    """Seconds and MB of these searches in a table of so many rows."""
    if not searches:
        return 0.0, 0.0
    flops, passes, size = cost(searches, table, pixels, memory)
    return flops / _speed() + passes / cpu_count(), (size + table * pixels) / 1e6


def _speed() -> float:
    """Floating-point operations a second of a float32 product here, all processors; takes some 50 ms."""
    x = np.ones((1024, 1024), np.float32)
    out = x @ x  # the first one starts threads
    times = []
    for _ in range(3):
        started = time.perf_counter()
        np.matmul(x, x, out=out)
        times.append(time.perf_counter() - started)
    return 2 * 1024**3 / min(times)
