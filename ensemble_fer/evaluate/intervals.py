"""95 % percentile intervals by bootstrap over twin groups, and paired differences of two predictions.

Rows that show the same photograph are not independent, so whole groups are drawn with replacement.
All metrics are functions of sums over rows, so 2,000 draws are one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.errors import SplitMisuse, UsageError, unknown_name
from ensemble_fer.evaluate.counts import CELLS, METRICS, WIDTH, row_statistics
from ensemble_fer.types import N_CLASSES, Predictions

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
    for counts in draw_pieces(n_groups, n_boot, seed):
        yield counts.astype(np.float64)


# Scores of many networks are asked of the same rows, and to draw takes longer than to score. Of all 35,887 faces the
# draws take 70 MB; twelve are both parts, with and without twins, or those of five folds.
@lru_cache(maxsize=12)
def draw_pieces(n_groups: int, n_boot: int, seed: int) -> list[NDArray[np.unsignedinteger]]:
    """What ``draw_weights`` gives, as small whole numbers; kept for the next that asks."""
    rng = np.random.default_rng(seed)
    found, done = [], 0
    while done < n_boot:
        now = min(n_boot - done, max(1, _AT_ONCE // n_groups))
        drawn = rng.integers(n_groups, size=(now, n_groups)) + np.arange(now)[:, None] * n_groups
        counts = np.bincount(drawn.ravel(), minlength=now * n_groups).reshape(now, n_groups)
        found.append(counts.astype(np.min_scalar_type(counts.max())))
        done += now
    return found


def bootstrap(statistics: NDArray, groups: NDArray, *, n_boot: int = N_BOOT, seed: int = 0) -> NDArray[np.float64]:
    """Sums over the rows of each bootstrap draw, [n_boot, width]."""
    sums = group_sums(statistics, groups)
    return np.concatenate([weights @ sums for weights in draw_weights(len(sums), n_boot, seed)])


def count_draws(said: Predictions, *, n_boot: int = N_BOOT, seed: int = 0) -> NDArray[np.float64]:
    """What ``bootstrap`` gives of the confusion matrix, [n_boot, WIDTH]; the other columns are 0.

    Counts are whole numbers, which single precision adds up exactly, in a fraction of the time.
    """
    cells = said.labels.astype(np.int64) * N_CLASSES + said.logits.argmax(axis=1)
    sums = group_sums(np.eye(CELLS, dtype=np.float32)[cells], said.groups)
    found = np.zeros((n_boot, WIDTH))
    found[:, :CELLS] = np.concatenate([each.astype(np.float32) @ sums for each in draw_pieces(len(sums), n_boot, seed)])
    return found


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


Seeds = Predictions | Sequence[Predictions]
"""One network, or one recipe trained several times."""


def paired_difference(
    a: Seeds, b: Seeds, metric: str = "macro_f1", *, n_boot: int = N_BOOT, seed: int = 0
) -> tuple[float, float, float]:
    """How much better ``a`` is than ``b`` on the same rows.

    Both are scored on the same draws of twin groups, so what makes rows hard for both cancels out: much
    narrower than the difference of two separate intervals. An interval that holds 0 shows no difference.

    Of two networks, that says something on these two networks. Of two recipes, each trained with the same seeds, a draw
    is one of groups and one of seeds, both with replacement and both for the two sides at once; a recipe's score is
    the mean over the drawn seeds. Then the interval also has what the seeds add. Three seeds can be drawn in ten
    ways only, so with few the interval is rather too narrow than too wide.

    Parameters
    ----------
    a, b : Predictions or sequence of Predictions
        Of the same rows in the same order; as many of ``a`` as of ``b``, in the same order of seeds.
    metric : str
        A key of ``METRICS``.

    Returns
    -------
    difference, low, high : float
        ``metric(a) - metric(b)``, of means over the seeds, and its 95 % percentile interval.

    Raises
    ------
    SplitMisuse
        The rows, labels or groups are not the same, or the seeds are not.
    UsageError
        Unknown metric, or no predictions.
    """
    difference, drawn = paired_draws(a, b, (metric,), n_boot=n_boot, seed=seed)[metric]
    low, high = percentile_interval(drawn) or (np.nan, np.nan)
    return difference, low, high


def paired_draws(
    a: Seeds,
    b: Seeds,
    metrics: Sequence[str],
    *,
    n_boot: int = N_BOOT,
    seed: int = 0,
    draw: Callable[[Predictions], NDArray[np.float64]] | None = None,
) -> dict[str, tuple[float, NDArray[np.float64]]]:
    """The difference of each metric and its bootstrap draws [n_boot], all from the same draws of groups and seeds.

    Parameters and errors are those of ``paired_difference``; ``draw`` gives the ``bootstrap`` of predictions with this
    ``n_boot`` and ``seed``, for who compares many with one another.
    """
    for metric in metrics:
        if metric not in METRICS:
            raise unknown_name("metric", metric, METRICS)
    sides = [[side] if isinstance(side, Predictions) else list(side) for side in (a, b)]
    _check_pairs(*sides)
    if draw is None:
        draw = partial(_draw, n_boot=n_boot, seed=seed)
    pairs = list(zip(*sides, strict=True))
    # Of each seed, what its two networks give side by side: [..., seeds, sides, width].
    totals = np.array([[row_statistics(p.labels, p.logits).sum(axis=0) for p in pair] for pair in pairs])
    sums = np.stack([np.stack([draw(p) for p in pair], axis=1) for pair in pairs], axis=1)
    return {
        metric: (float(_difference(totals, metric).mean()), mean_of_drawn(_difference(sums, metric), seed=seed))
        for metric in metrics
    }


def mean_of_drawn(differences: NDArray[np.float64], *, seed: int = 0) -> NDArray[np.float64]:
    """Means over seeds that are drawn with replacement, of what each draw of groups gives, [n_boot, seeds]."""
    # From a generator of their own: the draws of groups are those of every other interval here.
    drawn = np.random.default_rng((seed, 1)).integers(differences.shape[1], size=differences.shape)
    return np.take_along_axis(differences, drawn, axis=1).mean(axis=1)


def _draw(said: Predictions, n_boot: int, seed: int) -> NDArray[np.float64]:
    return bootstrap(row_statistics(said.labels, said.logits), said.groups, n_boot=n_boot, seed=seed)


def _difference(sums: NDArray, metric: str) -> NDArray[np.float64]:
    """The metric of the first side minus that of the second; ``sums`` [..., 2, width]."""
    scores = METRICS[metric](sums)
    return scores[..., 0] - scores[..., 1]


def _check_pairs(a: list[Predictions], b: list[Predictions]) -> None:
    if not a or len(a) != len(b):
        raise UsageError(
            "a paired difference needs as many predictions on both sides, one of each seed; "
            f"found {len(a)} and {len(b)}."
        )
    first = a[0]
    for other in [*a[1:], *b]:
        for what in ("rows", "labels", "groups"):
            if not np.array_equal(getattr(first, what), getattr(other, what)):
                raise SplitMisuse(
                    f"a paired difference needs the same {what} on both sides, but {first.source} ({len(first)} rows) "
                    f"and {other.source} ({len(other)} rows) differ there. Evaluate both on the same part of the same "
                    "split."
                )
    seeds = [[p.protocol.seed for p in side] for side in (a, b)]
    if len(a) > 1 and seeds[0] != seeds[1]:
        raise SplitMisuse(
            f"recipes are compared seed by seed, but one side has the seeds {seeds[0]} and the other {seeds[1]}. "
            "Train both with the same seeds and give them in the same order."
        )
