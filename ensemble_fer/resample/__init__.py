"""Balanced and cleaned training sets as lists of parents and weights.

One file a family of methods, one table (``METHODS``), one function (``resample``); ``make_resampling`` keeps the
result in a store.
"""

from ensemble_fer.resample.methods import METHODS, Method
from ensemble_fer.resample.planning import Plan
from ensemble_fer.resample.resampling import Outcome, ResamplingWarning, check_lineage, resample, run
from ensemble_fer.resample.spaces import SearchOptions, Space, pca_space
from ensemble_fer.resample.storing import automatic_name, load_resampling, make_resampling

__all__ = [
    "METHODS",
    "Method",
    "Outcome",
    "Plan",
    "ResamplingWarning",
    "SearchOptions",
    "Space",
    "automatic_name",
    "check_lineage",
    "load_resampling",
    "make_resampling",
    "pca_space",
    "resample",
    "run",
]
