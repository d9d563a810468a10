"""Scores of predictions. What each number means is said in docs/metrics.md."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.errors import UsageError
from ensemble_fer.evaluate.calibration import ece, ece_null
from ensemble_fer.evaluate.counts import (
    METRICS,
    accuracy,
    f1_of,
    macro_f1,
    matrix_of,
    precision_of,
    recall_of,
    row_statistics,
)
from ensemble_fer.evaluate.intervals import N_BOOT, RELIABLE_ROWS, intervals
from ensemble_fer.types import CLASSES, Predictions, Protocol

__all__ = ["Report", "accuracy", "macro_f1", "score", "summary"]

_TWIN_FREE = ("accuracy", "macro_f1")


@dataclass(frozen=True)
class Report:
    """Metrics with intervals and the protocol stamp. Scores are 0 to 1; nll in nats, brier 0 to 2.

    Parameters
    ----------
    confusion : 7 lists of 7 counts
        Rows are the truth.
    ci95 : dict
        ``[low, high]`` of each metric and of ``<class>_f1``.
    ci_reliable : bool
        False below 700 rows, where a rare class has too few faces for an interval.
    twin_free : dict
        accuracy, macro_f1, rows, ci95, ci_reliable of the rows that have no twin among the training rows.
    ece_null : float
        ECE that a perfectly calibrated model with these confidences would show on so many rows.
    by_agreement : list of dict or None
        As ``evaluate.agreement`` has it, where annotators' votes were joined to the set.
    """

    source: str
    rows: int
    groups: int
    accuracy: float
    top2: float
    top3: float
    macro_f1: float
    balanced_accuracy: float
    nll: float
    brier: float
    ece: float
    ece_null: float
    per_class: dict[str, dict]
    confusion: list[list[int]]
    ci95: dict[str, list[float]]
    ci_reliable: bool
    twin_free: dict
    protocol: Protocol
    by_agreement: list[dict] | None = None

    def to_dict(self) -> dict:
        """Plain JSON values; what ``evaluate --json`` prints and what is kept in the store."""
        return {**self.__dict__, "protocol": self.protocol.to_dict()}


def score(p: Predictions, *, n_boot: int = N_BOOT, seed: int = 0) -> Report:
    """All metrics of these predictions, with 95 % intervals by bootstrap over twin groups.

    Parameters
    ----------
    n_boot : int
        Draws; 2,000 take about a quarter of a second on 3,589 rows.
    seed : int
        Of the bootstrap and of ``ece_null``: the same predictions always give the same report.

    Raises
    ------
    UsageError
        There are no rows.
    """
    if not len(p):
        raise UsageError(f"predictions of {p.source} have no rows; there is nothing to score.")
    statistics = row_statistics(p.labels, p.logits)
    sums = statistics.sum(axis=0)
    matrix = matrix_of(sums)
    probabilities = p.probabilities()
    said = p.logits.argmax(axis=1)
    sure = probabilities[np.arange(len(p)), said]
    free = ~p.twin_in_train
    values = {name: float(METRICS[name](sums)) for name in _SCORES}
    return Report(
        source=p.source,
        rows=len(p),
        groups=len(np.unique(p.groups)),
        **values,
        ece=ece(sure, said == p.labels),
        ece_null=ece_null(sure, seed=seed),
        per_class=_per_class(matrix),
        confusion=matrix.astype(int).tolist(),
        ci95=intervals(statistics, p.groups, n_boot=n_boot, seed=seed),
        ci_reliable=len(p) >= RELIABLE_ROWS,
        twin_free=_twin_free(statistics[free], p.groups[free], n_boot, seed),
        protocol=p.protocol,
        by_agreement=None,
    )


def summary(labels: NDArray, logits: NDArray) -> dict:
    """The point scores without intervals, in about a millisecond: what a run keeps of its select part.

    Returns
    -------
    dict
        rows, accuracy, top2, top3, macro_f1, balanced_accuracy, nll, brier, disgust_f1 (None if there are none).
    """
    sums = row_statistics(labels, logits).sum(axis=0)
    values = {name: float(METRICS[name](sums)) for name in (*_SCORES, "disgust_f1")}
    return {"rows": len(labels), **{name: None if np.isnan(v) else v for name, v in values.items()}}


_SCORES = ("accuracy", "top2", "top3", "macro_f1", "balanced_accuracy", "nll", "brier")


def _per_class(matrix: NDArray) -> dict[str, dict]:
    columns = zip(precision_of(matrix), recall_of(matrix), f1_of(matrix), matrix.sum(axis=1), strict=True)
    return {
        name: {"precision": float(precision), "recall": float(recall), "f1": float(f1), "support": int(support)}
        for name, (precision, recall, f1, support) in zip(CLASSES, columns, strict=True)
    }


def _twin_free(statistics: NDArray, groups: NDArray, n_boot: int, seed: int) -> dict:
    """Scores of the rows without a twin in training; None where there are no such rows."""
    rows = len(statistics)
    if not rows:
        return {**dict.fromkeys(_TWIN_FREE), "rows": 0, "ci95": {}, "ci_reliable": False}
    sums = statistics.sum(axis=0)
    ci95 = intervals(statistics, groups, n_boot=n_boot, seed=seed)
    return {
        **{name: float(METRICS[name](sums)) for name in _TWIN_FREE},
        "rows": rows,
        "ci95": {name: ci95[name] for name in _TWIN_FREE},
        "ci_reliable": rows >= RELIABLE_ROWS,
    }
