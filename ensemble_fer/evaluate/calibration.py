"""Do confidences mean what they say: reliability bins, ECE, and the ECE that chance alone gives."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BINS = 15
_AT_ONCE = 2_000_000  # random numbers held at a time, 16 MB


def confidence_bins(confidence: NDArray, bins: int = BINS) -> NDArray[np.int64]:
    """Bin of each confidence: ``bins`` equal widths on (0, 1], each open below and closed above."""
    return np.clip(np.ceil(np.asarray(confidence, np.float64) * bins).astype(np.int64) - 1, 0, bins - 1)


def reliability(confidence: NDArray, correct: NDArray, bins: int = BINS) -> list[dict]:
    """For each bin its edges, rows, mean confidence and accuracy (None in an empty bin).

    Parameters
    ----------
    confidence : float [m]
        Probability of the class that was said, 0 to 1.
    correct : bool [m]
        Whether it was the truth.
    """
    at = confidence_bins(confidence, bins)
    rows = np.bincount(at, minlength=bins)
    sure = np.bincount(at, weights=confidence, minlength=bins)
    right = np.bincount(at, weights=correct, minlength=bins)
    return [
        {
            "from": b / bins,
            "to": (b + 1) / bins,
            "rows": int(rows[b]),
            "confidence": float(sure[b] / rows[b]) if rows[b] else None,
            "accuracy": float(right[b] / rows[b]) if rows[b] else None,
        }
        for b in range(bins)
    ]


def ece(confidence: NDArray, correct: NDArray, bins: int = BINS) -> float:
    """Expected calibration error: mean over rows of |accuracy - confidence| of their bin, 0 to 1."""
    at = confidence_bins(confidence, bins)
    gap = np.bincount(at, weights=np.asarray(correct, np.float64) - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(at))


def ece_null(confidence: NDArray, bins: int = BINS, *, draws: int = 500, seed: int = 0) -> float:
    """Expected ECE of a perfectly calibrated model with these confidences.

    Each draw lets row ``i`` be right with probability ``confidence[i]``; the mean ECE of the draws is what
    chance gives on so many rows. An ECE near it is no evidence of miscalibration.
    """
    order = np.argsort(confidence_bins(confidence, bins), kind="stable")
    sure = np.asarray(confidence, np.float64)[order]
    starts = np.unique(confidence_bins(sure, bins), return_index=True)[1]
    rng = np.random.default_rng(seed)
    total, done = 0.0, 0
    while done < draws:
        now = min(draws - done, max(1, _AT_ONCE // len(sure)))
        right = rng.random((now, len(sure))) < sure
        gaps = np.add.reduceat(right - sure, starts, axis=1)
        total += float(np.abs(gaps).sum())
        done += now
    return total / (draws * len(sure))
