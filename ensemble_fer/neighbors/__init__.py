"""Exact nearest neighbours on uint8 pixels and on convex combinations of them.

``nearest`` searches; ``Mixtures`` are the points; ``PixelNeighbors`` (in ``neighbors.estimator``, which
imports scikit-learn) is the same search as an estimator for other libraries.
"""

from ensemble_fer.neighbors.panels import Mixtures
from ensemble_fer.neighbors.products import centred, exact_products
from ensemble_fer.neighbors.search import PANEL_ROWS, TIE, Neighbors, count_ties, memory_mb, nearest

__all__ = [
    "PANEL_ROWS",
    "TIE",
    "Mixtures",
    "Neighbors",
    "centred",
    "count_ties",
    "exact_products",
    "memory_mb",
    "nearest",
]
