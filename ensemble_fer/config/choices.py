"""What a recipe's keys may be: names, ranges, and each model's own defaults. Imports nothing heavy.

The tables of ``models`` and ``train`` hold what the names stand for; a test compares them.
"""

from __future__ import annotations

from typing import Any

MODELS = (
    "compact",
    "resnet14",
    "vggnet",
    "alexnet",
    "fernet",
    "patch_cnn",
    "small_cnn",
    "googlenet48",
    "resnet_compact",
    "mobilenet_compact",
    "vgg16",
    "resnet50v2",
    "xception",
    "mobilenetv3_large_100",
    "efficientnet_b0",
    "resnet18",
    "vit_base_patch16_224",
)
OPTIMIZERS = ("sgd", "nesterov", "asgd", "adam", "amsgrad", "adamw", "adadelta", "adagrad", "muon")
SCHEDULES = ("constant", "plateau", "cosine", "cosine_restarts", "one_cycle", "step")
LOSSES = ("cross_entropy", "weighted", "effective", "focal", "balanced_softmax", "ldam")
# Those that look at how many rows each class has.
COUNTING_LOSSES = ("weighted", "effective", "balanced_softmax", "ldam")
AUGMENTATIONS = (
    "none",
    "light",
    "strong",
    "khaireddin",
    "khaireddin_tencrop",
    "atasoy",
    "pazos",
    "group14",
    "gaballa",
)
PRECISIONS = ("auto", "float32", "bfloat16")

CHOICES: dict[str, tuple[str, ...]] = {
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "loss": LOSSES,
    "augmentation": AUGMENTATIONS,
    "precision": PRECISIONS,
    "train_on": ("train", "train+select"),
    "labels": ("hard", "votes"),
    "leave_out": ("none", "not_a_face", "no_majority"),
    "sampling": ("shuffled", "balanced"),
    "kept_epoch": ("best", "last"),
    "class_counts": ("resampled", "original"),
}

_INF = float("inf")
# Lowest, first above the highest, in words.
RANGES: dict[str, tuple[float, float, str]] = {
    "frozen_stages": (0, 1000, "0 (all train) to 999"),
    "unfreeze_epoch": (0, 100_000, "0 (never) to 99999"),
    "head_rate": (1e-6, 1e6, "0.000001 to below 1000000"),
    "seed": (0, 2**31, "0 to 2147483647"),
    "epochs": (1, 100_000, "1 to 99999"),
    "epoch_rows": (0, _INF, "0 (all rows) or more"),
    "patience": (0, _INF, "0 (never stop early) or more"),
    "batch_size": (2, 100_000, "2 to 99999"),
    "mixup": (0, 100, "0 (off) to below 100"),
    "cutmix": (0, 100, "0 (off) to below 100"),
    "learning_rate": (1e-12, 1e6, "1e-12 to below 1000000"),
    "momentum": (0, 1, "0 to below 1"),
    "weight_decay": (0, _INF, "0 or more"),
    "warmup_epochs": (0, 100_000, "0 to below 100000"),
    "plateau_factor": (1e-6, 1, "0.000001 to below 1"),
    "plateau_patience": (0, 100_000, "0 to 99999"),
    "step_epochs": (1, 100_000, "1 to 99999"),
    "step_factor": (1e-6, 1, "0.000001 to below 1"),
    "restart_epochs": (1, 100_000, "1 to 99999"),
    "restart_growth": (1, 100, "1 to below 100"),
    "effective_beta": (0, 1, "0 to below 1"),
    "focal_gamma": (0, 100, "0 to below 100"),
    "logit_tau": (0, 100, "0 to below 100"),
    "ldam_margin": (0, 100, "0 to below 100"),
    "label_smoothing": (0, 1, "0 to below 1"),
    "dropout": (0, 1, "0 to below 1"),
    "ema": (0, 1, "0 (off) to below 1"),
}

# System A fine-tunes for 30 epochs in batches of 64; its report names neither optimizer nor rate, so these are ours.
_TRANSFER: dict[str, Any] = {
    "weights": "hub",
    "epochs": 30,
    "batch_size": 64,
    "optimizer": "adamw",
    "learning_rate": 5e-4,
    "weight_decay": 0.01,
    "schedule": "cosine",
    "warmup_epochs": 1,
    "label_smoothing": 0.0,
    "augmentation": "atasoy",
}
# System B: Adam at 1e-3 and weights inverse to class frequency.
_GROUP14: dict[str, Any] = {
    "batch_size": 64,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "schedule": "constant",
    "loss": "weighted",
    "label_smoothing": 0.0,
    "augmentation": "group14",
}
# System D's 15-epoch sweep settled on these for its 40-epoch finals.
_PAZOS: dict[str, Any] = {
    "epochs": 40,
    "batch_size": 64,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "schedule": "constant",
    "label_smoothing": 0.0,
    "augmentation": "pazos",
}

# What a model is trained with where nothing else is said; the cards in docs/methods say from which page of which paper.
MODEL_DEFAULTS: dict[str, dict[str, Any]] = {
    "compact": {},
    "resnet14": {"epochs": 40, "augmentation": "strong", "dropout": 0.2},
    # Khaireddin & Chen 2021 (arXiv 2105.03588): Nesterov at 0.01, falling by 0.75 after 5 epochs without gain.
    "vggnet": {
        "epochs": 300,
        "learning_rate": 0.01,
        "weight_decay": 1e-4,
        "schedule": "plateau",
        "label_smoothing": 0.0,
        "dropout": 0.2,
        "augmentation": "khaireddin",
        "batch_size": 64,
    },
    "alexnet": {"epochs": 60, "learning_rate": 0.01, "batch_size": 64, "dropout": 0.5, "label_smoothing": 0.0},
    "fernet": {
        "epochs": 60,
        "patience": 10,
        "batch_size": 64,
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "weight_decay": 0.0,
        "schedule": "constant",
        "label_smoothing": 0.0,
        "dropout": 0.5,
    },
    "patch_cnn": {"epochs": 12, "optimizer": "adam", "learning_rate": 1e-3, "weight_decay": 0.0, "dropout": 0.3},
    "small_cnn": {
        "epochs": 158,
        "batch_size": 64,
        "optimizer": "sgd",
        "momentum": 0.9,
        "learning_rate": 0.01,
        "weight_decay": 1e-4,
        "schedule": "constant",
        "label_smoothing": 0.0,
        "dropout": 0.0,
    },
    "googlenet48": {**_GROUP14, "epochs": 60, "dropout": 0.4},
    "resnet_compact": {**_PAZOS, "dropout": 0.0},
    "mobilenet_compact": {
        **_PAZOS,
        "patience": 6,
        "schedule": "plateau",
        "plateau_factor": 0.5,
        "plateau_patience": 3,
        "dropout": 0.15,
        "weight_decay": 1e-4,
    },
    "vgg16": {**_PAZOS, "weights": "hub", "epochs": 15, "learning_rate": 1e-4, "dropout": 0.5},
    "resnet50v2": {**_GROUP14, "weights": "hub", "epochs": 25, "dropout": 0.25},
    "xception": dict(_TRANSFER),
    "mobilenetv3_large_100": dict(_TRANSFER),
    "efficientnet_b0": dict(_TRANSFER),
    "resnet18": dict(_TRANSFER),
    # The embedding and eleven of twelve blocks are frozen; all layer norms train.
    "vit_base_patch16_224": {
        **_GROUP14,
        "weights": "hub",
        "epochs": 30,
        "dropout": 0.0,
        "frozen_stages": 12,
        "train_norms": True,
    },
}


def defaults_of(model: str) -> dict[str, Any]:
    """A model's own defaults: of the table, of a timm network those of transfer members, of a user's file none."""
    return MODEL_DEFAULTS.get(model, _TRANSFER if model.startswith("timm:") else {})
