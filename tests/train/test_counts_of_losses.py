"""Whose class counts a loss goes by: of the set as it is trained on, or of the training part before balancing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ensemble_fer.config import Recipe
from ensemble_fer.data.importing import load_faces
from ensemble_fer.store import Store
from ensemble_fer.train import prepare
from ensemble_fer.train.losses import loss_of
from ensemble_fer.train.preparing import learn

RESAMPLED = Recipe(
    resampling="ros", loss="weighted", label_smoothing=0.0, epochs=1, epoch_rows=64, batch_size=32, precision="float32"
)
ORIGINAL = replace(RESAMPLED, class_counts="original")


def test_counts_before_and_after_balancing(prepared: Store, tmp_path: Path) -> None:
    before, after = (prepare(prepared, recipe, quiet=True) for recipe in (ORIGINAL, RESAMPLED))
    faces = load_faces(prepared.get("data", "synthetic"))
    wanted = np.bincount(faces.labels[faces.rows_of("Training")], minlength=7).tolist()
    assert before.class_counts() == wanted
    assert len(set(wanted)) > 1
    assert after.class_counts() == [max(wanted)] * 7, "ros copies rows until all classes are as large"

    # Of two rows that are scored alike, one of the commonest and one of the rarest class.
    common, rare = int(np.argmax(wanted)), int(np.argmin(wanted))
    logits, labels = torch.zeros(1, 7), (torch.tensor([common]), torch.tensor([rare]))
    found = {}
    for name, request in (("original", before), ("resampled", after)):
        loss = loss_of(request.recipe, torch.tensor(request.class_counts(), dtype=torch.float32), 0.0)
        found[name] = [float(loss(logits, label)) for label in labels]
    assert np.isclose(found["resampled"][0], found["resampled"][1])
    assert np.isclose(found["original"][1] / found["original"][0], wanted[common] / wanted[rare])

    # And the training takes them: the same rows in the same order from the same weights.
    losses = []
    for request in (before, after):
        records: list[dict] = []
        learn(request, tmp_path / request.recipe.class_counts, device="cpu", on_epoch=records.append)
        losses.append(records[0]["train_loss"])
    assert abs(losses[0] - losses[1]) > 1e-3


def test_select_rows_that_are_trained_on_count_too(prepared: Store) -> None:
    recipe = replace(ORIGINAL, train_on="train+select")
    faces = load_faces(prepared.get("data", "synthetic"))
    rows = np.concatenate([faces.rows_of("Training"), faces.rows_of("PublicTest")])
    assert prepare(prepared, recipe, quiet=True).class_counts() == faces.counts(rows)
