"""Shapes, sizes and invariances of single members."""

from __future__ import annotations

import pytest
import torch

from ensemble_fer.errors import UsageError
from ensemble_fer.models import build


def test_vggnet_has_the_published_size() -> None:
    assert build("vggnet").parameter_count == 29_890_759


def test_compact_is_compact() -> None:
    assert build("compact").parameter_count <= 2_500_000


def test_unknown_model_names_the_near_match() -> None:
    with pytest.raises(UsageError, match="compact"):
        build("compakt")


def test_only_the_centre_crop_counts() -> None:
    member = build("compact").eval()
    faces = torch.randint(0, 256, (3, 48, 48), dtype=torch.uint8)
    border = faces.clone()
    border[:, :4], border[:, :, -4:] = 0, 255
    inner = faces.clone()
    inner[:, 20] = 255 - inner[:, 20]
    assert torch.equal(member(faces), member(border))
    assert not torch.equal(member(faces), member(inner))


def test_bytes_and_floats_of_a_crop_agree() -> None:
    member = build("compact").eval()
    crops = torch.randint(0, 256, (2, 40, 40), dtype=torch.uint8)
    assert torch.equal(member.of_crops(crops), member.of_crops(crops.float()))
