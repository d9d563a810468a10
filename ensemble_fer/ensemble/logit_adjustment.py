"""Post-hoc logit adjustment (Menon et al. 2021, equation 9): rare classes are preferred, or less so, after training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.ensemble.greedy import macro_f1_of_each
from ensemble_fer.types import N_CLASSES, softmax

STRENGTHS = np.array(sorted(np.round(np.linspace(-1, 1.5, 51), 2), key=abs))
"""Of the adjustment: 0 changes nothing, 1 is right for classes of equal number where probabilities are calibrated.

Below 0 it takes back what training on a balanced set has done too much of."""


def fit(logits: NDArray[np.float64], labels: NDArray[np.uint8], seed: int = 0) -> dict:
    """What is taken from the log-probability of each class: a multiple of the logarithm of its share.

    Of ``STRENGTHS`` it is the one with the highest macro-F1 of the mean of probabilities, the nearest to 0 of equals.

    Parameters
    ----------
    logits : float64 [k, m, 7]
    labels : uint8 [m]
        A class without rows is taken for one of less than one row.
    seed : int
        Not used: nothing is drawn.

    Returns
    -------
    dict
        ``intercept`` float64 [7], of which a rare class has much.
    """
    counts = np.bincount(labels, minlength=N_CLASSES) + 0.5
    rarity = -np.log(counts / counts.sum())
    said = np.log(np.maximum(softmax(logits).mean(axis=0), 1e-30))
    each = np.stack([(said + strength * rarity).argmax(axis=1) for strength in STRENGTHS])
    return {"intercept": STRENGTHS[macro_f1_of_each(each, labels).argmax()] * rarity}
