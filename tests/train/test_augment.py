"""Augmentation: a crop is its face seen through its map, ranges, each sample its own draw, repeatability."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from ensemble_fer.config import AUGMENTATIONS
from ensemble_fer.errors import UsageError
from ensemble_fer.train import augment as module
from ensemble_fer.train.augment import FILL, augment
from ensemble_fer.train.policies import POLICIES, Policy


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def faces(n: int) -> torch.Tensor:
    return torch.randint(0, 256, (n, 48, 48), dtype=torch.uint8, generator=seeded(n))


def with_policy(monkeypatch: pytest.MonkeyPatch, **ranges: float) -> str:
    monkeypatch.setitem(module.POLICIES, "trial", Policy(**ranges))  # type: ignore[arg-type]
    return "trial"


def test_recipes_know_the_same_policies() -> None:
    assert set(AUGMENTATIONS) == set(POLICIES)


@pytest.mark.parametrize("policy", ["light", "pazos"])
@pytest.mark.parametrize("crop", [40, 48])
def test_a_crop_is_the_face_seen_through_its_map(policy: str, crop: int) -> None:
    """Against SciPy's linear interpolation, pixel by pixel of the crop; beyond the face lies mid-grey."""
    batch = faces(8)
    maps = module._draw_maps(8, (48, 48), crop, POLICIES[policy], seeded(2)).double().numpy()
    middle = np.mgrid[:crop, :crop][::-1].astype(float) - (crop - 1) / 2  # x and y of each pixel
    for face, (row_x, row_y), out in zip(batch, maps, augment(batch, crop, policy, seeded(2)), strict=True):
        x, y = ((row[0] * middle[0] + row[1] * middle[1] + row[2] + 1) * 24 - 0.5 for row in (row_x, row_y))
        wanted = FILL + map_coordinates(face.double().numpy() - FILL, [y, x], order=1, mode="grid-constant")
        np.testing.assert_allclose(out.numpy(), wanted, atol=0.05)


@pytest.mark.parametrize("policy", sorted(POLICIES))
@pytest.mark.parametrize("crop", [40, 48])
def test_shape_type_and_range(policy: str, crop: int) -> None:
    out = augment(faces(16), crop, policy, seeded())
    assert out.shape == (160 if policy == "khaireddin_tencrop" else 16, crop, crop)
    assert out.dtype == torch.float32
    assert out.min() >= -1e-3
    assert out.max() <= 255.001


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_colour_is_gray_on_each_channel(policy: str) -> None:
    gray = faces(12)
    colour = augment(gray[..., None].expand(-1, -1, -1, 3), 40, policy, seeded(3))
    wanted = augment(gray, 40, policy, seeded(3))
    assert colour.shape == (*wanted.shape, 3)
    for channel in colour.unbind(-1):
        assert torch.allclose(channel, wanted, atol=1e-3)


def test_channels_stay_apart() -> None:
    batch = torch.zeros(8, 48, 48, 3, dtype=torch.uint8)
    batch[..., 1] = 255
    out = augment(batch, 40, "none", seeded())
    assert torch.equal(out, batch[:, 4:44, 4:44].float())
    turned = augment(batch, 40, "khaireddin", seeded())
    assert torch.equal(turned[..., 0], turned[..., 2])
    assert torch.equal(turned[..., 0] + turned[..., 1], torch.full((8, 40, 40), 255.0))


@pytest.mark.parametrize("crop", [49, 0])
def test_a_crop_that_is_not_in_the_face(crop: int) -> None:
    for policy in ("none", "strong", "khaireddin_tencrop"):
        with pytest.raises(UsageError, match=r"expected 1 to\s+48"):
            augment(faces(2), crop, policy, seeded())


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


def test_shear_slants_columns_and_keeps_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A vertical line through the middle leans by at most the angle, and crosses each row once."""
    batch = torch.zeros(200, 48, 48, dtype=torch.uint8)
    batch[:, :, 23:25] = 255
    out = augment(batch, 48, with_policy(monkeypatch, shear=10), seeded())
    line = torch.arange(48.0) - 23.5
    out = (out - 128).relu()  # of the line alone: the fill beside a slanted face is darker
    middle = (out * line).sum(2) / out.sum(2)
    slopes = (middle * line).sum(1) / (line**2).sum()
    assert torch.allclose(middle, slopes[:, None] * line, atol=0.5)
    angles = torch.rad2deg(torch.atan(slopes)).abs()
    assert 8 < angles.max() < 10.3
    assert 4 < angles.mean() < 6


@pytest.mark.parametrize("name", ["atasoy", "pazos", "gaballa", "group14", "khaireddin", "light", "strong"])
def test_maps_lie_in_the_ranges_of_the_policy(name: str) -> None:
    policy = POLICIES[name]
    maps = module._draw_maps(4000, (48, 48), 40, policy, seeded()) * 24
    mirrored = torch.linalg.det(maps[:, :, :2]) < 0
    assert 0.47 < mirrored.float().mean() < 0.53
    across, down = maps[:, :, 0] * torch.where(mirrored, -1.0, 1.0)[:, None], maps[:, :, 1]
    angles = torch.rad2deg(torch.atan2(across[:, 1], across[:, 0])).abs()
    assert angles.max() <= policy.degrees + 1e-3
    zoom = across.norm(dim=1)
    assert zoom.max() <= 1 + policy.scale + 1e-5
    assert zoom.min() >= 1 / (1 + policy.scale) - 1e-5
    lean = torch.rad2deg(torch.atan2(down[:, 1], down[:, 0]) - torch.atan2(across[:, 1], across[:, 0]))
    assert ((lean + 360) % 360 - 90).abs().max() <= policy.shear + 1e-2
    assert maps[:, :, 2].abs().max() <= policy.shift * 48 + (4 if policy.jitter else 0)
    # Each is drawn as often as the policy says, and reaches nearly as far.
    for values, reach in ((angles, policy.degrees), ((zoom.log()).abs(), math.log1p(policy.scale))):
        if reach:
            assert values.max() > 0.97 * reach
            assert (values > 1e-4 * reach).float().mean() == pytest.approx(policy.apply, abs=0.03)


def test_each_sample_has_its_own_draw() -> None:
    same = faces(1).expand(32, 48, 48)
    for policy in POLICIES:
        out = augment(same, 40, policy, seeded())
        different = len({tuple(p.flatten().tolist()) for p in out})
        # Of system E's, an eighth of the samples has neither rotation nor noise.
        wanted = {"none": 1, "gaballa": 20}.get(policy, 32)
        assert different == 1 if policy == "none" else different >= wanted, policy


def test_half_are_mirrored(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = with_policy(monkeypatch, flip=0.5)
    same = faces(1).expand(400, 48, 48)
    plain = same[0, 4:44, 4:44].float()
    mirrored = sum(not torch.allclose(p, plain, atol=1e-2) for p in augment(same, 40, policy, seeded()))
    assert 150 < mirrored < 250


@pytest.mark.parametrize(("largest", "mean"), [(0.2, 0.11), (0.33, 0.175)])
def test_erasing_covers_a_rectangle_of_the_stated_area(
    monkeypatch: pytest.MonkeyPatch, largest: float, mean: float
) -> None:
    policy = with_policy(monkeypatch, erase=1.0, largest=largest)
    white = torch.full((300, 48, 48), 255, dtype=torch.uint8)
    gone = (augment(white, 40, policy, seeded()) == FILL).float()
    share = gone.mean(dim=(1, 2))
    assert (share > 0).all()
    assert share.max() <= largest + 0.03
    assert share.mean() == pytest.approx(mean, abs=0.03)
    for mask in gone[:20]:
        rows, columns = mask.any(1).sum(), mask.any(0).sum()
        assert mask.sum() == rows * columns


def test_ten_crops_are_those_of_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without chance: corners, centre, and these mirrored, face after face."""
    batch = faces(3)
    out = augment(batch, 40, with_policy(monkeypatch, ten_crops=True), seeded())
    wanted = []
    for face in batch.float():
        five = [face[y : y + 40, x : x + 40] for y, x in ((0, 0), (0, 8), (8, 0), (8, 8), (4, 4))]
        wanted += [*five, *(crop.flip(1) for crop in five)]
    assert torch.allclose(out, torch.stack(wanted), atol=1e-2)


def test_ten_crops_share_a_map_and_are_erased_apart() -> None:
    white = torch.full((40, 48, 48), 200, dtype=torch.uint8)
    out = augment(white, 48, "khaireddin_tencrop", seeded()).reshape(40, 10, 48, 48)
    inside = out[:, :, 18:30, 18:30]
    touched = (inside == FILL).flatten(2).any(2).float()
    assert 0.1 < touched.mean() < 0.6
    assert ((touched.sum(1) > 0) & (touched.sum(1) < 10)).float().mean() > 0.5
    # A crop as large as the face is the face: the first five show one picture, where nothing is erased.
    seen = torch.where(out == FILL, torch.nan, out)
    same = torch.stack([seen[:, :5], seen[:, 5:].flip(3)], 1).reshape(40, 10, -1)
    spread = same.nan_to_num(-1e9).amax(1) - same.nan_to_num(1e9).amin(1)
    both = same.isfinite().sum(1) > 1
    assert spread[both].max() < 1e-2


def test_brightness_and_contrast_against_naive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a face with four grey levels in the middle: factors within range, and nothing else changes."""
    levels = torch.tensor([90, 110, 130, 140], dtype=torch.uint8)
    face = levels.repeat_interleave(12)[None, None].expand(500, 48, 48)
    mean = levels.float().mean()
    for ranges in ({"brightness": 0.2}, {"contrast": 0.2}):
        out = augment(face, 48, with_policy(monkeypatch, **ranges), seeded())[:, 24, 6::12]
        zero = 0.0 if "brightness" in ranges else mean
        factors = (out - zero) / (levels.float() - zero)
        assert torch.allclose(factors, factors[:, :1].expand_as(factors), atol=1e-3)
        assert 0.8 - 1e-3 <= factors.min() < 0.82
        assert 1.18 < factors.max() <= 1.2 + 1e-3
        assert len(factors[:, 0].unique()) > 450


def test_brightness_is_clipped_and_leaves_the_fill(monkeypatch: pytest.MonkeyPatch) -> None:
    white = torch.full((200, 48, 48), 250, dtype=torch.uint8)
    out = augment(white, 48, with_policy(monkeypatch, brightness=0.2, shift=0.2), seeded())
    assert out.max() == pytest.approx(255)
    assert (out == FILL).any()


def test_noise_has_the_stated_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    gray = torch.full((400, 48, 48), 120, dtype=torch.uint8)
    out = augment(gray, 40, with_policy(monkeypatch, noise=10, apply=0.5), seeded())
    spread = (out - 120).std(dim=(1, 2))
    assert spread.max() < 10.5
    assert (spread < 1e-3).float().mean() == pytest.approx(0.5, abs=0.08)
    assert spread[spread > 1e-3].mean() == pytest.approx(5, abs=0.7)
    assert (out - 120).mean().abs() < 0.1


def test_generator_alone_decides() -> None:
    batch = faces(8)
    for policy in sorted(set(POLICIES) - {"none"}):
        first = augment(batch, 40, policy, seeded(5))
        torch.manual_seed(99)
        assert torch.equal(first, augment(batch, 40, policy, seeded(5)))
        assert not torch.equal(first, augment(batch, 40, policy, seeded(6)))


def test_unknown_policy() -> None:
    with pytest.raises(UsageError, match="strong"):
        augment(faces(1), 40, "stronk", seeded())


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("light", {"scale": 0.1, "shift": 0.04, "degrees": 10, "flip": 0.5, "jitter": True}),
        ("strong", {"scale": 0.2, "shift": 0.06, "degrees": 15, "flip": 0.5, "erase": 0.5, "jitter": True}),
        (
            "atasoy",
            {
                **{"scale": 0.1, "shift": 0.04, "degrees": 10, "flip": 0.5, "jitter": True},
                **{"brightness": 0.2, "contrast": 0.2},
            },
        ),
        ("pazos", {"shift": 0.2, "degrees": 5, "flip": 0.5, "shear": 10}),
        ("group14", {"scale": 0.1, "shift": 0.04, "flip": 0.5, "jitter": True, "brightness": 0.2}),
        ("gaballa", {"degrees": 10, "flip": 0.5, "apply": 0.5, "noise": 10}),
    ],
)
def test_numbers_of_the_policies_are_those_of_the_documents(name: str, numbers: dict) -> None:
    """The table of docs/training.md; what it does not name is off, and each map is always drawn."""
    off = {
        **dict.fromkeys(("scale", "shift", "degrees", "flip", "erase", "shear", "brightness", "contrast", "noise"), 0),
        **{"apply": 1, "jitter": False, "ten_crops": False, "largest": 0.2},
    }
    assert asdict(POLICIES[name]) == {**off, **numbers}
