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
        place, column, w = draw_places((len(of_class), SMOTE_NEIGHBORS), wanted, request.seed)
        a = of_class[place]
        rows = rows.mixed(a, partners(request, of_class, a, column), w, code)
    return rows


def draw_places(shape: tuple[int, int], wanted: int, seed: int) -> tuple[NDArray, NDArray, NDArray]:
    """Places in a table of neighbours, and weights, for ``wanted`` mixtures.

    Parameters
    ----------
    shape : (int, int)
        Rows to start from, and neighbours of each.
    wanted : int
    seed : int

    Returns
    -------
    row, column : int64 [wanted]
    w : float64 [wanted]
        Uniform in 0 to 1.

    Notes
    -----
    The generator starts anew for each class: imbalanced-learn does so when it is given an integer, and
    then two classes of one size draw the same numbers.
    """
    draw = np.random.RandomState(seed)  # the reference's generator
    place = draw.randint(low=0, high=shape[0] * shape[1], size=wanted)
    w = draw.uniform(size=wanted)
    return *np.divmod(place, shape[1]), w


def partners(
    request: Request, of_class: NDArray[np.int64], starts: NDArray[np.int64], column: NDArray[np.int64]
) -> NDArray[np.int64]:
    """For each start, the one of its nearest rows of the class that stands at this place.

    Chance decides before any distance is known from which rows mixtures start and at which of their neighbours they
    end: only these rows are asked for, on FER2013 about half of those of the classes that are filled, and only so many
    neighbours of each.

    Parameters
    ----------
    of_class : int64 [n]
        The rows among which to search.
    starts, column : int64 [m]
        Rows, and places from 0; the first of the list is dropped, as imbalanced-learn does.
    """
    drawn = np.zeros(len(request.pixels), bool)
    drawn[starts] = True
    asked, place = np.flatnonzero(drawn), (np.cumsum(drawn) - 1)[starts]
    own, queries = (Mixtures.faces(request.pixels, chosen) for chosen in (of_class, asked))
    wanted = np.zeros(len(asked), np.int64)
    np.maximum.at(wanted, place, 2 + column)
    return of_class[request.search(own, wanted, queries)[place, 1 + column]]
