"""Ensemble selection from a library of members (Caruana, Niculescu-Mizil, Crew & Ksikes 2004), bagged."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.types import N_CLASSES, softmax

BAGS, ROUNDS = 20, 20
SHARE, LEAST = 0.5, 5
"""Of the members in a bag; of five or fewer all are in each."""


def fit(logits: NDArray[np.float64], labels: NDArray[np.uint8], seed: int = 0) -> dict:
    """How often each member is chosen, as a weight.

    Each of 20 bags holds a random half of the members, five at least, and rows drawn with replacement. In a bag the
    member whose addition to the pool gives the best macro-F1 is added, again and again with replacement, 20 times; of
    equals the one with the smaller negative log-likelihood. The pool of the best round counts, and the bags' pools are
    added up.

    Parameters
    ----------
    logits : float64 [k, m, 7]
    labels : uint8 [m]
    seed : int
        Of the bags.

    Returns
    -------
    dict
        ``weights`` float64 [k], sum 1; 0 for members that no bag chose.
    """
    probabilities = softmax(logits)
    rng = np.random.default_rng((seed, len(logits)))
    total = np.zeros(len(logits))
    for _ in range(BAGS):
        bag = rng.permutation(len(logits))[: max(LEAST, round(SHARE * len(logits)))]
        rows = rng.integers(len(labels), size=len(labels))
        total[bag] += _chosen(probabilities[bag][:, rows], labels[rows])
    return {"weights": total / total.sum()}


def _chosen(probabilities: NDArray[np.float64], labels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Shares of the members of one bag in its best pool."""
    counts = np.zeros(len(probabilities))
    pool = np.zeros(probabilities.shape[1:])
    best, kept = (-1.0, -np.inf), counts
    for _ in range(ROUNDS):
        candidates = pool + probabilities
        scores = macro_f1_of_each(candidates.argmax(axis=2), labels)
        equal = np.flatnonzero(scores >= scores.max() - 1e-12)
        likely = np.log(np.maximum(candidates[equal][:, np.arange(len(labels)), labels], 1e-30)).mean(axis=1)
        added = int(equal[likely.argmax()])
        pool = candidates[added]
        counts[added] += 1
        reached = (float(scores[added]), float(likely.max() - np.log(counts.sum())))
        if reached > best:
            best, kept = reached, counts / counts.sum()
    return kept


def macro_f1_of_each(said: NDArray[np.integer], labels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Macro-F1 [k] of each row of ``said`` [k, m]; a class that neither side has counts 0, as in scikit-learn."""
    k = len(said)
    places = (np.arange(k)[:, None] * N_CLASSES + labels) * N_CLASSES + said
    matrix = np.bincount(places.ravel(), minlength=k * N_CLASSES**2).reshape(k, N_CLASSES, N_CLASSES)
    right = matrix[:, range(N_CLASSES), range(N_CLASSES)]
    either = matrix.sum(axis=1) + matrix.sum(axis=2)
    return (2 * right / np.maximum(either, 1)).mean(axis=1)
