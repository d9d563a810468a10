"""Predictions as tests need them: labels in FER2013's shares, logits that are right about as often as asked."""

from __future__ import annotations

import numpy as np

from ensemble_fer.types import CLASSES, Predictions, Protocol, Role

SHARES = np.array([491, 55, 528, 879, 594, 416, 626]) / 3589  # PrivateTest


def some_predictions(rows: int = 500, seed: int = 0, *, skill: float = 2.0, **changes) -> Predictions:
    """Predictions with some twins (groups of two) and some rows with a twin in training."""
    rng = np.random.default_rng(seed)
    labels = np.random.default_rng(999).choice(len(CLASSES), rows, p=SHARES)
    logits = rng.normal(size=(rows, len(CLASSES)))
    logits[np.arange(rows), labels] += skill
    ids = np.arange(1000, 1000 + rows)
    groups = ids.copy()
    groups[1::10] = groups[0::10][: len(groups[1::10])]
    protocol = Protocol(data="fer2013", split="official", role="test", resampling="smote", looks=1)
    fields = {
        "logits": logits,
        "labels": labels,
        "rows": ids,
        "groups": groups,
        "twin_in_train": np.arange(rows) % 7 == 0,
        "role": Role.TEST,
        "source": f"member{seed}",
        "protocol": protocol,
    }
    return Predictions(**{**fields, **changes})
