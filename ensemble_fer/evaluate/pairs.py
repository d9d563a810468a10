"""Two networks on the same faces: how much better is one, and can chance do it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.errors import SplitMisuse
from ensemble_fer.evaluate.intervals import N_BOOT, paired_difference
from ensemble_fer.evaluate.metrics import summary
from ensemble_fer.types import Predictions

METRICS = ("accuracy", "macro_f1", "nll")


def compare_predictions(a: Predictions, b: Predictions, *, n_boot: int = N_BOOT, seed: int = 0) -> dict:
    """Scores of both, their differences with intervals, and McNemar's test.

    Parameters
    ----------
    a, b : Predictions
        Of the same rows in the same order.
    n_boot, seed : int
        As ``paired_difference`` has them.

    Returns
    -------
    dict
        ``rows``; ``scores``, for each of accuracy, macro_f1 and nll ``a``, ``b``, ``difference`` (a minus b) and its
        ``ci95``, by bootstrap over twin groups; ``twin_free``, the same with ``rows``, of the rows without a twin in
        training (None if there are none); ``mcnemar``, of these two networks as they are: ``a_only`` and ``b_only``,
        the rows on which one alone is right, and ``p``, the two-sided exact probability of a split as uneven if both
        were as good.

    Raises
    ------
    SplitMisuse
        They are not of the same rows.
    """
    if a.role != b.role:
        raise SplitMisuse(f"{a.source} was scored on the {a.role} part and {b.source} on the {b.role} part.")
    scores = _scores(a, b, n_boot, seed)
    known = a.twin_in_train | b.twin_in_train
    free_a, free_b = _rows(a, ~known), _rows(b, ~known)
    right = [p.logits.argmax(axis=1) == p.labels for p in (a, b)]
    return {
        "rows": len(a),
        "scores": scores,
        "twin_free": {"rows": len(free_a), **_scores(free_a, free_b, n_boot, seed)} if len(free_a) else None,
        "mcnemar": mcnemar(int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())),
    }


def mcnemar(a_only: int, b_only: int) -> dict:
    """The exact test of McNemar (1947): of the rows on which one alone is right, half should be each one's.

    Rows are taken for independent, which twins are not: beside it stands the bootstrap, which draws whole groups.
    """
    from scipy.stats import binomtest

    total = a_only + b_only
    p = float(binomtest(a_only, total).pvalue) if total else 1.0
    return {"a_only": a_only, "b_only": b_only, "p": p}


def difference_p(difference: float, draws: NDArray) -> float:
    """Two-sided probability that chance alone makes a difference as large, of its bootstrap draws [n].

    Of the normal distribution with their spread (Efron and Tibshirani 1993, section 12.4): counting the draws beyond 0
    instead, a p near 0.002, which among twenty tests decides, rests on two draws of two thousand.
    """
    from scipy.stats import norm

    spread = float(np.nanstd(draws, ddof=1))
    if not spread > 0:
        return float(difference == 0)
    return float(2 * norm.sf(abs(difference) / spread))


def holm(p: Sequence[float]) -> list[float]:
    """Probabilities of several tests, adjusted so that one false finding among all is as rare as said (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    stepped = np.asarray(p)[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(stepped))
    return adjusted.tolist()


def _scores(a: Predictions, b: Predictions, n_boot: int, seed: int) -> dict[str, dict]:
    each = [summary(p.labels, p.logits) for p in (a, b)]
    found = {}
    for metric in METRICS:
        difference, low, high = paired_difference(a, b, metric, n_boot=n_boot, seed=seed)
        found[metric] = {
            "a": each[0][metric],
            "b": each[1][metric],
            "difference": None if np.isnan(difference) else difference,
            "ci95": None if np.isnan(low) else [low, high],
        }
    return found


def _rows(p: Predictions, kept: np.ndarray) -> Predictions:
    own = ("logits", "labels", "rows", "groups", "twin_in_train")
    return replace(p, **{key: getattr(p, key)[kept] for key in own})
