"""Schedules of the learning rate by name.

Each gives the share of the recipe's ``learning_rate``, above 0 and at most 1, from the epochs done (a fraction within
one) and the select scores of the epochs done. None has a state of its own, so that trainings resume by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ensemble_fer.config import Recipe

RISE = 0.15
"""Share of the training in which ``one_cycle`` rises."""
LOWEST = 0.01
"""Where warm-up begins: a first step at a rate of 0 would be wasted."""


def share_of(recipe: Recipe, epoch: float, scores: Sequence[float]) -> float:
    """Share of the recipe's learning rate.

    Parameters
    ----------
    recipe : Recipe
        With ``warmup_epochs`` the rate first rises linearly to where the schedule starts; the schedule then runs
        over the epochs that are left, and counts epochs and scores from there.
    epoch : float
        Epochs done, 0 to below ``recipe.epochs``.
    scores : sequence of float
        Select macro-F1 of the epochs done.
    """
    schedule, warm = SCHEDULES[recipe.schedule], recipe.warmup_epochs
    if epoch < warm:
        return (LOWEST + (1 - LOWEST) * epoch / warm) * schedule(recipe, 0.0, ())
    return schedule(recipe, epoch - warm, scores[int(warm) :])


def constant(recipe: Recipe, epoch: float, scores: Sequence[float]) -> float:
    """1 throughout."""
    return 1.0


def plateau(recipe: Recipe, epoch: float, scores: Sequence[float]) -> float:
    """Times ``plateau_factor`` after more than ``plateau_patience`` epochs without a better score."""
    share, best, waited = 1.0, -math.inf, 0
    for score in scores:
        if score > best:
            best, waited = score, 0
        else:
            waited += 1
            if waited > recipe.plateau_patience:
                share, waited = share * recipe.plateau_factor, 0
    return share


def cosine(recipe: Recipe, epoch: float, scores: Sequence[float]) -> float:
    """Half a cosine from 1 to nearly 0 (Loshchilov & Hutter 2017, equation 5, one cycle)."""
    return _half_cosine(_progress(recipe, epoch))


def cosine_restarts(recipe: Recipe, epoch: float, scores: Sequence[float]) -> float:
    """Half a cosine over ``restart_epochs``, then again from 1, each cycle ``restart_growth`` times as long as the one
    before (Loshchilov & Hutter 2017, equation 5)."""
    length = float(recipe.restart_epochs)
    if recipe.restart_growth == 1:
        return _half_cosine(epoch % length / length)
    while epoch >= length:
        epoch -= length
        length *= recipe.restart_growth
    return _half_cosine(epoch / length)


def one_cycle(recipe: Recipe, epoch: float, scores: Sequence[float]) -> float:
    """Linear up over the first 15 %, then linear down to nearly 0 (Smith & Topin 2018)."""
    progress = _progress(recipe, epoch)
    if progress < RISE:
        return 0.04 + 0.96 * progress / RISE
    return max(1e-3, (1 - progress) / (1 - RISE))


def step(recipe: Recipe, epoch: float, scores: Sequence[float]) -> float:
    """Times ``step_factor`` after each ``step_epochs``."""
    return recipe.step_factor ** int(epoch / recipe.step_epochs)


SCHEDULES: dict[str, Callable[[Recipe, float, Sequence[float]], float]] = {
    "constant": constant,
    "plateau": plateau,
    "cosine": cosine,
    "cosine_restarts": cosine_restarts,
    "one_cycle": one_cycle,
    "step": step,
}


def _progress(recipe: Recipe, epoch: float) -> float:
    """Share of the epochs after warm-up that is done."""
    return epoch / (recipe.epochs - recipe.warmup_epochs) if epoch else 0.0


def _half_cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))
