"""What a resampling will give and cost, without doing it."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

import numpy as np

from ensemble_fer.neighbors import PANEL_ROWS, memory_mb
from ensemble_fer.resample.methods import METHODS
from ensemble_fer.runtime import cpu_count, peak_mb

# Nanoseconds for one score of a mixture or a face against another on one core (mixing, bounding): measured.
_SCORE_NS = 4.0


@dataclass(frozen=True)
class Plan:
    """Answer of a dry run.

    Parameters
    ----------
    method : str
    counts_before : list of 7
    counts_after : list of 7
        Exact; at most, where ``exact`` is false.
    rows : int
        Sum of ``counts_after``.
    exact : bool
        False for methods that clean: what they remove is known afterwards.
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
    counts: list[int], method: str, *, pixels: int, target: int | None = None, classes: tuple[int, ...] | None = None
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
    target, classes
        As for ``resample``, classes as codes.
    """
    entry = METHODS[method]
    before = np.array(counts)
    after = before.copy()
    named = np.flatnonzero(before) if classes is None else np.array(classes)
    if entry.target:
        assert target is not None
        after = np.minimum(before, target)
        after[named] = np.where(before[named] > 0, target, 0)
    elif entry.over:
        after[named] = before.max()
    elif method == "rus":
        after[before > 0] = before[before > 0].min()
    short = named[before[named] < before.max()]
    seconds, memory = _cost(before, after, short if entry.mixes else short[:0], pixels, entry.cleans)
    return Plan(
        method,
        before.tolist(),
        after.tolist(),
        int(after.sum()),
        not entry.cleans,
        round(peak_mb() + memory, 1),
        round(seconds, 1),
    )


def _cost(before: np.ndarray, after: np.ndarray, mixed: np.ndarray, pixels: int, cleans: bool) -> tuple[float, float]:
    """Seconds and MB: products of the parents, and scores of the points."""
    products = float((before[mixed].astype(float) ** 2).sum()) / 2
    scores = 2 * products
    memory = float(before.sum()) * pixels / 1e6 if len(mixed) or cleans else 0.0
    panels = [int(min(n, PANEL_ROWS)) for n in before[mixed]]
    if cleans:
        products += float(before.sum()) ** 2 / 2
        scores += float(after.sum()) ** 2
        panels = [int(min(n, PANEL_ROWS)) for n in before if n]
        # A candidate takes 24 bytes, about ten are kept of each row, and ordering holds them three times.
        memory += 24 * 10 * 3 * float(after.sum()) / 1e6
    if not panels:
        return 0.0, memory
    return products * 2 * pixels / _speed() + scores * _SCORE_NS / cpu_count() * 1e-9, memory + memory_mb(
        panels, pixels
    )


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
