"""Grids that others have published, as spaces: every point is a recipe of theirs, by the name it has there.

``base`` holds what all points share. It stands above a model's own defaults and below a recipe file and flags, so that
a grid can be run at a smaller budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ensemble_fer.tune.choosing import Chooser

POINT = "point"
"""The one parameter of a published grid: which of its points."""


@dataclass(frozen=True)
class Published:
    """A grid.

    Parameters
    ----------
    model : str
        The model that they trained, where no other is named.
    base : dict
        Recipe keys of all points.
    points : dict
        Name of each point with the recipe keys that it sets.
    source : str
    """

    model: str
    base: dict[str, Any]
    points: dict[str, dict[str, Any]]
    source: str

    def choose(self, chooser: Chooser) -> dict[str, Any]:
        """The recipe keys of one point."""
        return dict(self.points[chooser.suggest_categorical(POINT, tuple(self.points))])


_KHAIREDDIN: dict[str, Any] = {
    "epochs": 300,
    "batch_size": 64,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "plateau_factor": 0.75,
    "plateau_patience": 5,
    "warmup_epochs": 0.0,
    "loss": "cross_entropy",
    "label_smoothing": 0.0,
    "augmentation": "khaireddin",
}
_KHAIREDDIN_SOURCE = "Khaireddin & Chen 2021 (arXiv 2105.03588)"

# Neither early stopping nor a schedule in the sweeps of 15 epochs; the ResNet sweep has no weight decay.
_PAZOS: dict[str, Any] = {
    "epochs": 15,
    "patience": 0,
    "batch_size": 64,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "schedule": "constant",
    "warmup_epochs": 0.0,
    "loss": "cross_entropy",
    "label_smoothing": 0.0,
    "augmentation": "pazos",
}


def _pazos(optimizer: str, rate: float, dropout: float, weight_decay: float = 0.0) -> dict[str, Any]:
    return {"optimizer": optimizer, "learning_rate": rate, "dropout": dropout, "weight_decay": weight_decay}


PUBLISHED: dict[str, Published] = {
    "khaireddin_optimizers": Published(
        "vggnet",
        _KHAIREDDIN,
        {
            f"{optimizer} {rate} {schedule}": {
                "optimizer": optimizer,
                "learning_rate": float(rate),
                "schedule": schedule,
            }
            for rate, schedule in (("1e-3", "constant"), ("1e-2", "plateau"))
            for optimizer in ("sgd", "nesterov", "asgd", "adam", "amsgrad", "adadelta", "adagrad")
        },
        _KHAIREDDIN_SOURCE,
    ),
    "khaireddin_schedules": Published(
        "vggnet",
        {**_KHAIREDDIN, "optimizer": "nesterov", "learning_rate": 0.01},
        {
            name: {"schedule": name}
            for name in ("constant", "plateau", "cosine", "cosine_restarts", "one_cycle", "step")
        },
        _KHAIREDDIN_SOURCE,
    ),
    "pazos_resnet": Published(
        "resnet_compact",
        _PAZOS,
        {
            "adam_lr3_dropout0": _pazos("adam", 1e-3, 0.0),
            "adam_lr3_dropout15": _pazos("adam", 1e-3, 0.15),
            "adam_lr2_dropout15": _pazos("adam", 1e-2, 0.15),
            "adam_lr3_dropout20": _pazos("adam", 1e-3, 0.20),
            "sgd_mom09_lr3_dropout15": _pazos("sgd", 1e-3, 0.15),
        },
        "Pazos & Wang 2025, section 4.1 and table 1",
    ),
    "pazos_mobilenet": Published(
        "mobilenet_compact",
        _PAZOS,
        {
            "adam_lr3_dropout_wd0": _pazos("adam", 1e-3, 0.0),
            "adam_lr3_dropout_wd1e4": _pazos("adam", 1e-3, 0.0, 1e-4),
            "adam_lr3_dropout15_wd0": _pazos("adam", 1e-3, 0.15),
            "adam_lr3_dropout15_wd1e4": _pazos("adam", 1e-3, 0.15, 1e-4),
            "sgd_lr3_dropout15_wd1e4": _pazos("sgd", 1e-3, 0.15, 1e-4),
        },
        "Pazos & Wang 2025, section 4.2 and table 2",
    ),
}
