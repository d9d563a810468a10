"""Ensembles and class imbalance for facial-expression recognition, honest by construction."""

__version__ = "0.1.0"
