"""How often a 95 % percentile interval holds the truth, by number of rows: the table in docs/metrics.md.

python -m tests.evaluate.coverage
"""

from __future__ import annotations

import numpy as np

from ensemble_fer.evaluate.counts import CELLS, METRICS, WIDTH
from ensemble_fer.evaluate.intervals import percentile_interval
from tests.evaluate.examples import SHARES

RECALL = np.array([0.60, 0.60, 0.50, 0.85, 0.57, 0.78, 0.66])
"""Of a network of about 67 % accuracy; what is missed goes to the other six classes alike."""


def population() -> np.ndarray:
    """Probability of each cell of the confusion matrix, [7, 7], in PrivateTest's class shares."""
    cells = SHARES[:, None] * (np.eye(7) * RECALL[:, None] + (1 - np.eye(7)) * (1 - RECALL[:, None]) / 6)
    return cells / cells.sum()


def as_sums(cells: np.ndarray) -> np.ndarray:
    """Counts or probabilities of cells [..., 49] as sums that the metrics take."""
    sums = np.zeros((*cells.shape[:-1], WIDTH))
    sums[..., :CELLS] = cells
    return sums


def coverage(rows: int, parts: int = 1000, draws: int = 2000, seed: int = 0) -> dict[str, float]:
    """Share of test parts of so many rows (each its own group) whose interval holds the population's score.

    Drawing rows with replacement is drawing cells of the confusion matrix from a multinomial.
    """
    rng = np.random.default_rng(seed)
    cells = population().ravel()
    names = ("accuracy", "macro_f1", "disgust_f1")
    held = dict.fromkeys(names, 0)
    for _ in range(parts):
        seen = rng.multinomial(rows, cells)
        sums = as_sums(rng.multinomial(rows, seen / rows, size=draws))
        for name in names:
            interval = percentile_interval(METRICS[name](sums))
            held[name] += interval is not None and interval[0] <= METRICS[name](as_sums(cells)) <= interval[1]
    return {name: times / parts for name, times in held.items()}


if __name__ == "__main__":
    for size in (100, 300, 700, 3589):
        found = coverage(size)
        print(f"{size:5} rows:", "  ".join(f"{name} {100 * share:.1f} %" for name, share in found.items()), flush=True)
