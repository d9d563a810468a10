"""Exact nearest neighbours among faces and convex combinations of them.

``Search`` (or ``nearest``) searches; ``Mixtures`` are the points; ``PixelNeighbors`` (in ``neighbors.estimator``, which
imports scikit-learn) is the same search as an estimator for other libraries.
"""

from ensemble_fer.neighbors.kernels import prepare
from ensemble_fer.neighbors.points import Mixtures
from ensemble_fer.neighbors.products import best_engine, exact_products
from ensemble_fer.neighbors.search import CAP, TIE, Neighbors, Search, cost, count_ties, nearest

__all__ = [
    "CAP",
    "TIE",
    "Mixtures",
    "Neighbors",
    "Search",
    "best_engine",
    "cost",
    "count_ties",
    "exact_products",
    "nearest",
    "prepare",
]
