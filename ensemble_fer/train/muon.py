"""Muon: steps of matrices made nearly orthogonal (Jordan et al. 2024); what is not a matrix goes by AdamW.

The one in PyTorch takes no convolutions; timm's multiplies in bfloat16, slowly on processors that do not have it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.adamw import adamw

# Five rounds with these bring singular values between 0.01 and 1 to about 0.7 to 1.2; nearer to 1 trains no better.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ROUNDS = 5
BETAS, EPSILON = (0.9, 0.999), 1e-8


class Muon(Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay.

    The step of an m x n matrix has singular values near 1 and is scaled by ``0.2 sqrt(max(m, n))``, so that its entries
    are as large as those of AdamW's steps (Liu et al. 2025, section 2.2): one learning rate serves both. A convolution
    is the matrix of its output channels by all the rest.

    Parameters
    ----------
    groups : list of dict
        With the key ``matrix``: whether the group's parameters go by Muon or by AdamW.
    rate : float
        Learning rate.
    momentum : float
        Of the matrices; 0 to below 1.
    """

    def __init__(self, groups: list[dict[str, Any]], rate: float, momentum: float) -> None:
        super().__init__(groups, {"lr": rate, "momentum": momentum, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step; parameters without gradient stay."""
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            gradients = [parameter.grad for parameter in parameters]
            if group["matrix"]:
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    self._step_matrix(parameter, gradient, group)
            elif parameters:
                self._step_others(parameters, gradients, group)

    def _step_matrix(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        momentum, average = group["momentum"], state["momentum_buffer"]
        average.lerp_(gradient, 1 - momentum)
        ahead = gradient.lerp(average, momentum)
        direction = orthogonal(ahead.reshape(len(ahead), -1))
        size = 0.2 * max(direction.shape) ** 0.5
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(direction.reshape(parameter.shape), alpha=-group["lr"] * size)

    def _step_others(self, parameters: list[Tensor], gradients: list[Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            parameters,
            gradients,
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=EPSILON,
            maximize=False,
        )


def orthogonal(matrix: Tensor) -> Tensor:
    """A matrix [m, n] with its singular values brought near 1, its singular vectors kept (Newton-Schulz iteration).

    In bfloat16 on a GPU, in the precision of the matrix elsewhere.
    """
    a, b, c = COEFFICIENTS
    x = matrix.to(torch.bfloat16) if matrix.is_cuda else matrix
    wide = x if x.shape[0] <= x.shape[1] else x.T
    x = wide / wide.norm().clamp(min=1e-7)
    for _ in range(ROUNDS):
        products = x @ x.T
        x = a * x + (b * products + c * products @ products) @ x
    return (x if wide.shape == matrix.shape else x.T).to(matrix.dtype)
