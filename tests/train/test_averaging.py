"""The moving average of weights against a loop over numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from ensemble_fer.models import Member, build
from ensemble_fer.train.averaging import Average


def member_of(seed: int = 0) -> Member:
    torch.manual_seed(seed)
    return build("compact", 0.1).to(memory_format=torch.channels_last)


def disturb(member: Member, step: int) -> None:
    """Other weights and statistics, as after a step of training."""
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for tensor in member.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.1)
            else:
                tensor.add_(1)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_against_a_loop(decay: float) -> None:
    member = member_of()
    average = Average(member, decay)
    expected = {k: v.double().numpy().copy() for k, v in member.state_dict().items()}
    for t in range(12):
        disturb(member, t)
        average.update(member)
        kept = min(decay, (1 + t) / (10 + t))
        for name, tensor in member.state_dict().items():
            expected[name] = kept * expected[name] + (1 - kept) * tensor.double().numpy()
    for name, tensor in average.model.state_dict().items():
        if tensor.is_floating_point():
            assert np.allclose(tensor.numpy(), expected[name], atol=1e-5), name
        else:
            assert torch.equal(tensor, member.state_dict()[name]), name
    assert any("running_var" in name for name in expected)
    assert any(not tensor.is_floating_point() for tensor in member.state_dict().values())


def test_the_first_weights_are_soon_forgotten() -> None:
    """With decay 0.999 alone, a hundred steps would leave 90 % of them; with its warm-up next to nothing is left."""
    member = member_of()
    for parameter in member.parameters():
        nn.init.ones_(parameter)
    average = Average(member, 0.999)
    for parameter in member.parameters():
        nn.init.zeros_(parameter)
    for _ in range(100):
        average.update(member)
    assert max(p.max().item() for p in average.model.parameters()) < 1e-6


def test_what_does_not_change_stays_to_the_bit() -> None:
    """Frozen stages are the same in the average."""
    member = member_of()
    average = Average(member, 0.97)
    for _ in range(50):
        average.update(member)
    for name, tensor in average.model.state_dict().items():
        assert torch.equal(tensor, member.state_dict()[name])


def test_the_member_is_left_alone_and_the_average_scores() -> None:
    member = member_of().train()
    before = {k: v.clone() for k, v in member.state_dict().items()}
    average = Average(member, 0.9)
    average.update(member)
    assert all(torch.equal(v, before[k]) for k, v in member.state_dict().items())
    assert member.training
    assert all(p.requires_grad for p in member.parameters())
    assert not average.model.training
    assert not any(p.requires_grad for p in average.model.parameters())
    faces = torch.randint(0, 256, (2, 48, 48), dtype=torch.uint8)
    assert torch.equal(average.model(faces), member.eval()(faces))


def test_resumed_to_the_bit() -> None:
    member = member_of()
    unbroken = Average(member, 0.9)
    for step in range(3):
        disturb(member, step)
        unbroken.update(member)
    state = load(save({k: v.contiguous() for k, v in unbroken.state().items()}))
    resumed = Average(member_of(1), 0.9)
    resumed.load(state)
    for step in range(3, 6):
        disturb(member, step)
        unbroken.update(member)
        resumed.update(member)
    assert resumed.state().keys() == unbroken.state().keys()
    for name, tensor in unbroken.state().items():
        assert torch.equal(resumed.state()[name], tensor), name
