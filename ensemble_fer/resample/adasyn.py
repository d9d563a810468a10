"""ADASYN: the more of a face's neighbours have other classes, the more mixtures start from it.

H. He, Y. Bai, E. A. Garcia, S. Li, "ADASYN: Adaptive Synthetic Sampling Approach for Imbalanced Learning",
IJCNN 2008, 1322-1328; decisions as imbalanced-learn makes them, each class against all the rest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.errors import EnsembleFerError
from ensemble_fer.resample.rows import Request, Rows, class_name, need_rows
from ensemble_fer.resample.smote import partners

ADASYN_NEIGHBORS = 5  # besides the first of the list, for both questions; imbalanced-learn's default
_WITHOUT = "name the classes to oversample without it (classes)"


def adasyn(request: Request) -> Rows:
    """Synthetic rows for each class until it is about as large as the largest.

    Raises
    ------
    EnsembleFerError
        A class that needs rows has fewer than six, or no face with a neighbour of another class, or misses so few
        rows that every share rounds to none.

    Notes
    -----
    One generator serves all classes: imbalanced-learn starts it anew for each class in SMOTE, but not here.
    """
    rows = Rows.originals(request.labels)
    draw = np.random.RandomState(request.seed)  # the reference's generator
    for code, wanted in request.missing.items():
        if not wanted:
            continue
        of_class = np.flatnonzero(request.labels == code)
        name, n = class_name(code), len(of_class)
        need_rows(n, ADASYN_NEIGHBORS + 1, f"class {name}", "ADASYN", f"Copy its rows instead (ros), or {_WITHOUT}.")
        strangers = request.strangers(of_class, ADASYN_NEIGHBORS)
        if not strangers.any():
            raise EnsembleFerError(
                f"no {name} face has a neighbour of another class, so that ADASYN has no share to give to any of them. "
                f"Use smote, or {_WITHOUT}."
            )
        starts = np.repeat(of_class, shares(strangers, ADASYN_NEIGHBORS, wanted))
        if not len(starts):
            raise EnsembleFerError(
                f"ADASYN would add nothing to class {name}: it misses {wanted:,} of {wanted + n:,} rows, and the share "
                f"of each of its {n:,} faces rounds to 0. Use smote, or {_WITHOUT}."
            )
        column = draw.choice(ADASYN_NEIGHBORS, size=len(starts))
        w = draw.uniform(size=len(starts))
        rows = rows.mixed(starts, partners(request, of_class, starts, column), w, code)
    return rows


def shares(strangers: NDArray[np.int64], k: int, wanted: int) -> NDArray[np.int64]:
    """How many mixtures start from each row: in proportion to its neighbours of other classes, rounded.

    The sum differs from ``wanted`` by up to half a row for each row.

    Parameters
    ----------
    strangers : int64 [n]
        How many of the ``k`` neighbours have another class; not all 0.
    wanted : int

    Notes
    -----
    The steps are those of the reference in float64, halves to the even number, so that shares at a half fall as they do
    there: exact fractions would round some of them otherwise.
    """
    part = strangers / k
    part /= part.sum()
    return np.rint(part * wanted).astype(np.int64)
