"""Training of members: one loop, recipes as data, resumable to the bit."""

from ensemble_fer.train.prediction import TTA, predict_rows
from ensemble_fer.train.running import left_out, load_member, predictions_of, train

__all__ = ["TTA", "left_out", "load_member", "predict_rows", "predictions_of", "train"]
