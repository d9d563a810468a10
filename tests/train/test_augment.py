"""Augmentation: ranges, each sample its own draw, repeatability."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ensemble_fer.config import AUGMENTATIONS
from ensemble_fer.errors import UsageError
from ensemble_fer.train import augment as module
from ensemble_fer.train.augment import FILL, POLICIES, Policy, augment


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def faces(n: int) -> torch.Tensor:
    return torch.randint(0, 256, (n, 48, 48), dtype=torch.uint8, generator=seeded(n))


def with_policy(monkeypatch: pytest.MonkeyPatch, **ranges: float) -> str:
    monkeypatch.setitem(module.POLICIES, "trial", Policy(**ranges))  # type: ignore[arg-type]
    return "trial"


def test_recipes_know_the_same_policies() -> None:
    assert set(AUGMENTATIONS) == set(POLICIES)


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_shape_type_and_range(policy: str) -> None:
    out = augment(faces(16), 40, policy, seeded())
    assert out.shape == (16, 40, 40)
    assert out.dtype == torch.float32
    assert out.min() >= -1e-3
    assert out.max() <= 255.001


def test_none_is_the_centre_crop() -> None:
    batch = faces(3)
    assert torch.equal(augment(batch, 40, "none", seeded()), batch[:, 4:44, 4:44].float())


def test_map_without_change_gives_the_centre_crop(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = faces(3)
    policy = with_policy(monkeypatch, flip=1e-9)
    assert torch.allclose(augment(batch, 40, policy, seeded()), batch[:, 4:44, 4:44].float(), atol=1e-2)


def test_flip_mirrors(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = faces(3)
    policy = with_policy(monkeypatch, flip=1.0)
    assert torch.allclose(augment(batch, 40, policy, seeded()), batch[:, 4:44, 4:44].flip(2).float(), atol=1e-2)


def test_rotation_turns_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bright dot away from the middle lands where the naive rotation by the same angle puts it."""
    batch = torch.zeros(64, 48, 48, dtype=torch.uint8)
    batch[:, 23:25, 37:39] = 255  # 13.5 px right of the middle
    policy = with_policy(monkeypatch, degrees=90)
    out = (augment(batch, 48, policy, seeded()) - 0).numpy()
    for picture in out:
        y, x = np.unravel_index(picture.argmax(), picture.shape)
        assert np.hypot(x - 23.5, y - 23.5) == pytest.approx(13.5, abs=1.5)
    heights = {np.unravel_index(p.argmax(), p.shape)[0] for p in out}
    assert len(heights) > 10


@pytest.mark.parametrize("policy", ["khaireddin", "strong"])
def test_each_sample_has_its_own_draw(policy: str) -> None:
    same = faces(1).expand(32, 48, 48)
    out = augment(same, 40, policy, seeded())
    assert len({tuple(p.flatten().tolist()) for p in out}) == 32


def test_half_are_mirrored(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = with_policy(monkeypatch, flip=0.5)
    same = faces(1).expand(400, 48, 48)
    plain = same[0, 4:44, 4:44].float()
    mirrored = sum(not torch.allclose(p, plain, atol=1e-2) for p in augment(same, 40, policy, seeded()))
    assert 150 < mirrored < 250


def test_erasing_covers_a_rectangle_of_the_stated_area(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = with_policy(monkeypatch, erase=1.0)
    white = torch.full((300, 48, 48), 255, dtype=torch.uint8)
    gone = (augment(white, 40, policy, seeded()) == FILL).float()
    share = gone.mean(dim=(1, 2))
    assert (share > 0).all()
    assert share.max() <= 0.23
    assert 0.07 < share.mean() < 0.14
    for mask in gone[:20]:
        rows, columns = mask.any(1).sum(), mask.any(0).sum()
        assert mask.sum() == rows * columns


def test_generator_alone_decides() -> None:
    batch = faces(8)
    first = augment(batch, 40, "strong", seeded(5))
    torch.manual_seed(99)
    assert torch.equal(first, augment(batch, 40, "strong", seeded(5)))
    assert not torch.equal(first, augment(batch, 40, "strong", seeded(6)))


def test_unknown_policy() -> None:
    with pytest.raises(UsageError, match="strong"):
        augment(faces(1), 40, "stronk", seeded())
