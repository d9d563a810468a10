"""Borderline-SMOTE: mixtures only from faces that are in danger of being taken for another class.

H. Han, W.-Y. Wang, B.-H. Mao, "Borderline-SMOTE: A New Over-Sampling Method in Imbalanced Data Sets Learning",
ICIC 2005, LNCS 3644, 878-887, the first of its two kinds; decisions as imbalanced-learn makes them. The second kind
also mixes with faces of other classes: such a row has no one label that is that of both parents.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.resample.rows import SMOTE_NEIGHBORS, Request, Rows, class_name, need_rows
from ensemble_fer.resample.smote import draw_places, partners

DANGER_NEIGHBORS = 10  # besides the first of the list; imbalanced-learn's default


def borderline_smote(request: Request) -> Rows:
    """Synthetic rows from the rows in danger of each class until it is as large as the largest.

    A class without rows in danger stays as it is, however small it is.

    Raises
    ------
    EnsembleFerError
        Fewer than eleven rows in all, or fewer than six in a class that has rows in danger.
    """
    rows = Rows.originals(request.labels)
    for code, wanted in request.missing.items():
        if not wanted:
            continue
        need_rows(
            len(request.labels),
            DANGER_NEIGHBORS + 1,
            "the training part",
            "Borderline-SMOTE",
            "Copy rows instead (ros).",
        )
        of_class = np.flatnonzero(request.labels == code)
        danger = of_class[in_danger(request.strangers(of_class, DANGER_NEIGHBORS), DANGER_NEIGHBORS)]
        if not len(danger):
            continue
        need_rows(
            len(of_class),
            SMOTE_NEIGHBORS + 1,
            f"class {class_name(code)}",
            "Borderline-SMOTE",
            "Copy its rows instead (ros), or name the classes to oversample without it (classes).",
        )
        place, column, w = draw_places((len(danger), SMOTE_NEIGHBORS), wanted, request.seed)
        a = danger[place]
        rows = rows.mixed(a, partners(request, of_class, a, column), w, code)
    return rows


def in_danger(strangers: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """Whether half or more of the neighbours of a row have another class, but not all: then it is noise.

    Parameters
    ----------
    strangers : int64 [n]
        How many of the neighbours have another class.
    k : int
        How many neighbours there are.
    """
    return (2 * strangers >= k) & (strangers < k)
