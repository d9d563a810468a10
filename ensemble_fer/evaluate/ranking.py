"""How well a network tells one class from all others, whatever threshold it is said at: average precision.

F1 asks what is said; a network that says a rare class too seldom can be taught to say it oftener afterwards. Average
precision asks whether the faces of the class are rated above the others, which no threshold changes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.evaluate.counts import log_probabilities, ratio
from ensemble_fer.evaluate.intervals import N_BOOT, draw_pieces
from ensemble_fer.types import Predictions


def average_precision(said: Predictions, code: int) -> float:
    """Average precision of a class among all rows, 0 to 1, as scikit-learn defines it; NaN without a row of it.

    Parameters
    ----------
    said : Predictions
    code : int
        Of the class; rows are ordered by its probability.
    """
    return float(_from_weights(said, code, [np.ones((1, len(said)), np.uint8)], np.arange(len(said)))[0])


def average_precision_draws(
    said: Predictions, code: int, *, n_boot: int = N_BOOT, seed: int = 0
) -> NDArray[np.float64]:
    """The same of each bootstrap draw of twin groups, [n_boot]: the draws of every other interval with this seed."""
    groups = np.unique(said.groups, return_inverse=True)[1]
    return _from_weights(said, code, draw_pieces(int(groups.max()) + 1, n_boot, seed), groups)


def _from_weights(said: Predictions, code: int, pieces: list[NDArray], groups: NDArray) -> NDArray[np.float64]:
    """Average precision where each row counts as often as its group does, for each line of the pieces."""
    # Rounded, or rows with the same logits in another order would differ by the order of a sum.
    scores, wanted = np.round(log_probabilities(said.logits)[:, code], 12), said.labels == code
    if not wanted.any():
        return np.full(sum(len(piece) for piece in pieces), np.nan)
    order = np.argsort(-scores, kind="stable")
    scores, wanted, groups = scores[order], wanted[order], groups[order]
    # Precision is asked where recall grows: after the last row of each score that a row of the class has.
    ends = np.searchsorted(-scores, -np.unique(scores[wanted])[::-1], side="right")
    starts = np.concatenate([[0], ends[:-1]])
    known = np.flatnonzero(wanted[: ends[-1]])
    firsts = np.searchsorted(known, starts)
    found = []
    for piece in pieces:
        rows = np.add.reduceat(piece[:, groups[: ends[-1]]], starts, axis=1, dtype=np.int64).cumsum(axis=1)
        gained = np.add.reduceat(piece[:, groups[known]], firsts, axis=1, dtype=np.int64)
        right = gained.cumsum(axis=1)
        found.append(ratio((gained * ratio(right, rows)).sum(axis=1), right[:, -1], np.nan))
    return np.concatenate(found)
