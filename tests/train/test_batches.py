"""What a step sees: every row once a pass, mixed pixels as the resampling says, nothing but step and seed."""

from __future__ import annotations

import numpy as np
import torch

from ensemble_fer.train.batches import Batches
from ensemble_fer.types import Kind, Resampling


def training_set(rng: np.random.Generator) -> tuple[np.ndarray, Resampling]:
    images = rng.integers(0, 256, (30, 48, 48), dtype=np.uint8)
    a = np.concatenate([np.arange(20), rng.integers(0, 20, 15)])
    b = np.concatenate([np.arange(20), rng.integers(0, 20, 15)])
    weight = np.concatenate([np.zeros(20), rng.random(15)])
    kind = np.where(weight > 0, Kind.SYNTHETIC, Kind.ORIGINAL)
    return images, Resampling("smote", kind, a, b, weight, np.arange(35) % 7)


def batches(images: np.ndarray, rows: Resampling, seed: int = 0, policy: str = "none") -> Batches:
    return Batches(images, rows, crop=40, policy=policy, batch_size=8, seed=seed, device=torch.device("cpu"))


def test_every_row_once_a_pass() -> None:
    images, rows = training_set(np.random.default_rng(0))
    stream = np.concatenate([batches(images, rows).rows_of(step) for step in range(35)])
    assert len(stream) == 8 * 35
    for number in range(8):
        assert sorted(stream[number * 35 : (number + 1) * 35]) == list(range(35))
    assert not np.array_equal(stream[:35], stream[35:70])


def test_pixels_and_labels_are_those_of_the_resampling() -> None:
    images, rows = training_set(np.random.default_rng(1))
    source = batches(images, rows)
    for step in range(6):
        crops, labels = source.draw(step)
        wanted = rows.pixels(images, source.rows_of(step))[:, 4:44, 4:44]
        assert np.array_equal(crops.numpy(), wanted.astype(np.float32))
        assert np.array_equal(labels.numpy(), rows.labels[source.rows_of(step)])


def test_a_step_depends_on_seed_and_step_alone() -> None:
    images, rows = training_set(np.random.default_rng(2))
    one, other = batches(images, rows, policy="strong"), batches(images, rows, policy="strong")
    for step in range(10):
        other.draw(step)
    assert torch.equal(one.draw(7)[0], other.draw(7)[0])
    assert not torch.equal(one.draw(7)[0], batches(images, rows, seed=1, policy="strong").draw(7)[0])
