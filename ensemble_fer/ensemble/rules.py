"""How several opinions become one: a table of rules. A rule is how it blends, and how it is fitted if it is.

Each blend takes the members' logits float64 [k, m, 7], already divided by the members' temperatures, and a
``Combination``, and gives float64 logits [m, 7] whose softmax is the probability of the ensemble.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.ensemble import greedy, logit_adjustment, stacking, weights
from ensemble_fer.types import N_CLASSES, softmax

if TYPE_CHECKING:
    from ensemble_fer.ensemble.combination import Combination

Logits = NDArray[np.float64]
Fit = Callable[[Logits, NDArray[np.uint8], int], dict]
"""(logits [k, m, 7], labels [m], seed) to what a ``Combination`` of the rule has otherwise than by default."""

LEAST = 1e-30
"""A probability of 0 becomes this, so that its logarithm stays a finite float32."""


@dataclass(frozen=True)
class Rule:
    """How opinions are blended; ``fit`` is None where nothing is fitted; ``about`` is a line for people."""

    blend: Callable[[Logits, Combination], Logits]
    about: str
    fit: Fit | None = None


def pooled(logits: Logits, by: Combination) -> Logits:
    """Mean of the probabilities, weighted (the linear opinion pool of Stone 1961)."""
    return np.log(np.maximum(np.tensordot(by.weights, softmax(logits), 1), LEAST))


def pooled_logits(logits: Logits, by: Combination) -> Logits:
    """Mean of the logits: the normalised geometric mean of the probabilities. One sure member can veto a class."""
    return np.tensordot(by.weights, logits, 1)


def voted(logits: Logits, by: Combination) -> Logits:
    """Most votes win, ties by mean probability.

    The probability of a class is (votes + mean probability) / (k + 1): its order is exactly that rule,
    because mean probabilities differ by less than one vote.
    """
    votes = np.eye(N_CLASSES)[logits.argmax(axis=2)].sum(axis=0)
    return np.log(np.maximum((votes + softmax(logits).mean(axis=0)) / (len(logits) + 1), LEAST))


def adjusted(logits: Logits, by: Combination) -> Logits:
    """Mean of the probabilities, of which rare classes are then raised (Menon et al. 2021)."""
    assert by.intercept is not None
    return pooled(logits, by) + by.intercept


def stacked(logits: Logits, by: Combination) -> Logits:
    """A multinomial logistic regression on the members' log-probabilities (Wolpert 1992)."""
    assert by.coefficients is not None
    assert by.intercept is not None
    return stacking.features(logits) @ by.coefficients.T + by.intercept


RULES: dict[str, Rule] = {
    "mean": Rule(pooled, "mean of probabilities"),
    "mean_logits": Rule(pooled_logits, "mean of logits"),
    "vote": Rule(voted, "most votes, ties by mean probability"),
    "weights": Rule(pooled, "mean of probabilities with fitted weights", weights.fit),
    "greedy": Rule(pooled, "bagged greedy forward selection", greedy.fit),
    "logit_adjustment": Rule(adjusted, "mean of probabilities, rare classes raised or lowered", logit_adjustment.fit),
    "stacking": Rule(stacked, "logistic regression on log-probabilities", stacking.fit),
}
"""Name of each rule that ``combine`` and ``fuse`` know."""
