"""95 % percentile intervals by bootstrap over twin groups, and paired differences of two predictions.

Rows that show the same photograph are not independent, so whole groups are drawn with replacement.
All metrics are functions of sums over rows, so 2,000 draws are one matrix product.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.errors import SplitMisuse, unknown_name
from ensemble_fer.evaluate.counts import METRICS, row_statistics
from ensemble_fer.types import Predictions

N_BOOT = 2000
RELIABLE_ROWS = 700
"""Below so many rows a part has about ten Disgust faces or fewer, and macro-F1 rests on them (docs/metrics.md)."""
_AT_ONCE = 500_000  # draws of groups held at a time


def group_sums(statistics: NDArray, groups: NDArray) -> NDArray[np.float64]:
    """Sums over the rows of each group [g, width], groups ascending."""
    order = np.argsort(groups, kind="stable")
    starts = np.unique(groups[order], return_index=True)[1]
    return np.add.reduceat(statistics[order], starts, axis=0)


def draw_weights(n_groups: int, n_boot: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each group is in each draw, [draws, n_groups] a piece; every draw has ``n_groups`` of them."""
    rng = np.random.default_rng(seed)
    done = 0
    while done < n_boot:
        now = min(n_boot - done, max(1, _AT_ONCE // n_groups))
        drawn = rng.integers(n_groups, size=(now, n_groups)) + np.arange(now)[:, None] * n_groups
        counts = np.bincount(drawn.ravel(), minlength=now * n_groups)
        yield counts.reshape(now, n_groups).astype(np.float64)
        done += now


def bootstrap(statistics: NDArray, groups: NDArray, *, n_boot: int = N_BOOT, seed: int = 0) -> NDArray[np.float64]:
    """Sums over the rows of each bootstrap draw, [n_boot, width]."""
    sums = group_sums(statistics, groups)
    return np.concatenate([weights @ sums for weights in draw_weights(len(sums), n_boot, seed)])


def percentile_interval(values: NDArray) -> list[float] | None:
    """Central 95 % of the draws in which the metric is defined; None if it is defined in none."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return None
    low, high = np.quantile(defined, [0.025, 0.975])
    return [float(low), float(high)]


def intervals(statistics: NDArray, groups: NDArray, *, n_boot: int = N_BOOT, seed: int = 0) -> dict[str, list[float]]:
    """Interval of each metric; one that is not defined on these rows is left out."""
    sums = bootstrap(statistics, groups, n_boot=n_boot, seed=seed)
    found = {name: percentile_interval(formula(sums)) for name, formula in METRICS.items()}
    return {name: interval for name, interval in found.items() if interval is not None}


def paired_difference(
    a: Predictions, b: Predictions, metric: str = "macro_f1", *, n_boot: int = N_BOOT, seed: int = 0
) -> tuple[float, float, float]:
    """How much better ``a`` is than ``b`` on the same rows.

    Both are scored on the same draws of twin groups, so what makes rows hard for both cancels out: much
    narrower than the difference of two separate intervals. An interval that holds 0 shows no difference.

    Parameters
    ----------
    a, b : Predictions
        Of the same rows in the same order.
    metric : str
        A key of ``METRICS``.

    Returns
    -------
    difference, low, high : float
        ``metric(a) - metric(b)`` and its 95 % percentile interval.

    Raises
    ------
    SplitMisuse
        The rows, labels or groups are not the same.
    UsageError
        Unknown metric.
    """
    if metric not in METRICS:
        raise unknown_name("metric", metric, METRICS)
    for what in ("rows", "labels", "groups"):
        if not np.array_equal(getattr(a, what), getattr(b, what)):
            raise SplitMisuse(
                f"a paired difference needs the same {what} on both sides, but {a.source} ({len(a)} rows) and "
                f"{b.source} ({len(b)} rows) differ there. Evaluate both on the same part of the same split."
            )
    formula = METRICS[metric]
    both = np.concatenate([row_statistics(a.labels, a.logits), row_statistics(b.labels, b.logits)], axis=1)
    width = both.shape[1] // 2
    sums = bootstrap(both, a.groups, n_boot=n_boot, seed=seed)
    total = both.sum(axis=0)
    interval = percentile_interval(formula(sums[:, :width]) - formula(sums[:, width:])) or [np.nan, np.nan]
    return float(formula(total[:width]) - formula(total[width:])), interval[0], interval[1]
