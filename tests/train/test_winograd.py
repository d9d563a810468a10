"""Fast convolutions against torch's own in float64, forward and backward, and where they are not taken."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d

from ensemble_fer.models import build
from ensemble_fer.train import winograd
from ensemble_fer.train.convolutions import FastConvolutions
from ensemble_fer.train.toom_cook import POINTS, matrices
from ensemble_fer.train.winograd import best_tile


@pytest.mark.parametrize("side", sorted(POINTS))
def test_matrices_give_sums_of_products(side: int) -> None:
    inputs, weights, outputs = map(np.array, matrices(side))
    rng = np.random.default_rng(side)
    d, g = rng.standard_normal(side + 2), rng.standard_normal(3)
    wanted = [sum(d[i + j] * g[j] for j in range(3)) for i in range(side)]
    assert np.allclose(outputs @ ((weights @ g) * (inputs @ d)), wanted, atol=1e-12)


def off(found: torch.Tensor, exact: torch.Tensor) -> float:
    """Root mean square of the error, in standard deviations of the exact values."""
    return ((found.double() - exact).square().mean().sqrt() / exact.std()).item()


@pytest.mark.parametrize("side", sorted(POINTS))
@pytest.mark.parametrize("shape", [(3, 64, 13, 10), (40, 70, 5, 5), (33, 64, 2, 3), (2, 64, 40, 40)])
def test_values_and_gradients(side: int, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    # Several pieces, the last one smaller.
    monkeypatch.setattr(winograd, "PIECE", 200_000)
    monkeypatch.setattr(winograd, "PIECE_TILES", 9)
    torch.manual_seed(0)
    images = torch.randn(shape).to(memory_format=torch.channels_last).requires_grad_()
    weight, bias = torch.randn(72, shape[1], 3, 3, requires_grad=True), torch.randn(72, requires_grad=True)
    exact = conv2d(images.double(), weight.double(), bias.double(), padding=1)
    found = winograd.Convolution.apply(images, weight, bias, side, winograd.Rooms())
    assert found.shape == exact.shape
    assert off(found, exact) < 1e-5
    above = torch.randn_like(found)
    wanted = torch.autograd.grad((exact * above).sum(), (images, weight, bias))
    for gradient, of in zip(torch.autograd.grad(found, (images, weight, bias), above), wanted, strict=True):
        assert gradient.shape == of.shape
        assert off(gradient, of.double()) < 1e-5


def test_only_the_gradients_that_are_needed() -> None:
    images = torch.randn(8, 64, 10, 10)
    weight = torch.randn(64, 64, 3, 3)
    for wanted in ((True, False), (False, True)):
        given = [tensor.clone().requires_grad_(need) for tensor, need in zip((images, weight), wanted, strict=True)]
        winograd.Convolution.apply(*given, None, 5, winograd.Rooms()).sum().backward()
        assert [tensor.grad is not None for tensor in given] == list(wanted)


@pytest.mark.parametrize("size", [10, 11])
def test_relu_in_place(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows may change the output where it lies; with and without a rest of tiles."""
    monkeypatch.setattr(winograd, "LEAST_PRODUCTS", 0)
    images = torch.randn(32, 64, size, size)
    layers = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(inplace=True))
    wanted = torch.autograd.grad(layers(images).square().sum(), layers[0].weight)[0]
    with FastConvolutions():
        found = layers(images)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(torch.autograd.grad(found.square().sum(), layers[0].weight)[0], wanted, rtol=1e-3, atol=0.05)


def taken(layer: nn.Module, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch, least: float = 0) -> bool:
    """Whether a convolution in the context is computed by tiles."""
    calls = []
    monkeypatch.setattr(winograd, "LEAST_PRODUCTS", least)
    plain = winograd.Convolution.apply
    monkeypatch.setattr(winograd.Convolution, "apply", lambda *args: calls.append(1) or plain(*args))
    with FastConvolutions():
        out = layer(images)
    monkeypatch.undo()
    assert torch.allclose(out, layer(images), atol=1e-4 if out.dtype == torch.float32 else 0.5)
    return bool(calls)


def test_where_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randn(32, 64, 10, 10)
    layer = nn.Conv2d(64, 64, 3, padding=1)
    assert taken(layer, images, monkeypatch)
    assert taken(nn.Conv2d(64, 96, 3, padding=(1, 1), bias=False), images, monkeypatch)
    for other in (
        nn.Conv2d(64, 64, 3, padding=1, stride=2),
        nn.Conv2d(64, 64, 3),
        nn.Conv2d(64, 64, 3, padding=2, dilation=2),
        nn.Conv2d(64, 64, 3, padding=1, groups=2),
        nn.Conv2d(64, 64, 3, padding="same"),
        nn.Conv2d(64, 64, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(64, 64, 5, padding=2),
        nn.Conv2d(64, 16, 3, padding=1),
    ):
        assert not taken(other, images, monkeypatch)
    assert not taken(layer, images[:2], monkeypatch), "too few faces"
    assert not taken(layer, images[:, :, :1, :1], monkeypatch), "nothing gained"
    products = 9 * 32 * 64 * 64 * 100
    assert taken(layer, images, monkeypatch, least=products)
    assert not taken(layer, images, monkeypatch, least=products + 1), "nothing worth saving"
    assert not taken(layer.double(), images.double(), monkeypatch)
    layer.float()
    with torch.no_grad():
        assert not taken(layer, images, monkeypatch)
    with torch.autocast("cpu", torch.bfloat16):
        assert not taken(layer, images, monkeypatch)


def test_the_compact_member_trains_as_before() -> None:
    """Its convolutions are too small to gain, so that its published runs can be made again to the bit."""
    member = build("compact", 0.1).train()
    crops, labels = torch.rand(128, 40, 40) * 255, torch.arange(128) % 7
    losses = []
    for context in (FastConvolutions(), torch.enable_grad()):
        torch.manual_seed(0)
        member.zero_grad()
        with context:
            loss = member.loss(crops, labels, nn.functional.cross_entropy)
        loss.backward()
        losses.append([loss.detach(), *(p.grad for p in member.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*losses, strict=True))


def test_tiles_for_the_maps_of_members() -> None:
    # 40-pixel crops, halved: tiles of 5 fit without a rest. 48-pixel ones: tiles of 6.
    assert [best_tile(64, side, side)[0] for side in (40, 20, 10)] == [5, 5, 5]
    assert [best_tile(64, side, side)[0] for side in (48, 24, 12)] == [6, 6, 6]
    assert best_tile(64, 3, 3)[0] == 3
    assert best_tile(10**6, 5, 5)[1] == pytest.approx(225 / 49, rel=1e-3)
    # The fewer faces, the more the weights count, which are the fewest for small tiles.
    assert best_tile(16, 6, 6)[0] == 3
    assert best_tile(1, 6, 6)[1] < 1


def test_training_steps_end_close_to_those_of_direct_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "LEAST_PRODUCTS", 0)

    def trained(fast: bool) -> list[torch.Tensor]:
        torch.manual_seed(3)
        body = nn.Sequential(
            nn.Conv2d(1, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.Flatten(), nn.Linear(6400, 7),
        )  # fmt: skip
        optimizer = torch.optim.SGD(body.parameters(), 0.01)
        images, labels = torch.randn(16, 1, 20, 20), torch.arange(16) % 7
        context = FastConvolutions()
        for _ in range(3):
            with context if fast else torch.enable_grad():
                loss = nn.functional.cross_entropy(body(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return [parameter.detach() for parameter in body.parameters()]

    changed = 0
    for one, other in zip(trained(True), trained(False), strict=True):
        assert torch.allclose(one, other, atol=2e-5)
        changed += not torch.equal(one, other)
    assert changed, "the fast ones were used"
    for one, other in zip(trained(True), trained(True), strict=True):
        assert torch.equal(one, other), "repeatable to the bit"
