"""Mixup and cutmix against naive references: shares are exactly what a picture shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ensemble_fer.train.mixing import mix, soften

N = 24


def batch(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    crops = torch.rand(N, *(shape or (40, 40)), generator=generator) * 255
    return crops, torch.randint(0, 7, (N,), generator=generator)


def naive(crops: np.ndarray, labels: np.ndarray, seed: int, alpha: float, cut: bool) -> tuple[np.ndarray, np.ndarray]:
    """One pair after the other, from the same numbers of chance."""
    rng = np.random.default_rng(seed)
    other, share = rng.permutation(N), rng.beta(alpha, alpha, N)
    height, width = crops.shape[1:3]
    middles = [rng.integers(0, side, N) for side in (height, width)] if cut else []
    made, shares = [], []
    for i, j in enumerate(other):
        picture, keep = crops[i].copy(), share[i]
        if cut:
            root = np.sqrt(1 - keep)
            top, bottom = middles[0][i] - int(height * root) // 2, middles[0][i] + int(height * root) // 2
            left, right = middles[1][i] - int(width * root) // 2, middles[1][i] + int(width * root) // 2
            top, left, bottom, right = max(top, 0), max(left, 0), min(bottom, height), min(right, width)
            picture[top:bottom, left:right] = crops[j][top:bottom, left:right]
            keep = 1 - (bottom - top) * (right - left) / (height * width)
        else:
            picture = keep * crops[i] + (1 - keep) * crops[j]
        row = np.zeros(7)
        row[labels[i]] += keep
        row[labels[j]] += 1 - keep
        made.append(picture)
        shares.append(row)
    return np.stack(made), np.stack(shares)


@pytest.mark.parametrize("shape", [(40, 40), (12, 10), (40, 40, 3)])
@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_against_naive(kind: str, alpha: float, shape: tuple[int, ...]) -> None:
    crops, labels = batch(*shape)
    made, shares = mix(crops, labels, np.random.default_rng(7), **{kind: alpha})
    wanted, wanted_shares = naive(crops.numpy(), labels.numpy(), 7, alpha, kind == "cutmix")
    assert made.shape == crops.shape
    assert (made.dtype, shares.dtype, shares.shape) == (torch.float32, torch.float32, (N, 7))
    assert np.allclose(made.numpy(), wanted, atol=1e-3)
    assert np.allclose(shares.numpy(), wanted_shares, atol=1e-7)
    if kind == "cutmix":
        assert np.array_equal(made.numpy(), wanted), "whole pixels, nothing rounded"


def test_shares_of_cutmix_are_those_of_pixels() -> None:
    """Each picture one flat colour of its own: counting pixels gives the share."""
    colours = torch.arange(N, dtype=torch.float32)
    crops = colours[:, None, None].expand(N, 40, 40).contiguous()
    made, shares = mix(crops, torch.arange(N) % 7, np.random.default_rng(3), cutmix=1.0)
    seen = 0
    for i in range(N):
        own = (made[i] == colours[i]).float().mean().item()
        for label in range(7):
            pixels = (made[i].long() % 7 == label).float().mean().item()
            assert shares[i, label].item() == pytest.approx(pixels, abs=1e-6)
        seen += own < 1
    assert seen > N / 2


def test_each_pair_has_its_own_draw() -> None:
    crops = torch.zeros(N, 40, 40)
    labels = torch.arange(N) % 7
    for kind in ("mixup", "cutmix"):
        shares = mix(crops, labels, np.random.default_rng(0), **{kind: 1.0})[1]
        assert len({round(v, 5) for v in shares.amax(1).tolist()}) > N / 2


def test_shares_sum_to_one_and_votes_are_mixed_too() -> None:
    crops, labels = batch()
    votes = torch.rand(N, 7, generator=torch.Generator().manual_seed(2))
    votes /= votes.sum(1, keepdim=True)
    for kind in ("mixup", "cutmix"):
        for given in (labels, votes):
            shares = mix(crops, given, np.random.default_rng(5), **{kind: 0.4})[1]
            assert torch.allclose(shares.sum(1), torch.ones(N), atol=1e-6)
            assert shares.min() >= 0
    hard = mix(crops, soften(labels), np.random.default_rng(5), mixup=0.4)[1]
    assert torch.equal(hard, mix(crops, labels, np.random.default_rng(5), mixup=0.4)[1])


def test_with_both_each_batch_takes_one() -> None:
    crops = torch.stack([torch.full((8, 8), float(i)) for i in range(N)])
    cut = 0
    for seed in range(200):
        made = mix(crops, torch.zeros(N, dtype=torch.int64), np.random.default_rng(seed), mixup=1.0, cutmix=1.0)[0]
        cut += bool((made == made.round()).all())
    assert 70 < cut < 130


def test_off() -> None:
    crops, labels = batch()
    made, same = mix(crops, labels, np.random.default_rng(0))
    assert made is crops
    assert same is labels


@pytest.mark.parametrize("alpha", [1e-6, 99.0])
def test_extreme_alphas(alpha: float) -> None:
    crops, labels = batch()
    for kind in ("mixup", "cutmix"):
        made, shares = mix(crops, labels, np.random.default_rng(0), **{kind: alpha})
        assert made.isfinite().all()
        assert shares.isfinite().all()
