"""One number that makes confidences mean what they say: logits divided by a temperature (Guo et al. 2017)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.errors import UsageError
from ensemble_fer.evaluate.calibration import ece, ece_null, reliability
from ensemble_fer.types import N_CLASSES, softmax

SMALLEST, LARGEST = 0.05, 20.0


def fit_temperature(logits: NDArray, labels: NDArray[np.uint8]) -> float:
    """The temperature that makes these labels most likely, 0.05 to 20.

    The negative log-likelihood is convex in 1 / T, so that a bounded search finds its one minimum. No label changes.

    Parameters
    ----------
    logits : float [m, 7]
    labels : uint8 [m]

    Raises
    ------
    UsageError
        There are no rows.
    """
    if not len(labels):
        raise UsageError("a temperature is fitted on rows, and there are none without a twin in training.")
    from scipy.optimize import minimize_scalar

    z = np.asarray(logits, np.float64)
    z = z - z.max(axis=1, keepdims=True)
    of_labels = z[np.arange(len(z)), labels]

    def nll(log_sharpness: float) -> float:
        sharp = np.exp(log_sharpness)
        return float((np.log(np.exp(sharp * z).sum(axis=1)) - sharp * of_labels).mean())

    bounds = (-np.log(LARGEST), -np.log(SMALLEST))
    found: Any = minimize_scalar(nll, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(-found.x))


DRAWS = 100
"""For ``ece_null``: its standard error is then a hundredth of it."""


def calibration_scores(logits: NDArray, labels: NDArray[np.uint8]) -> dict[str, Any]:
    """``ece`` (15 bins) with its ``ece_null``, ``nll`` in nats, ``brier`` (0 to 2) and ``bins`` of logits [m, 7]."""
    probabilities = softmax(logits)
    said = probabilities.argmax(axis=1)
    rows = np.arange(len(labels))
    sure = probabilities[rows, said]
    return {
        "bins": reliability(sure, said == labels),
        "ece": ece(sure, said == labels),
        "ece_null": ece_null(sure, draws=DRAWS),
        "nll": float(-np.log(np.maximum(probabilities[rows, labels], 1e-30)).mean()),
        "brier": float(np.square(probabilities - np.eye(N_CLASSES)[labels]).sum(axis=1).mean()),
    }
