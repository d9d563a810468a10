"""Schedules against PyTorch's own, stepped naively, and against what they have to keep."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler

from ensemble_fer import config
from ensemble_fer.config import Recipe
from ensemble_fer.train.schedules import SCHEDULES, share_of

EPOCH_STEPS = 8  # a power of two, so that a fraction of an epoch is exact


def reference(kind: Any, **settings: Any) -> tuple[torch.optim.Optimizer, Any]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    return optimizer, kind(optimizer, **settings)


def share(optimizer: torch.optim.Optimizer) -> float:
    return optimizer.param_groups[0]["lr"]


def test_recipes_know_the_same_names() -> None:
    assert set(config.SCHEDULES) == set(SCHEDULES)


@pytest.mark.parametrize(("factor", "patience"), [(0.75, 5), (0.5, 3), (0.1, 0)])
def test_plateau_agrees_with_torch(factor: float, patience: int) -> None:
    scores = [0.1, 0.2, 0.15, 0.15, 0.2, 0.1, 0.1, 0.1, 0.3, *[0.3] * 14, 0.4, *[0.1] * 8]
    recipe = Recipe(schedule="plateau", plateau_factor=factor, plateau_patience=patience, epochs=100)
    optimizer, scheduler = reference(
        lr_scheduler.ReduceLROnPlateau,
        mode="max",
        factor=factor,
        patience=patience,
        threshold=0.0,
        threshold_mode="abs",
        eps=0.0,
    )
    for n, score in enumerate(scores, 1):
        optimizer.step()
        scheduler.step(score)
        assert share_of(recipe, float(n), scores[:n]) == pytest.approx(share(optimizer))
    assert share(optimizer) < 1


@pytest.mark.parametrize(("first", "growth"), [(10, 1), (3, 2), (1, 3)])
def test_restarts_agree_with_torch(first: int, growth: int) -> None:
    recipe = Recipe(schedule="cosine_restarts", restart_epochs=first, restart_growth=float(growth), epochs=50)
    optimizer, scheduler = reference(lr_scheduler.CosineAnnealingWarmRestarts, T_0=first, T_mult=growth)
    for step in range(50 * EPOCH_STEPS):
        optimizer.step()
        scheduler.step(step / EPOCH_STEPS)
        assert share_of(recipe, step / EPOCH_STEPS, []) == pytest.approx(share(optimizer), abs=1e-9)


def test_restarts_may_grow_by_a_fraction() -> None:
    """Cycles of 4, 6, 9, 13.5 epochs start at 0, 4, 10, 19 and 32.5."""
    recipe = Recipe(schedule="cosine_restarts", restart_epochs=4, restart_growth=1.5, epochs=60)
    for start, length in ((0, 4), (4, 6), (10, 9), (19, 13.5)):
        assert share_of(recipe, start, []) == 1
        assert share_of(recipe, start + length / 2, []) == pytest.approx(0.5)
        assert share_of(recipe, start + length - 0.01, []) < 1e-4
    assert share_of(recipe, 32.5, []) == 1


def test_step_agrees_with_torch() -> None:
    recipe = Recipe(schedule="step", step_epochs=20, step_factor=0.5, epochs=90)
    optimizer, scheduler = reference(lr_scheduler.StepLR, step_size=20, gamma=0.5)
    for epoch in range(90):
        assert share_of(recipe, epoch, []) == pytest.approx(share(optimizer))
        assert share_of(recipe, epoch + 0.99, []) == pytest.approx(share(optimizer))
        optimizer.step()
        scheduler.step()


def test_cosine_agrees_with_torch() -> None:
    recipe = Recipe(schedule="cosine", epochs=30)
    optimizer, scheduler = reference(lr_scheduler.CosineAnnealingLR, T_max=30 * EPOCH_STEPS)
    for step in range(30 * EPOCH_STEPS):
        assert share_of(recipe, step / EPOCH_STEPS, []) == pytest.approx(share(optimizer), abs=1e-9)
        optimizer.step()
        scheduler.step()


def test_one_cycle_worked_by_hand() -> None:
    """Up from 0.04 to 1 over the first 15 of 100 epochs, down to nothing over the other 85."""
    recipe = Recipe(schedule="one_cycle", epochs=100)
    known = {0: 0.04, 7.5: 0.52, 15: 1.0, 57.5: 0.5, 91.5: 0.1, 99.99: 0.001}
    for epoch, expected in known.items():
        assert share_of(recipe, epoch, []) == pytest.approx(expected)


def test_constant() -> None:
    assert {share_of(Recipe(schedule="constant"), e / 7, [0.1] * (e // 7)) for e in range(140)} == {1.0}


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    return Recipe(
        schedule=draw(st.sampled_from(sorted(SCHEDULES))),
        epochs=draw(st.integers(2, 400)),
        plateau_factor=draw(st.floats(0.05, 0.95)),
        plateau_patience=draw(st.integers(0, 12)),
        step_epochs=draw(st.integers(1, 60)),
        step_factor=draw(st.floats(0.5, 0.95)),
        restart_epochs=draw(st.integers(1, 60)),
        restart_growth=draw(st.sampled_from([1.0, 1.5, 2.0, 3.0])),
    )


# The last step of a training of ten million begins as close to its end.
@given(recipes(), st.floats(0, 1 - 1e-7), st.floats(0, 0.9), st.lists(st.floats(0, 1), max_size=40))
@settings(max_examples=300, deadline=None)
def test_above_zero_and_at_most_one(recipe: Recipe, progress: float, warm: float, scores: list[float]) -> None:
    recipe = replace(recipe, warmup_epochs=warm * recipe.epochs)
    value = share_of(recipe, min(progress * recipe.epochs, math.nextafter(recipe.epochs, 0)), scores)
    assert 0 < value <= 1


@given(recipes(), st.floats(0.1, 0.9))
@settings(max_examples=200, deadline=None)
def test_warm_up_rises_to_where_the_schedule_starts(recipe: Recipe, warm: float) -> None:
    recipe = replace(recipe, warmup_epochs=warm * recipe.epochs)
    end = recipe.warmup_epochs
    scores = [0.1] * int(end)
    rising = [share_of(recipe, end * (i / 10), scores) for i in range(11)]
    steps = [b - a for a, b in itertools.pairwise(rising)]
    assert rising[0] < 0.011
    assert steps == pytest.approx([steps[0]] * 10)
    assert share_of(recipe, end * (1 - 1e-9), scores) == pytest.approx(share_of(recipe, end, scores), abs=1e-6)
    assert rising[-1] == pytest.approx(share_of(replace(recipe, warmup_epochs=0.0), 0.0, []), abs=1e-9)


@given(recipes(), st.integers(1, 50), st.floats(0, 1, exclude_max=True))
@settings(max_examples=200, deadline=None)
def test_after_warm_up_it_runs_over_the_epochs_left(recipe: Recipe, warm: int, progress: float) -> None:
    assume(warm < recipe.epochs)
    epoch = progress * (recipe.epochs - warm)
    scores = [((i * 37) % 11) / 11 for i in range(int(epoch))]
    shorter = replace(recipe, epochs=recipe.epochs - warm)
    warmed = replace(recipe, warmup_epochs=float(warm))
    assume(epoch + warm - warm == epoch)
    assert share_of(warmed, epoch + warm, [0.99] * warm + scores) == pytest.approx(share_of(shorter, epoch, scores))
