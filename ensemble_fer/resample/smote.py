"""SMOTE: new rows between a face and one of its nearest neighbours of the same class.

N. V. Chawla, K. W. Bowyer, L. O. Hall, W. P. Kegelmeyer, "SMOTE: Synthetic Minority Over-sampling
Technique", JAIR 16 (2002) 321-357; decisions as imbalanced-learn makes them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.neighbors import Mixtures
from ensemble_fer.resample.rows import SMOTE_NEIGHBORS, Request, Rows, class_name, need_rows


def smote(request: Request) -> Rows:
    """Synthetic rows for each class until it is as large as the largest.

    Raises
    ------
    EnsembleFerError
        A class that needs rows has fewer than six.
    """
    rows = Rows.originals(request.labels)
    for code, wanted in request.missing.items():
        if not wanted:
            continue
        of_class = np.flatnonzero(request.labels == code)
        need_rows(
            len(of_class),
            SMOTE_NEIGHBORS + 1,
            f"class {class_name(code)}",
            "SMOTE",
            "Copy its rows instead (ros), or name the classes to oversample without it (classes).",
        )
        nearest = request.search(Mixtures.faces(request.pixels, of_class), SMOTE_NEIGHBORS + 1)
        a, b, w = draw_parents(nearest[:, 1:], wanted, request.seed)
        rows = rows.mixed(of_class[a], of_class[b], w, code)
    return rows


def draw_parents(neighbors: NDArray[np.int64], wanted: int, seed: int) -> tuple[NDArray, NDArray, NDArray]:
    """Parents and weights of ``wanted`` mixtures, given the neighbours of each row of one class.

    Parameters
    ----------
    neighbors : int64 [n, k]
        Positions in the class.
    wanted : int
    seed : int

    Returns
    -------
    a, b : int64 [wanted]
    w : float64 [wanted]
        Uniform in 0 to 1.

    Notes
    -----
    The generator starts anew for each class: imbalanced-learn does so when it is given an integer, and
    then two classes of one size draw the same numbers.
    """
    draw = np.random.RandomState(seed)  # the reference's generator
    place = draw.randint(low=0, high=neighbors.size, size=wanted)
    w = draw.uniform(size=wanted)
    a, column = np.divmod(place, neighbors.shape[1])
    return a, neighbors[a, column], w
