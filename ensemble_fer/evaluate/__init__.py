"""Scores of stored predictions: metrics, intervals by twin group, calibration, figures and tables.

Everything here reads ``Predictions``, costs milliseconds, and needs neither torch nor pixels.
"""
