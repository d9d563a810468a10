"""Optimizers and learning-rate schedules by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

from ensemble_fer.config import Recipe
from ensemble_fer.errors import unknown_name

OPTIMIZERS: dict[str, Callable[[list[dict], Recipe], torch.optim.Optimizer]] = {
    "sgd": lambda groups, r: torch.optim.SGD(groups, r.learning_rate, momentum=r.momentum),
    "nesterov": lambda groups, r: torch.optim.SGD(groups, r.learning_rate, momentum=r.momentum, nesterov=True),
    "adam": lambda groups, r: torch.optim.Adam(groups, r.learning_rate),
    "adamw": lambda groups, r: torch.optim.AdamW(groups, r.learning_rate),
}


def optimizer_of(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimizer over a model; weight decay on weights with two or more dimensions only."""
    if recipe.optimizer not in OPTIMIZERS:
        raise unknown_name("optimizer", recipe.optimizer, OPTIMIZERS)
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return OPTIMIZERS[recipe.optimizer](groups, recipe)


WARM_UP = 0.15
PLATEAU_FACTOR, PLATEAU_PATIENCE = 0.75, 5


def constant(progress: float, scores: Sequence[float]) -> float:
    return 1.0


def cosine(progress: float, scores: Sequence[float]) -> float:
    """Half a cosine from 1 to 0 (Loshchilov & Hutter 2017, without restarts)."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def one_cycle(progress: float, scores: Sequence[float]) -> float:
    """Linear up over the first 15 %, then linear down to nearly 0 (Smith & Topin 2018)."""
    if progress < WARM_UP:
        return 0.04 + 0.96 * progress / WARM_UP
    return max(1e-3, (1 - progress) / (1 - WARM_UP))


def plateau(progress: float, scores: Sequence[float]) -> float:
    """Times 0.75 after 5 epochs without a better score (Khaireddin & Chen 2021)."""
    factor, best, waited = 1.0, -math.inf, 0
    for score in scores:
        if score > best:
            best, waited = score, 0
        else:
            waited += 1
            if waited > PLATEAU_PATIENCE:
                factor, waited = factor * PLATEAU_FACTOR, 0
    return factor


# Each gives the share of the recipe's learning rate from the share of steps done (0 to 1) and the
# select scores of the epochs so far. Without state of their own they resume by themselves.
SCHEDULES: dict[str, Callable[[float, Sequence[float]], float]] = {
    "constant": constant,
    "plateau": plateau,
    "cosine": cosine,
    "one_cycle": one_cycle,
}
