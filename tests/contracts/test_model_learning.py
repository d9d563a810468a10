"""Every member learns 64 faces by heart: enough capacity, and gradients that lead somewhere."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ensemble_fer.models import MODELS, Member
from tests.contracts.members import SETTINGS, crops_of, drawn, settle, small

STEPS = 60
FROZEN = "vit_base_patch16_224"


@pytest.mark.parametrize("name", sorted(set(MODELS) - {FROZEN}))
def test_learns_64_faces_by_heart(name: str) -> None:
    """By the training loss itself, auxiliary classifiers included; the end is scored in evaluation."""
    member = small(name)
    faces, labels = drawn()
    crops = crops_of(member, faces)
    optimizer = adam(member, name)
    seen: list[Tensor] = []

    def loss_of(logits: Tensor, targets: Tensor) -> Tensor:
        seen.append(logits.detach())
        return nn.functional.cross_entropy(logits, targets)

    first = None
    for _ in range(STEPS):
        seen.clear()
        loss = member.train().loss(crops, labels, loss_of)
        right = int((seen[0].argmax(1) == labels).sum())
        first = right if first is None else first
        if right == len(labels):
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert first is not None
    assert first < 32, "the faces were known before"
    # While weights move, running statistics lag behind them.
    assert scored(settle(member, faces)) == len(labels)


def test_the_transformer_learns_64_faces_by_heart_with_its_last_block() -> None:
    """As system B trains it: embedding and eleven blocks frozen. What these make of the faces stays the same, so it is
    computed once and only the rest is run at each step; the end is scored by the whole member."""
    member = small(FROZEN)
    labels = drawn()[1]
    member.freeze(12)
    net = member.body
    tokens: list[Tensor] = []
    hook = net.blocks[11].register_forward_pre_hook(lambda _, given: tokens.append(given[0].detach()))
    assert scored(member.eval()) < 32
    hook.remove()
    optimizer = adam(member, FROZEN)
    for _ in range(STEPS):
        logits = net.forward_head(net.norm(net.blocks[11](tokens[0].clone())))
        if bool((logits.argmax(1) == labels).all()):
            break
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step()
    assert scored(member) == len(labels)


def adam(member: Member, name: str) -> torch.optim.Adam:
    """Adam with the member's rates of head and body."""
    setting = SETTINGS[name]
    head = {id(parameter) for parameter in member.head_parameters}
    body = [parameter for parameter in member.parameters() if id(parameter) not in head]
    groups = [{"params": body}, {"params": member.head_parameters, "lr": setting.rate * setting.head}]
    return torch.optim.Adam(groups, setting.rate)


def scored(member: Member) -> int:
    """How many of the 64 faces get their label."""
    faces, labels = drawn()
    with torch.no_grad():
        return int((member(faces).argmax(1) == labels).sum())
