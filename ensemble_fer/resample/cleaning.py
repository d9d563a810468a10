"""Methods that remove rows whose neighbours disagree with them: Tomek links and edited nearest neighbours.

I. Tomek, "Two modifications of CNN", IEEE Trans. SMC 6 (1976) 769-772.
D. L. Wilson, "Asymptotic properties of nearest neighbor rules using edited data", IEEE Trans. SMC 2 (1972) 408-421.
Decisions as imbalanced-learn makes them: the first of the listed neighbours is taken for the row itself and
dropped, also where a copy with a smaller row comes first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.resample.rows import ENN_NEIGHBORS, Request, Rows, need_rows


def tomek(request: Request) -> Rows:
    """Without the rows in Tomek links, except those of the rarest class."""
    return clean_tomek(Rows.originals(request.labels), request, _all_but_rarest(request))


def enn(request: Request) -> Rows:
    """Without the rows that have a nearest neighbour of another class, except those of the rarest class."""
    return clean_enn(Rows.originals(request.labels), request, _all_but_rarest(request))


def clean_tomek(rows: Rows, request: Request, classes: NDArray) -> Rows:
    """Remove from these classes the rows in Tomek links; the others keep their order.

    Two rows of different classes are a link if each is the nearest of the other.
    """
    need_rows(len(rows), 2, "the training part", "Tomek's rule", "Use method none.")
    first = request.search(rows.points(request.pixels), 2)[:, 1]
    links = in_tomek_link(rows.labels, first) & np.isin(rows.labels, classes)
    return rows.take(np.flatnonzero(~links))


def clean_enn(rows: Rows, request: Request, classes: NDArray) -> Rows:
    """Remove from these classes the rows with any of three neighbours of another class; ordered by class."""
    need_rows(len(rows), ENN_NEIGHBORS + 1, "the training part", "edited nearest neighbours", "Use method none.")
    nearest = request.search(rows.points(request.pixels), ENN_NEIGHBORS + 1)[:, 1:]
    agree = (rows.labels[nearest] == rows.labels[:, None]).all(axis=1)
    kept = np.flatnonzero(agree | ~np.isin(rows.labels, classes))
    return rows.take(kept[np.argsort(rows.labels[kept], kind="stable")])


def in_tomek_link(labels: NDArray, first: NDArray[np.int64]) -> NDArray[np.bool_]:
    """For each row whether it and its nearest are each other's nearest and of different classes.

    Parameters
    ----------
    labels : [m]
    first : int64 [m]
        The nearest of each row.
    """
    return (labels[first] != labels) & (first[first] == np.arange(len(first)))


def _all_but_rarest(request: Request) -> NDArray[np.int64]:
    present = np.flatnonzero(request.counts)
    return present[present != request.rarest]
