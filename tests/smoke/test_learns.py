"""The synthetic faces need a real network, and the compact member is one."""

from __future__ import annotations

import numpy as np
import pytest

from ensemble_fer.config import resolve_recipe
from ensemble_fer.data.importing import load_faces
from ensemble_fer.data.synthetic import synth_data
from ensemble_fer.report import evaluate
from ensemble_fer.store import Store
from ensemble_fer.train import train


@pytest.mark.slow
def test_a_linear_classifier_fails_where_the_compact_member_succeeds(store: Store) -> None:
    from sklearn.linear_model import RidgeClassifier

    data = synth_data(store)
    faces = load_faces(data)
    learn, test = faces.rows_of("Training"), faces.rows_of("PrivateTest")
    pixels = faces.images.reshape(len(faces), -1).astype(np.float32) / 255
    best = max(
        RidgeClassifier(alpha=alpha).fit(pixels[learn], faces.labels[learn]).score(pixels[test], faces.labels[test])
        for alpha in (10, 1000)
    )
    assert best < 0.75

    train(store, resolve_recipe(epochs=5, batch_size=64), name="member", quiet=True)
    assert evaluate(store, "member", quiet=True).report.accuracy > 0.85
