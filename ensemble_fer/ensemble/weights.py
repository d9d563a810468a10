"""Weights of a mean of probabilities, on the simplex, that make the labels most likely."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.types import softmax

STEPS, CLOSE = 5_000, 1e-9
LEAST = 1e-3
"""A member of less weight changes no score; it gets none, so that a graph need not hold it."""


def fit(logits: NDArray[np.float64], labels: NDArray[np.uint8], seed: int = 0) -> dict:
    """Weights that minimize the negative log-likelihood of the pooled probabilities.

    The problem is convex. It is solved by expectation maximization for the shares of a mixture whose components are
    given (Dempster, Laird & Rubin 1977): each step multiplies a weight by how much more likely its member makes the
    labels than the pool does, which keeps weights positive and their sum 1, and never makes the likelihood smaller.

    Parameters
    ----------
    logits : float64 [k, m, 7]
    labels : uint8 [m]
    seed : int
        Not used: the optimum is one.

    Returns
    -------
    dict
        ``weights`` float64 [k], sum 1; those below 0.001 are 0.
    """
    likelihood = softmax(logits)[:, np.arange(len(labels)), labels]  # [k, m]
    found = np.full(len(logits), 1 / len(logits))
    for _ in range(STEPS):
        pool = np.maximum(found @ likelihood, 1e-300)
        before, found = found, found * (likelihood / pool).mean(axis=1)
        if np.abs(found - before).max() < CLOSE:
            break
    found[found < LEAST] = 0
    return {"weights": found / found.sum()}
