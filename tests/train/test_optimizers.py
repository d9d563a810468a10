"""Groups, steps in one pass against plain ones, thawing, resuming to the bit, Muon against its definition."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from ensemble_fer import config
from ensemble_fer.config import Recipe
from ensemble_fer.models import Member, build
from ensemble_fer.train.checkpoint import State, load_checkpoint, save_checkpoint
from ensemble_fer.train.muon import Muon, orthogonal
from ensemble_fer.train.optimizers import OPTIMIZERS, groups_of, optimizer_of

NAMES = sorted(OPTIMIZERS)
RATES = {"sgd": 0.05, "nesterov": 0.05, "asgd": 0.3, "adadelta": 1.0, "adagrad": 0.02, "muon": 0.02}


def recipe_of(name: str, **keys: Any) -> Recipe:
    return Recipe(optimizer=name, learning_rate=RATES.get(name, 0.003), weight_decay=0.01, **keys)


def small(seed: int = 0) -> Member:
    """A body with all that matters here: convolutions, one of them by channel, norms, a wide and a tall matrix."""
    torch.manual_seed(seed)
    body = nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, bias=False),
        nn.BatchNorm2d(8),
        nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU()),
        nn.Flatten(),
        nn.Linear(300, 16),
        nn.Sequential(nn.ReLU(), nn.Linear(16, 7)),
    )
    return Member(body, 20).to(memory_format=torch.channels_last)


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.rand(16, 20, 20, generator=generator) * 255, torch.randint(0, 7, (16,), generator=generator)


def go(member: Member, optimizer: Optimizer, steps: range) -> None:
    member.train()
    for step in steps:
        crops, labels = batch(step)
        optimizer.zero_grad(set_to_none=True)
        member.loss(crops, labels, cross_entropy).backward()
        optimizer.step()


def weights(member: Member) -> Tensor:
    return torch.cat([p.detach().flatten() for p in member.parameters()])


def test_recipes_know_the_same_names() -> None:
    assert set(config.OPTIMIZERS) == set(OPTIMIZERS)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_in_one_group(name: str) -> None:
    member = build("compact", 0.1)
    member.freeze(2)
    optimizer = optimizer_of(recipe_of(name, head_rate=10.0), member)
    grouped = [p for group in optimizer.param_groups for p in group["params"]]
    assert sorted(map(id, grouped)) == sorted(map(id, member.parameters()))
    head = {id(p) for p in member.head_parameters}
    assert 0 < len(head) < len(grouped)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert group["scale"] == (10.0 if id(parameter) in head else 1.0)
            assert group["weight_decay"] == (0.01 if parameter.ndim > 1 else 0.0)


@pytest.mark.parametrize("name", NAMES)
def test_a_parameter_used_twice_is_in_one_group(name: str) -> None:
    member = small()
    member.body[5][1].weight = nn.Parameter(member.body[4].weight[:7, :16].detach().clone())
    member.body.append(nn.Linear(16, 7))
    member.body[6].weight = member.body[5][1].weight
    grouped = [p for group in groups_of(recipe_of(name), member) for p in group["params"]]
    assert len(grouped) == len({id(p) for p in grouped})


@pytest.mark.parametrize("name", NAMES)
def test_each_group_has_a_rate_of_its_own(name: str) -> None:
    member = small()
    before = copy.deepcopy(member)
    optimizer = optimizer_of(recipe_of(name), member)
    head = {id(p) for p in member.head_parameters}
    for group in optimizer.param_groups:
        if id(group["params"][0]) not in head:
            group["lr"] = 0.0
    go(member, optimizer, range(2))
    for new, old in zip(member.parameters(), before.parameters(), strict=True):
        assert torch.equal(new, old) == (id(new) not in head)


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_falls(name: str) -> None:
    member = small()
    crops, labels = batch(0)
    optimizer = optimizer_of(recipe_of(name), member)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = member.loss(crops, labels, cross_entropy)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.75 * losses[0]


PLAIN: dict[str, Any] = {
    "sgd": lambda g: torch.optim.SGD(g, 0.05, momentum=0.9, foreach=False),
    "nesterov": lambda g: torch.optim.SGD(g, 0.05, momentum=0.9, nesterov=True, foreach=False),
    "adam": lambda g: torch.optim.Adam(g, 0.003, foreach=False),
    "amsgrad": lambda g: torch.optim.Adam(g, 0.003, amsgrad=True, foreach=False),
    "adamw": lambda g: torch.optim.AdamW(g, 0.003, foreach=False),
    "adagrad": lambda g: torch.optim.Adagrad(g, 0.02, foreach=False),
}


@pytest.mark.parametrize("name", sorted(PLAIN))
def test_one_pass_gives_what_plain_steps_give(name: str) -> None:
    """With channels last in memory and stages that thaw, for both of which fused steps need help."""
    ends = []
    for fused in (True, False):
        member = small()
        recipe = recipe_of(name)
        optimizer = optimizer_of(recipe, member) if fused else PLAIN[name](groups_of(recipe, member))
        member.freeze(2)
        go(member, optimizer, range(3))
        member.freeze(0)
        go(member, optimizer, range(3, 6))
        ends.append(weights(member))
    assert torch.allclose(*ends, rtol=0, atol=2e-6)


def test_momentum_of_zero() -> None:
    member, reference = small(), small()
    go(member, optimizer_of(recipe_of("sgd", momentum=0.0), member), range(3))
    groups = groups_of(recipe_of("sgd"), reference)
    go(reference, torch.optim.SGD(groups, 0.05), range(3))
    assert torch.allclose(weights(member), weights(reference), atol=1e-6)


@pytest.mark.parametrize("thaw", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_resumed_to_the_bit(name: str, thaw: bool, tmp_path: Path) -> None:
    """Three steps, a checkpoint, two more with other objects; frozen parameters have no state yet."""

    def begin(seed: int) -> tuple[Member, Optimizer]:
        member = small(seed)
        member.freeze(2)
        return member, optimizer_of(recipe_of(name), member)

    def finish(member: Member, optimizer: Optimizer) -> None:
        if thaw:
            member.freeze(0)
        go(member, optimizer, range(3, 5))

    unbroken, optimizer = begin(0)
    go(unbroken, optimizer, range(3))
    save_checkpoint(tmp_path, unbroken, optimizer, State(step=3))
    finish(unbroken, optimizer)

    resumed, other = begin(1)
    state = load_checkpoint(tmp_path, resumed, other)
    assert state is not None
    assert state.step == 3
    finish(resumed, other)
    assert torch.equal(weights(resumed), weights(unbroken))
    for group, twin in zip(optimizer.param_groups, other.param_groups, strict=True):
        for p, q in zip(group["params"], twin["params"], strict=True):
            assert set(optimizer.state[p]) == set(other.state[q])
            for key, value in optimizer.state[p].items():
                assert torch.equal(torch.as_tensor(value), torch.as_tensor(other.state[q][key])), key


@pytest.mark.parametrize("shape", [(6, 40), (40, 6), (12, 12), (1, 9)])
def test_orthogonal_brings_singular_values_near_one(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    u, _ = np.linalg.qr(rng.normal(size=(shape[0], min(shape))))
    v, _ = np.linalg.qr(rng.normal(size=(shape[1], min(shape))))
    values = np.geomspace(1, 0.1, min(shape))
    out = orthogonal(torch.tensor((u * values) @ v.T)).numpy()
    assert out.shape == shape
    # The same singular vectors, other values.
    inside = u.T @ out @ v
    assert np.abs(inside - np.diag(np.diag(inside))).max() < 1e-6
    assert np.diag(inside).min() > 0.65
    assert np.diag(inside).max() < 1.25


def test_orthogonal_of_nothing() -> None:
    assert torch.equal(orthogonal(torch.zeros(3, 4)), torch.zeros(3, 4))


def naive_muon(weight: np.ndarray, gradients: list[np.ndarray], rate: float, momentum: float, decay: float) -> None:
    """The definition, written for one matrix in float64."""
    average = np.zeros_like(weight)
    for gradient in gradients:
        average = momentum * average + (1 - momentum) * gradient
        x = momentum * average + (1 - momentum) * gradient
        x = x / np.sqrt((x**2).sum())
        for _ in range(5):
            x = 3.4445 * x - 4.7750 * (x @ x.T) @ x + 2.0315 * (x @ x.T) @ (x @ x.T) @ x
        weight -= rate * decay * weight + rate * 0.2 * np.sqrt(max(weight.shape)) * x


def test_muon_against_its_definition() -> None:
    rng = np.random.default_rng(0)
    start = rng.normal(size=(4, 3, 3, 3))
    gradients = [rng.normal(size=start.shape) for _ in range(4)]
    parameter = nn.Parameter(torch.tensor(start).to(memory_format=torch.channels_last))
    optimizer = Muon([{"params": [parameter], "matrix": True, "weight_decay": 0.1}], 0.02, 0.9)
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient).to(memory_format=torch.channels_last)
        optimizer.step()
    expected = start.reshape(4, 27).copy()
    naive_muon(expected, [g.reshape(4, 27) for g in gradients], 0.02, 0.9, 0.1)
    assert np.allclose(parameter.detach().reshape(4, 27).numpy(), expected, atol=1e-9)


def test_muon_steps_hidden_matrices_and_adamw_the_rest() -> None:
    member, reference = small(), small()
    recipe = recipe_of("muon")
    groups = groups_of(recipe, member)
    shapes = [tuple(p.shape) for group in groups if group["matrix"] for p in group["params"]]
    assert shapes == [(12, 8, 3, 3), (16, 300)]
    go(member, optimizer_of(recipe, member), range(1))
    go(reference, optimizer_of(replace(recipe, optimizer="adamw"), reference), range(1))
    for new, other in zip(member.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(new, other, atol=1e-7) == (tuple(new.shape) not in shapes)
