"""Optimizers by name, over the parameters of a member in groups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import ASGD, SGD, Adadelta, Adagrad, Adam, AdamW, Optimizer

from ensemble_fer.config import Recipe
from ensemble_fer.models import Member
from ensemble_fer.train.muon import Muon

Groups = list[dict[str, Any]]


def optimizer_of(recipe: Recipe, member: Member) -> Optimizer:
    """The recipe's optimizer over all parameters of a member, frozen ones too, since they may thaw.

    Each group has the key ``scale``: its learning rate is to be the schedule's times that, ``head_rate`` for the head
    and 1 for the rest. Weights with two or more dimensions decay; biases and the weights of norms do not.

    Parameters
    ----------
    recipe : Recipe
    member : Member
        On the device and in the memory layout that it is trained in.
    """
    optimizer = OPTIMIZERS[recipe.optimizer](groups_of(recipe, member), recipe)
    optimizer.register_load_state_dict_post_hook(_as_parameters_lie)
    return optimizer


def groups_of(recipe: Recipe, member: Member) -> Groups:
    """Every parameter of a member once, in groups by head or body, decay or none, and what Muon takes as a matrix.

    Muon is for hidden layers; a convolution of one input channel (of each group of channels) is no map between
    channels.
    """
    head = {id(parameter) for parameter in member.head_parameters}
    groups: dict[tuple[bool, ...], dict[str, Any]] = {}
    for parameter in member.parameters():
        in_head, decays = id(parameter) in head, parameter.ndim > 1
        matrix = recipe.optimizer == "muon" and not in_head and decays and min(parameter.shape[:2]) > 1
        group = {
            "params": [],
            "scale": recipe.head_rate if in_head else 1.0,
            "weight_decay": recipe.weight_decay if decays else 0.0,
            "matrix": matrix,
        }
        groups.setdefault((in_head, decays, matrix), group)["params"].append(parameter)
    return list(groups.values())


def sgd(groups: Groups, recipe: Recipe, nesterov: bool = False) -> Optimizer:
    """Stochastic gradient descent with momentum."""
    made = SGD(groups, recipe.learning_rate, momentum=recipe.momentum, nesterov=nesterov, fused=_fused(groups))
    if recipe.momentum:
        made.register_step_pre_hook(_begin_momentum)
    return made


OPTIMIZERS: dict[str, Callable[[Groups, Recipe], Optimizer]] = {
    "sgd": sgd,
    "nesterov": lambda groups, recipe: sgd(groups, recipe, nesterov=True),
    "asgd": lambda groups, recipe: ASGD(groups, recipe.learning_rate),
    "adam": lambda groups, recipe: Adam(groups, recipe.learning_rate, fused=_fused(groups)),
    "amsgrad": lambda groups, recipe: Adam(groups, recipe.learning_rate, amsgrad=True, fused=_fused(groups)),
    "adamw": lambda groups, recipe: AdamW(groups, recipe.learning_rate, fused=_fused(groups)),
    "adadelta": lambda groups, recipe: Adadelta(groups, recipe.learning_rate),
    "adagrad": lambda groups, recipe: Adagrad(groups, recipe.learning_rate, fused=_fused(groups)),
    "muon": lambda groups, recipe: Muon(groups, recipe.learning_rate, recipe.momentum),
}


def _fused(groups: Groups) -> bool:
    """Whether all of a step is done in one pass over memory: several times as fast for 30 million parameters."""
    return all(parameter.device.type in ("cpu", "cuda") for group in groups for parameter in group["params"])


def _begin_momentum(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    """Momentum of 0 for parameters that take their first step, which fused SGD demands of all or none of a group."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None and not optimizer.state[parameter]:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def _as_parameters_lie(optimizer: Optimizer) -> None:
    """Lay loaded state out in memory as its parameters lie: fused steps go by place in memory, not by index."""
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                state[key] = torch.empty_like(parameter).copy_(value)
