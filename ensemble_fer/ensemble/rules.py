"""How several opinions become one. A rule is a function of the members' probabilities and one line in ``RULES``.

Each takes probabilities float64 [k, m, 7] and logits float64 [k, m, 7] of k members on m rows, and gives
float32 logits [m, 7] whose softmax is the probability of the ensemble. None of these fits anything.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.types import N_CLASSES

Rule = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float32]]

_LEAST = 1e-30  # a probability of 0 becomes this, so that its logarithm stays a finite float32


def log_of(probabilities: NDArray[np.float64]) -> NDArray[np.float32]:
    """Logits of given probabilities, finite for a probability of 0 too."""
    return np.log(np.maximum(probabilities, _LEAST)).astype(np.float32)


def mean(probabilities: NDArray[np.float64], logits: NDArray[np.float64]) -> NDArray[np.float32]:
    """Mean of the probabilities, the rule of most published ensembles."""
    return log_of(probabilities.mean(axis=0))


def mean_logits(probabilities: NDArray[np.float64], logits: NDArray[np.float64]) -> NDArray[np.float32]:
    """Mean of the logits: the normalised geometric mean of the probabilities. One sure member can veto a class."""
    return logits.mean(axis=0).astype(np.float32)


def vote(probabilities: NDArray[np.float64], logits: NDArray[np.float64]) -> NDArray[np.float32]:
    """Most votes win, ties by mean probability.

    The probability of a class is (votes + mean probability) / (k + 1): its order is exactly that rule,
    because mean probabilities differ by less than one vote.
    """
    votes = np.eye(N_CLASSES)[logits.argmax(axis=2)].sum(axis=0)
    return log_of((votes + probabilities.mean(axis=0)) / (len(logits) + 1))


RULES: dict[str, Rule] = {"mean": mean, "mean_logits": mean_logits, "vote": vote}
"""Name of each rule that ``combine`` knows."""
