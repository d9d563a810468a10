"""Test-time augmentation against the crops written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ensemble_fer.errors import UsageError
from ensemble_fer.models import build
from ensemble_fer.train.prediction import predict_rows


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (9, 48, 48), dtype=np.uint8)


def probabilities(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_none_is_the_member_itself(images: np.ndarray) -> None:
    member = build("compact").eval()
    with torch.inference_mode():
        assert np.array_equal(predict_rows(member, images), member(torch.tensor(images)).numpy())


@pytest.mark.parametrize(
    ("tta", "corners"), [("flip", [(4, 4)]), ("ten_crop", [(0, 0), (0, 8), (8, 0), (8, 8), (4, 4)])]
)
def test_mean_of_probabilities_over_crops(images: np.ndarray, tta: str, corners: list[tuple[int, int]]) -> None:
    member = build("compact").eval()
    each = []
    with torch.inference_mode():
        for y, x in corners:
            crop = np.ascontiguousarray(images[:, y : y + 40, x : x + 40])
            for picture in (crop, np.ascontiguousarray(crop[:, :, ::-1])):
                each.append(probabilities(member.of_crops(torch.tensor(picture)).numpy()))
    assert np.allclose(probabilities(predict_rows(member, images, tta)), np.mean(each, axis=0), atol=1e-5)


def test_training_mode_is_given_back(images: np.ndarray) -> None:
    member = build("compact").train()
    predict_rows(member, images)
    assert member.training


def test_no_rows_and_unknown_names(images: np.ndarray) -> None:
    member = build("compact")
    assert predict_rows(member, images[:0]).shape == (0, 7)
    with pytest.raises(UsageError, match="ten_crop"):
        predict_rows(member, images, "tencrop")
