"""The exact search in the shape that scikit-learn and imbalanced-learn ask for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, check_is_fitted

from ensemble_fer.neighbors.points import Mixtures
from ensemble_fer.neighbors.search import CAP, Search


class PixelNeighbors(BaseEstimator):
    """Exact nearest neighbours of rows of grey levels or other numbers, ties ordered by row.

    Parameters
    ----------
    n_neighbors : int
        How many to answer with when ``kneighbors`` is not told.
    n_jobs : int, optional
        Taken because samplers set it; the search uses the processors there are.
    memory : int
        Bytes that a search may take beside the fitted rows.

    Examples
    --------
    ``SMOTE(k_neighbors=PixelNeighbors(6))`` for five neighbours besides the face itself.
    """

    def __init__(self, n_neighbors: int = 5, n_jobs: int | None = None, memory: int = CAP) -> None:
        self.n_neighbors = n_neighbors
        self.n_jobs = n_jobs
        self.memory = memory

    def fit(self, X: ArrayLike, y: Any = None) -> PixelNeighbors:
        """Keep the rows to search among, ``[n, p]``, finite. Whole values 0 to 255 of any dtype are kept as bytes."""
        self.pixels_ = _as_rows(X)
        self.n_features_in_ = self.pixels_.shape[1]
        self.n_samples_fit_ = len(self.pixels_)
        self.search_ = Search(self.pixels_, memory=self.memory + self.pixels_.nbytes)
        return self

    def kneighbors(self, X: ArrayLike | None = None, n_neighbors: int | None = None, return_distance: bool = True):
        """Distances (float64 ``[m, k]``, grey levels) and rows (int64 ``[m, k]``) of the nearest fitted rows.

        Without ``X``, the neighbours of each fitted row other than itself.
        """
        check_is_fitted(self)
        k = self.n_neighbors if n_neighbors is None else n_neighbors
        most = self.n_samples_fit_ - (X is None)
        if not 1 <= k <= most:
            raise ValueError(f"{k} neighbours were asked for; among {self.n_samples_fit_} fitted rows: 1 to {most}.")
        search = self.search_
        # Not pixels_: of a stored estimator the two may be two arrays.
        fitted = Mixtures.faces(search.pixels)
        if X is None:
            found = search.nearest(fitted, k + 1)
            # Where more than k copies come first, the row itself is not in its own list: then the last goes.
            other = found.rows != np.arange(self.n_samples_fit_)[:, None]
            other[other.all(axis=1), -1] = False
            rows, squared = found.rows[other].reshape(-1, k), found.squared[other].reshape(-1, k)
        else:
            queries = _as_rows(X)
            if queries.shape[1] != self.n_features_in_:
                raise ValueError(f"X has {queries.shape[1]} features; {self.n_features_in_} were fitted.")
            same = queries.shape == self.pixels_.shape and np.array_equal(queries, self.pixels_)
            found = search.nearest(fitted, k, queries=None if same else Mixtures.faces(queries))
            rows, squared = found.rows, found.squared
        return (np.sqrt(squared), rows) if return_distance else rows

    def kneighbors_graph(self, X: ArrayLike | None = None, n_neighbors: int | None = None, mode: str = "connectivity"):
        """The same as a sparse matrix ``[m, n]``: ones, or distances with ``mode="distance"``."""
        from scipy.sparse import csr_matrix

        if mode not in ("connectivity", "distance"):
            raise ValueError(f"mode {mode!r}: expected 'connectivity' or 'distance'.")
        distances, rows = self.kneighbors(X, n_neighbors)
        values = distances.ravel() if mode == "distance" else np.ones(rows.size)
        starts = np.arange(0, rows.size + 1, rows.shape[1])
        return csr_matrix((values, rows.ravel(), starts), shape=(len(rows), self.n_samples_fit_))


def _as_rows(given: ArrayLike) -> NDArray:
    """Whole numbers from 0 to 255 as bytes, whose distances are exact integers; other finite numbers as float64."""
    rows = check_array(given)
    if rows.dtype == np.uint8:
        return np.array(rows, order="C")  # a copy: what is done to the given rows later changes no answer
    rows = rows.astype(np.float64)
    if rows.min() >= 0 and rows.max() <= 255:
        out = rows.astype(np.uint8)
        if np.array_equal(out, rows):
            return out
    return np.ascontiguousarray(rows)
