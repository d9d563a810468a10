"""What a step sees: every row once a pass, mixed pixels as the resampling says, nothing but step and seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ensemble_fer.errors import UsageError
from ensemble_fer.train.augment import augment
from ensemble_fer.train.batches import Batches, step_seed
from ensemble_fer.types import Kind, Resampling


def training_set(rng: np.random.Generator) -> tuple[np.ndarray, Resampling]:
    images = rng.integers(0, 256, (30, 48, 48), dtype=np.uint8)
    a = np.concatenate([np.arange(20), rng.integers(0, 20, 15)])
    b = np.concatenate([np.arange(20), rng.integers(0, 20, 15)])
    weight = np.concatenate([np.zeros(20), rng.random(15)])
    kind = np.where(weight > 0, Kind.SYNTHETIC, Kind.ORIGINAL)
    return images, Resampling("smote", kind, a, b, weight, np.arange(35) % 7)


def batches(images: np.ndarray, rows: Resampling, seed: int = 0, policy: str = "none", **more: Any) -> Batches:
    cpu = torch.device("cpu")
    return Batches(images, rows, crop=40, policy=policy, batch_size=8, seed=seed, device=cpu, **more)


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


def test_the_order_of_rows_is_as_it_was() -> None:
    """By the words of version 3 of training: of pass p the permutation of a generator seeded by seed and p."""
    images, rows = training_set(np.random.default_rng(3))
    order = np.concatenate([np.random.default_rng([5, p]).permutation(35) for p in range(4)])
    source = batches(images, rows, seed=5)
    for step in (16, 0, 7, 4):
        assert np.array_equal(source.rows_of(step), order[step * 8 : step * 8 + 8])


def test_balanced_classes_take_turns() -> None:
    images, _ = training_set(np.random.default_rng(4))
    labels = np.repeat([0, 1, 3, 6], [1, 3, 6, 20])
    rows = Resampling("none", np.zeros(30), np.arange(30), np.arange(30), np.zeros(30), labels)
    source = batches(images, rows, sampling="balanced", seed=2)
    stream = np.concatenate([source.rows_of(step) for step in range(30)])
    for start in range(0, 240, 4):
        assert sorted(labels[stream[start : start + 4]]) == [0, 1, 3, 6]
    for label, count in ((0, 1), (1, 3), (3, 6), (6, 20)):
        of_class = stream[labels[stream] == label]
        assert len(of_class) == 60
        for start in range(0, 60, count):
            assert sorted(of_class[start : start + count]) == list(np.flatnonzero(labels == label))
    sixes = stream[labels[stream] == 6]
    assert not np.array_equal(sixes[:20], sixes[20:40])
    # Stateless: in any order, from a fresh stream.
    for step in (29, 3, 17):
        again = batches(images, rows, sampling="balanced", seed=2).rows_of(step)
        assert np.array_equal(again, stream[step * 8 : step * 8 + 8])
    assert not np.array_equal(batches(images, rows, sampling="balanced", seed=3).rows_of(0), stream[:8])


@pytest.mark.parametrize("more", [{}, {"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_labels_are_hard_unless_something_is_soft(more: dict[str, float]) -> None:
    images, rows = training_set(np.random.default_rng(5))
    crops, labels = batches(images, rows, **more).draw(0)
    assert crops.dtype == torch.float32
    if more:
        assert (labels.dtype, labels.shape) == (torch.float32, (8, 7))
        assert torch.allclose(labels.sum(1), torch.ones(8))
    else:
        assert (labels.dtype, labels.shape) == (torch.int64, (8,))


def test_mixing_depends_on_seed_and_step_alone_and_leaves_augmentation() -> None:
    images, rows = training_set(np.random.default_rng(6))
    more = {"policy": "strong", "mixup": 1.0, "sampling": "balanced"}
    one, other = batches(images, rows, **more), batches(images, rows, **more)
    for step in range(5):
        one.draw(step)
    for step in (9, 4):
        for first, second in zip(one.draw(step), other.draw(step), strict=True):
            assert torch.equal(first, second)
    plain = batches(images, rows, policy="strong", sampling="balanced").draw(4)[0]
    crops, shares = one.draw(4)
    # Every mixed picture is a mixture of two of the pictures that would be seen without.
    for picture, row in zip(crops, shares, strict=True):
        parts = torch.stack([(picture - a - t * (b - a)).abs().max()
                             for a in plain for b in plain for t in row.unique()])  # fmt: skip
        assert parts.min() < 1e-2


def test_votes_follow_the_parents_of_a_row() -> None:
    rng = np.random.default_rng(7)
    images, rows = training_set(rng)
    votes = rng.random((30, 7)).astype(np.float32)
    votes /= votes.sum(1, keepdims=True)
    source = batches(images, rows, soft=votes)
    for step in range(5):
        labels = source.draw(step)[1]
        for row, share in zip(source.rows_of(step), labels.numpy(), strict=True):
            a, b, w = votes[rows.parent_a[row]], votes[rows.parent_b[row]], rows.weight[row]
            assert np.allclose(share, (1 - w) * a + w * b, atol=1e-6)
    with pytest.raises(UsageError, match="soft labels"):
        batches(images, rows, soft=votes[:20])


def with_augmented(rng: np.random.Generator, *, colour: bool = False) -> tuple[np.ndarray, Resampling]:
    """20 originals, 5 mixtures, and 10 transformed faces; the last five parents show nothing else."""
    images = rng.integers(0, 256, (30, 48, 48, *([3] if colour else [])), dtype=np.uint8)
    kind = np.repeat([Kind.ORIGINAL, Kind.SYNTHETIC, Kind.AUGMENTED], [20, 5, 10])
    a = np.concatenate([np.arange(20), np.arange(5), np.arange(20, 30)])
    b = np.where(kind == Kind.SYNTHETIC, a + 5, a)
    transform = np.zeros((35, 5), np.float32)
    transform[25:] = rng.uniform(-0.1, 0.1, (10, 5))
    transform[25:, -1] = np.arange(10) % 2
    weight = np.where(kind == Kind.SYNTHETIC, 0.25, 0)
    return images, Resampling("augment", kind, a, b, weight, np.arange(35) % 7, transform=transform)


@pytest.mark.parametrize("colour", [False, True])
def test_augmented_rows_and_colour(colour: bool) -> None:
    images, rows = with_augmented(np.random.default_rng(8), colour=colour)
    source = batches(images, rows)
    assert len(source.images) == 30, "twenty faces as they are and ten transformed ones; their parents are not kept"
    for step in range(10):
        crops, labels = source.draw(step)
        wanted = rows.pixels(images, source.rows_of(step))[:, 4:44, 4:44]
        assert np.array_equal(crops.numpy(), wanted.astype(np.float32))
        assert np.array_equal(labels.numpy(), rows.labels[source.rows_of(step)])
    mixed = batches(images, rows, policy="atasoy", mixup=0.3, cutmix=0.3, sampling="balanced")
    assert mixed.draw(1)[0].shape == (8, 40, 40, *([3] if colour else []))


def test_ten_crops_repeat_labels() -> None:
    rng = np.random.default_rng(9)
    images, rows = training_set(rng)
    source = batches(images, rows, policy="khaireddin_tencrop")
    crops, labels = source.draw(3)
    assert (len(crops), len(labels)) == (80, 80)
    wanted = rows.labels[source.rows_of(3)]
    assert np.array_equal(labels.numpy(), np.repeat(wanted, 10))
    votes = np.eye(7, dtype=np.float32)[rng.integers(0, 7, 30)]
    assert batches(images, rows, policy="khaireddin_tencrop", soft=votes).draw(0)[1].shape == (80, 7)


def test_a_step_is_the_augmented_batch() -> None:
    images, rows = training_set(np.random.default_rng(10))
    source = batches(images, rows, seed=3, policy="strong")
    faces = torch.from_numpy(rows.pixels(images, source.rows_of(6)))
    wanted = augment(faces, 40, "strong", torch.Generator().manual_seed(step_seed(3, 6)))
    assert torch.equal(source.draw(6)[0], wanted)
