"""Depthwise convolutions whose gradients are slow in bfloat16 are computed in float32, no less exact, and only they."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ensemble_fer.models import build
from ensemble_fer.train import convolutions
from ensemble_fer.train.convolutions import FastConvolutions, _in_bfloat16, slow_in_bfloat16


def depthwise(kernel: int, stride: int = 1, channels: int = 24, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=bias)


def is_slow(layer: nn.Conv2d, images: torch.Tensor) -> bool:
    given = images, layer.weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups
    return _in_bfloat16(*given) and slow_in_bfloat16(*given)


@pytest.mark.parametrize(("kernel", "stride", "bias"), [(3, 2, False), (5, 1, True), (5, 2, False), (7, (1, 2), True)])
def test_values_and_gradients_are_at_least_as_exact(kernel: int, stride: int, bias: bool) -> None:
    torch.manual_seed(0)
    layer = depthwise(kernel, stride, bias=bias).to(memory_format=torch.channels_last)
    images = torch.randn(8, 24, 12, 12).bfloat16().to(memory_format=torch.channels_last).requires_grad_()
    parameters = list(layer.parameters())
    offs = []
    for context in (FastConvolutions(), nullcontext()):
        with torch.autocast("cpu", torch.bfloat16), context:
            found = layer(images)
        assert found.dtype == torch.bfloat16
        gradients = torch.autograd.grad(found.float().square().sum(), [images, *parameters])
        assert [gradient.dtype for gradient in gradients] == [torch.bfloat16, *[torch.float32] * len(parameters)]
        copy = depthwise(kernel, stride, bias=bias).double()
        copy.load_state_dict(layer.state_dict())
        same = images.detach().double().requires_grad_()
        exact = copy(same)
        wanted = torch.autograd.grad(exact.square().sum(), [same, *copy.parameters()])
        pairs = zip([found, *gradients], [exact, *wanted], strict=True)
        offs.append([((a.double() - b).square().mean().sqrt() / b.square().mean().sqrt()).item() for a, b in pairs])
    assert max(offs[0]) < 0.01
    assert all(fast <= 1.1 * plain for fast, plain in zip(*offs, strict=True)), offs


def test_only_those_that_are_slow() -> None:
    images = torch.randn(2, 24, 12, 12)
    wide = depthwise(5)
    assert not is_slow(wide, images), "float32 has good routines"
    with torch.autocast("cpu", torch.bfloat16):
        assert is_slow(wide, images)
        assert is_slow(depthwise(3, 2), images)
        assert not is_slow(depthwise(3), images)
        assert not is_slow(nn.Conv2d(24, 48, 5, groups=24), images), "two maps of each channel"
        assert not is_slow(nn.Conv2d(24, 24, 5, groups=12), images)
        assert not is_slow(nn.Conv2d(24, 24, 5, 2), images)
        assert not is_slow(nn.Conv2d(1, 1, 5), images[:, :1]), "one channel is not depthwise"
        assert not is_slow(wide.double(), images.double()), "autocast leaves float64 as it is"
        wide.float()
        with torch.no_grad():
            assert not is_slow(wide, images)
    with torch.autocast("cpu", torch.float16):
        assert not is_slow(wide, images)


def test_a_member_with_such_layers_trains_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients of a whole network differ from those without by what bfloat16 rounds anyway."""
    taken = []
    whole = convolutions._in_float32
    monkeypatch.setattr(
        convolutions, "_in_float32", lambda *args, **more: taken.append(args[2].shape) or whole(*args, **more)
    )
    torch.manual_seed(0)
    member = build("mobilenet_compact", 0.0).to(memory_format=torch.channels_last).train()
    crops, labels = torch.rand(16, member.crop, member.crop) * 255, torch.arange(16) % 7
    found = []
    for context, reduced in ((FastConvolutions(), True), (nullcontext(), True), (nullcontext(), False)):
        member.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=reduced), context:
            loss = member.loss(crops, labels, cross_entropy)
        loss.backward()
        found.append(torch.cat([p.grad.flatten() for p in member.parameters() if p.grad is not None]))
    assert [tuple(shape) for shape in taken] == [(144, 1, 3, 3), (192, 1, 3, 3)], "its two with a stride, once each"
    fast, plain, exact = found
    assert not torch.equal(fast, plain)
    assert (fast - exact).norm() <= 1.2 * (plain - exact).norm()
