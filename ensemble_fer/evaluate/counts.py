"""Every metric as a function of sums over rows, so that a score and its bootstrap draws share one formula.

A row contributes a vector of ``WIDTH`` numbers: one-hot cell of the confusion matrix (49), top-2 hit,
top-3 hit, negative log-likelihood, Brier score. ``METRICS`` turns sums of such vectors, of any leading
shape, into scores. All formulas follow scikit-learn with ``zero_division=0``; the macro mean runs over the
classes that have rows.

Ties: of equal logits the lower class code comes first, in the argmax and in top-2 and top-3.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.types import CLASSES, N_CLASSES

CELLS = N_CLASSES * N_CLASSES
WIDTH = CELLS + 4
TOP2, TOP3, NLL, BRIER = range(CELLS, WIDTH)

Floats = NDArray[np.float64]


def confusion(labels: NDArray, logits: NDArray) -> NDArray[np.int64]:
    """Confusion matrix [7, 7]; rows are the truth, columns what was said."""
    cells = labels.astype(np.int64) * N_CLASSES + logits.argmax(axis=1)
    return np.bincount(cells, minlength=CELLS).reshape(N_CLASSES, N_CLASSES)


def accuracy(labels: NDArray, logits: NDArray) -> float:
    """Share of rows whose largest logit is the truth, 0 to 1; NaN without rows."""
    return float((logits.argmax(axis=1) == labels).mean()) if len(labels) else float("nan")


def macro_f1(labels: NDArray, logits: NDArray) -> float:
    """Mean F1 over the classes that have rows in ``labels``, 0 to 1; NaN without rows."""
    return float(macro_f1_of(confusion(labels, logits))) if len(labels) else float("nan")


def true_rank(labels: NDArray, logits: NDArray) -> NDArray[np.int64]:
    """How many classes come before the true one, 0 (it is the first) to 6."""
    truth = labels.astype(np.int64)[:, None]
    own = np.take_along_axis(logits, truth, axis=1)
    earlier = np.arange(N_CLASSES) < truth
    return ((logits > own) | ((logits == own) & earlier)).sum(axis=1)


def log_probabilities(logits: NDArray) -> Floats:
    """Logarithm of the softmax, float64 [m, 7]."""
    z = logits.astype(np.float64)
    z -= z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def row_statistics(labels: NDArray, logits: NDArray) -> Floats:
    """What each row contributes, float64 [m, WIDTH]."""
    m, rows, truth = len(labels), np.arange(len(labels)), labels.astype(np.int64)
    out = np.zeros((m, WIDTH))
    out[rows, truth * N_CLASSES + logits.argmax(axis=1)] = 1
    rank = true_rank(labels, logits)
    out[:, TOP2], out[:, TOP3] = rank < 2, rank < 3
    log_p = log_probabilities(logits)
    out[:, NLL] = -log_p[rows, truth]
    out[:, BRIER] = ((np.exp(log_p) - np.eye(N_CLASSES)[truth]) ** 2).sum(axis=1)
    return out


# -- formulas; ``c`` is a confusion matrix [..., 7, 7] of counts -----------------------------------------


def ratio(over: NDArray, under: NDArray, empty: float = 0.0) -> Floats:
    """``over / under``, and ``empty`` where nothing is counted."""
    over, under = np.broadcast_arrays(np.asarray(over, np.float64), np.asarray(under, np.float64))
    return np.divide(over, under, out=np.full(over.shape, empty), where=under > 0)


def _hits(c: NDArray) -> NDArray:
    return np.diagonal(c, axis1=-2, axis2=-1)


def precision_of(c: NDArray) -> Floats:
    """Precision of each class [..., 7]."""
    return ratio(_hits(c), c.sum(axis=-2))


def recall_of(c: NDArray) -> Floats:
    """Recall of each class [..., 7]."""
    return ratio(_hits(c), c.sum(axis=-1))


def f1_of(c: NDArray) -> Floats:
    """F1 of each class [..., 7]; 0 for a class that is neither there nor said."""
    return ratio(2 * _hits(c), c.sum(axis=-1) + c.sum(axis=-2))


def _mean_over_present(values: Floats, c: NDArray) -> Floats:
    present = c.sum(axis=-1) > 0
    return ratio((values * present).sum(axis=-1), present.sum(axis=-1), np.nan)


def accuracy_of(c: NDArray) -> Floats:
    return ratio(_hits(c).sum(axis=-1), c.sum(axis=(-2, -1)), np.nan)


def macro_f1_of(c: NDArray) -> Floats:
    return _mean_over_present(f1_of(c), c)


def balanced_accuracy_of(c: NDArray) -> Floats:
    return _mean_over_present(recall_of(c), c)


def matrix_of(sums: Floats) -> Floats:
    """The confusion matrix [..., 7, 7] inside sums [..., WIDTH]."""
    return sums[..., :CELLS].reshape(*sums.shape[:-1], N_CLASSES, N_CLASSES)


def _of_matrix(formula: Callable[[NDArray], Floats]) -> Callable[[Floats], Floats]:
    return lambda sums: formula(matrix_of(sums))


def _mean_of(column: int) -> Callable[[Floats], Floats]:
    return lambda sums: ratio(sums[..., column], sums[..., :CELLS].sum(axis=-1), np.nan)


def _f1_of_class(code: int) -> Callable[[Floats], Floats]:
    def formula(sums: Floats) -> Floats:
        c = matrix_of(sums)
        return np.where(c[..., code, :].sum(axis=-1) > 0, f1_of(c)[..., code], np.nan)

    return formula


METRICS: dict[str, Callable[[Floats], Floats]] = {
    "accuracy": _of_matrix(accuracy_of),
    "top2": _mean_of(TOP2),
    "top3": _mean_of(TOP3),
    "macro_f1": _of_matrix(macro_f1_of),
    "balanced_accuracy": _of_matrix(balanced_accuracy_of),
    "nll": _mean_of(NLL),
    "brier": _mean_of(BRIER),
    **{f"{name}_f1": _f1_of_class(code) for code, name in enumerate(CLASSES)},
}
"""Name of each metric and its formula on sums [..., WIDTH]; NaN where it is not defined (no rows)."""
