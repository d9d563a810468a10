"""Convolutions of small maps as products of matrices: the same values and gradients, and only where they gain."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ensemble_fer.models import build
from ensemble_fer.train import convolutions, unrolled
from ensemble_fer.train.convolutions import FastConvolutions
from ensemble_fer.train.unrolled import UnrolledConvolution


def gains(layer: nn.Conv2d, images: torch.Tensor) -> bool:
    return unrolled.gains(images, layer.weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("height", "width"), [(5, 5), (6, 3), (7, 4), (1, 1), (2, 1)])
def test_values_and_gradients_in_double_precision(stride: int, height: int, width: int) -> None:
    """The function is linear in both of what it takes: finite differences are exact."""
    torch.manual_seed(0)
    images = torch.randn(3, 4, height, width, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(5, dtype=torch.float64, requires_grad=True)
    found = UnrolledConvolution.apply(images, weight, bias, stride)
    wanted = torch.conv2d(images, weight, bias, stride=stride, padding=1)
    torch.testing.assert_close(found, wanted)
    given = torch.randn_like(wanted)
    inputs = [images, weight, bias]
    for a, b in zip(*(torch.autograd.grad(out, inputs, given) for out in (found, wanted)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("stride", "bias", "channels_last"), [(1, False, True), (2, True, True), (1, True, False)])
def test_no_less_exact_than_torch(
    monkeypatch: pytest.MonkeyPatch, stride: int, bias: bool, channels_last: bool
) -> None:
    monkeypatch.setattr(convolutions, "_has_amx", lambda: True)
    torch.manual_seed(0)
    shape = torch.channels_last if channels_last else torch.contiguous_format
    layer = nn.Conv2d(128, 96, 3, stride, 1, bias=bias).to(memory_format=shape)
    images = torch.randn(16, 128, 5, 5).to(memory_format=shape).requires_grad_()
    offs = []
    copy = nn.Conv2d(128, 96, 3, stride, 1, bias=bias).double()
    copy.load_state_dict(layer.state_dict())
    for context in (FastConvolutions(), nullcontext()):
        with torch.autocast("cpu", torch.bfloat16), context:
            found = layer(images)
        assert found.dtype == torch.bfloat16
        gradients = torch.autograd.grad(found.float().square().sum(), [images, *layer.parameters()])
        same = images.detach().double().requires_grad_()
        exact = copy(same)
        wanted = torch.autograd.grad(exact.square().sum(), [same, *copy.parameters()])
        pairs = zip([found, *gradients], [exact, *wanted], strict=True)
        offs.append([((a.double() - b).square().mean().sqrt() / b.square().mean().sqrt()).item() for a, b in pairs])
    assert max(offs[0]) < 0.01
    assert all(fast <= 1.3 * plain for fast, plain in zip(*offs, strict=True)), offs


def test_what_comes_out_may_be_changed_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """As vgg16 does, whose convolutions go straight into ReLU."""
    monkeypatch.setattr(convolutions, "_has_amx", lambda: True)
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(128, 8, 3, padding=1), nn.ReLU(inplace=True))
    images = torch.randn(2, 128, 3, 3)
    found = []
    for context in (FastConvolutions(), nullcontext()):
        with torch.autocast("cpu", torch.bfloat16), context:
            found.append(torch.autograd.grad(layers(images).float().sum(), [*layers.parameters()]))
    for fast, plain in zip(*found, strict=True):
        torch.testing.assert_close(fast, plain, atol=0.02, rtol=0.02)


def test_only_where_it_gains() -> None:
    small = torch.randn(2, 128, 7, 7)
    assert gains(nn.Conv2d(128, 8, 3, padding=1), small)
    assert gains(nn.Conv2d(128, 8, 3, 2, 1), torch.randn(2, 128, 14, 14)), "it is what comes out that is small"
    assert not gains(nn.Conv2d(128, 8, 3, padding=1), torch.randn(2, 128, 8, 8))
    assert not gains(nn.Conv2d(64, 64, 3, padding=1), torch.randn(2, 64, 5, 5))
    assert not gains(nn.Conv2d(128, 8, 3), small), "no border"
    assert not gains(nn.Conv2d(128, 8, 3, padding="same"), small)
    assert not gains(nn.Conv2d(128, 8, 3, padding=2, dilation=2), small)
    assert not gains(nn.Conv2d(128, 8, 5, padding=1), small)
    assert not gains(nn.Conv2d(128, 8, 3, (1, 2), 1), small)
    assert not gains(nn.Conv2d(256, 8, 3, padding=1, groups=2), torch.randn(2, 256, 7, 7))


@pytest.mark.parametrize("amx", [True, False])
def test_a_member_trains_the_same_way(monkeypatch: pytest.MonkeyPatch, amx: bool) -> None:
    """Three of resnet14's last four 3x3 convolutions and its last stride, where the processor has AMX; else none."""
    monkeypatch.setattr(convolutions, "_has_amx", lambda: amx)
    taken = []
    whole = convolutions._as_product
    monkeypatch.setattr(convolutions, "_as_product", lambda *args: taken.append(args[1].shape) or whole(*args))
    torch.manual_seed(0)
    member = build("resnet14", 0.0).to(memory_format=torch.channels_last).train()
    crops, labels = torch.rand(16, member.crop, member.crop) * 255, torch.arange(16) % 7
    found = []
    for context, reduced in ((FastConvolutions(), True), (nullcontext(), True), (nullcontext(), False)):
        member.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=reduced), context:
            loss = member.loss(crops, labels, cross_entropy)
        loss.backward()
        found.append(torch.cat([p.grad.flatten() for p in member.parameters() if p.grad is not None]))
    assert [tuple(s[:2]) for s in taken] == ([(256, 128), (256, 256), (256, 256), (256, 256)] if amx else [])
    fast, plain, exact = found
    assert torch.equal(fast, plain) == (not amx)
    assert (fast - exact).norm() <= 1.2 * (plain - exact).norm()
