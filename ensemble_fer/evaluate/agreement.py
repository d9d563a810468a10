"""Accuracy by how far annotators agree on a face: where they do not, no network can be right every time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.evaluate.counts import accuracy, row_statistics
from ensemble_fer.evaluate.intervals import N_BOOT, intervals
from ensemble_fer.types import Predictions

EDGES = (0.0, 0.5, 0.7, 0.9, 1.0)
"""Of the bins; each holds its upper edge. Of ten votes: up to five, six or seven, eight or nine, all."""


def by_agreement(
    p: Predictions,
    agreement: NDArray[np.float64],
    label_is_top: NDArray[np.bool_],
    *,
    n_boot: int = N_BOOT,
    seed: int = 0,
) -> list[dict]:
    """Accuracy in each bin of agreement.

    Parameters
    ----------
    p : Predictions
    agreement : float64 [m]
        Of each of its rows, 0 to 1; NaN where nobody was asked.
    label_is_top : bool [m]
        The row's label has the most votes.
    n_boot, seed : int
        Of the bootstrap over twin groups.

    Returns
    -------
    list of dict
        For each bin that has rows: ``agreement`` [low, high] (above low, up to high; None for rows without votes),
        ``rows``, ``accuracy`` (share whose label was said), ``ci95`` of it, and ``label_is_top``: how often somebody
        who always says what most annotators say would be right.
    """
    statistics = row_statistics(p.labels, p.logits)
    unasked = np.isnan(agreement)
    # Shares of few votes are seldom exact in binary; 0 belongs to the first bin.
    bins = np.searchsorted(np.array(EDGES[1:-1]) + 1e-9, np.where(unasked, 0.0, agreement))
    found = []
    for index in (*range(len(EDGES) - 1), None):
        rows = np.flatnonzero(unasked if index is None else (bins == index) & ~unasked)
        if not len(rows):
            continue
        interval = intervals(statistics[rows], p.groups[rows], n_boot=n_boot, seed=seed)
        found.append(
            {
                "agreement": None if index is None else [EDGES[index], EDGES[index + 1]],
                "rows": len(rows),
                "accuracy": accuracy(p.labels[rows], p.logits[rows]),
                "ci95": interval["accuracy"],
                "label_is_top": None if index is None else float(label_is_top[rows].mean()),
            }
        )
    return found
