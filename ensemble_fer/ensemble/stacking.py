"""Stacked generalization (Wolpert 1992): a multinomial logistic regression on what the members say."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.errors import UsageError
from ensemble_fer.types import CLASSES, N_CLASSES, softmax

FLOOR = -10.0
"""Log-probabilities below this are taken for it: how sure a member is that a class is not there, tells no more."""
STRENGTH = 0.01
"""Inverse of the L2 penalty: weak evidence for a pattern of errors does not become a coefficient."""


def features(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-probabilities [m, 7 k] of members' logits [k, m, 7]: seven columns of the first member, then the next."""
    with np.errstate(divide="ignore"):
        each = np.maximum(np.log(softmax(logits)), FLOOR)
    return each.transpose(1, 0, 2).reshape(logits.shape[1], -1)


def fit(logits: NDArray[np.float64], labels: NDArray[np.uint8], seed: int = 0) -> dict:
    """Coefficients and intercepts, scikit-learn's ``LogisticRegression``.

    Parameters
    ----------
    logits : float64 [k, m, 7]
    labels : uint8 [m]
    seed : int
        Not used: the optimum is one.

    Returns
    -------
    dict
        ``coefficients`` float64 [7, 7 k] and ``intercept`` float64 [7].

    Raises
    ------
    UsageError
        A class has no rows.
    """
    counts = np.bincount(labels, minlength=N_CLASSES)
    if not counts.all():
        lacking = ", ".join(name for name, count in zip(CLASSES, counts, strict=True) if not count)
        raise UsageError(
            f"stacking is fitted on rows of every class, and among {len(labels)} there is no {lacking}. "
            "Take another rule, or a larger select part."
        )
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=STRENGTH, max_iter=2_000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an optimum that is close enough
        model.fit(features(logits), labels)
    return {"coefficients": np.array(model.coef_), "intercept": np.array(model.intercept_)}
