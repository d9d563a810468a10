"""Training of members: one loop, recipes as data, resumable to the bit."""

from ensemble_fer.train.loading import load_member, own_code
from ensemble_fer.train.prediction import TTA, predict_rows
from ensemble_fer.train.preparing import Prepared, learn, prepare, trained_rows
from ensemble_fer.train.running import left_out, predictions_of, train

__all__ = [
    "TTA",
    "Prepared",
    "learn",
    "left_out",
    "load_member",
    "own_code",
    "predict_rows",
    "predictions_of",
    "prepare",
    "train",
    "trained_rows",
]
