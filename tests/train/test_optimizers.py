"""Schedules against what their papers say; weight decay where it belongs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ensemble_fer import config
from ensemble_fer.config import Recipe
from ensemble_fer.models import build
from ensemble_fer.train.optimizers import OPTIMIZERS, SCHEDULES, optimizer_of


def test_recipes_know_the_same_names() -> None:
    assert set(config.OPTIMIZERS) == set(OPTIMIZERS)
    assert set(config.SCHEDULES) == set(SCHEDULES)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_rates_stay_between_zero_and_the_given_one(name: str) -> None:
    values = [SCHEDULES[name](p / 200, [0.1, 0.2]) for p in range(201)]
    assert max(values) <= 1.0
    assert min(values) >= 0.0


def test_one_cycle_peaks_after_the_warm_up() -> None:
    values = [SCHEDULES["one_cycle"](p / 1000, []) for p in range(1001)]
    assert values.index(max(values)) == 150
    assert values[0] < 0.05
    assert values[-1] <= 1e-3


def test_plateau_agrees_with_torch() -> None:
    """torch's scheduler with mode max, factor 0.75 and patience 5 gives the same rates."""
    scores = [0.1, 0.2, 0.15, 0.15, 0.2, 0.1, 0.1, 0.1, 0.3, *[0.3] * 14, 0.4, *[0.1] * 8]
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.75, patience=5, threshold=0.0, threshold_mode="abs"
    )
    for n, score in enumerate(scores, 1):
        optimizer.step()
        reference.step(score)
        assert SCHEDULES["plateau"](0.0, scores[:n]) == pytest.approx(optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_decay_on_weights_only(name: str) -> None:
    member = build("compact")
    optimizer = optimizer_of(Recipe(optimizer=name, weight_decay=0.01), member)
    decayed, plain = optimizer.param_groups
    assert {p.ndim for p in decayed["params"]} == {2, 4}
    assert {p.ndim for p in plain["params"]} == {1}
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.01, 0.0)
    assert len(decayed["params"]) + len(plain["params"]) == len(list(member.parameters()))
