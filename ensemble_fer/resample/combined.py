"""SMOTE, then a cleaning of all classes, originals and synthetic rows alike.

G. E. A. P. A. Batista, R. C. Prati, M. C. Monard, "A study of the behavior of several methods for balancing
machine learning training data", SIGKDD Explorations 6 (2004) 20-29.

The cleaning measures distances between unrounded mixtures: pixels are rounded only when they are shown or
trained on.
"""

from __future__ import annotations

import numpy as np

from ensemble_fer.resample.cleaning import clean_enn, clean_tomek
from ensemble_fer.resample.rows import Request, Rows
from ensemble_fer.resample.smote import smote


def smote_tomek(request: Request) -> Rows:
    """SMOTE without the rows in Tomek links."""
    rows = smote(request)
    return clean_tomek(rows, request, np.unique(rows.labels))


def smote_enn(request: Request) -> Rows:
    """SMOTE without the rows that have a nearest neighbour of another class."""
    rows = smote(request)
    return clean_enn(rows, request, np.unique(rows.labels))
