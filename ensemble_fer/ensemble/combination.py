"""A rule with its numbers: what turns the logits of members into those of their ensemble."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.ensemble.rules import RULES
from ensemble_fer.errors import UsageError, unknown_name
from ensemble_fer.types import N_CLASSES

SHAPES: dict[str, Callable[[int], list[tuple[int, ...]]]] = {
    "stacking": lambda k: [(N_CLASSES, N_CLASSES * k), (N_CLASSES,)],
    "logit_adjustment": lambda k: [(N_CLASSES,)],
}
"""Of coefficients and intercept, for rules with k members that have them."""


@dataclass(frozen=True)
class Combination:
    """A rule and its numbers. Fitted ones come from ``ensemble.fitting.fit``.

    Parameters
    ----------
    rule : str
        A key of ``RULES``.
    weights : float64 [k]
        Of the members, sum 1. All equal where the rule fits none.
    temperatures : float64 [k]
        By which the members' logits are divided before the rule sees them (Guo et al. 2017).
    temperature : float
        By which the ensemble's logits are divided after it.
    coefficients, intercept : float64 [7, 7 k] and [7], optional
        Of stacking; of logit_adjustment the latter.
    """

    rule: str
    weights: NDArray[np.float64]
    temperatures: NDArray[np.float64]
    temperature: float = 1.0
    coefficients: NDArray[np.float64] | None = None
    intercept: NDArray[np.float64] | None = None

    def __call__(self, logits: NDArray) -> NDArray[np.float32]:
        """Logits float32 [m, 7] of the ensemble, for those of its members, [k, m, 7]."""
        scaled = np.asarray(logits, np.float64) / self.temperatures[:, None, None]
        return (RULES[self.rule].blend(scaled, self) / self.temperature).astype(np.float32)

    def of(self, kept: NDArray[np.bool_]) -> Combination:
        """The same without members of weight 0; ``kept`` [k] says which stay."""
        return replace(
            self, weights=self.weights[kept] / self.weights[kept].sum(), temperatures=self.temperatures[kept]
        )

    @property
    def fitted(self) -> list[str]:
        """What of it was fitted, in words; nothing for a plain rule."""
        found = [self.rule] if RULES[self.rule].fit is not None else []
        found += ["temperatures of members"] if (self.temperatures != 1).any() else []
        return found + (["temperature of the ensemble"] if self.temperature != 1 else [])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            key: value.tolist() if isinstance(value, np.ndarray) else value
            for key, value in self.__dict__.items()
            if value is not None
        }


def plain(rule: str, members: int) -> Combination:
    """A rule of which nothing is fitted, for so many members.

    Raises
    ------
    UsageError
        No such rule, or one that has to be fitted.
    """
    if rule not in RULES:
        raise unknown_name("rule of fusion", rule, RULES)
    if RULES[rule].fit is not None:
        raise UsageError(
            f"rule {rule!r} has to be fitted on predictions of the select part: by ensemble.fit, or  fuse --rule {rule}"
        )
    return Combination(rule, np.full(members, 1 / members), np.ones(members))


def combination_from(given: Mapping[str, Any]) -> Combination:
    """The ``Combination`` whose ``to_dict`` this is.

    Raises
    ------
    UsageError
        It is none: an unknown rule, or numbers that do not fit together.
    """
    try:
        rule = str(given["rule"])
        if rule not in RULES:
            raise unknown_name("rule of fusion", rule, RULES)
        weights, temperatures = (np.asarray(given[key], np.float64) for key in ("weights", "temperatures"))
        more = {
            key: np.asarray(given[key], np.float64)
            for key in ("coefficients", "intercept")
            if given.get(key) is not None
        }
        made = Combination(rule, weights, temperatures, float(given.get("temperature", 1.0)), **more)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"this is no combination of members ({error!r}).") from error
    k = len(weights)
    numbers = [weights, temperatures, np.array([made.temperature]), *more.values()]
    if (
        weights.shape != (k,)
        or temperatures.shape != (k,)
        or not all(np.isfinite(each).all() for each in numbers)
        or (weights < 0).any()
        or abs(weights.sum() - 1) > 1e-6
        or (temperatures <= 0).any()
        or made.temperature <= 0
        or [each.shape for each in more.values()] != SHAPES.get(rule, lambda k: [])(k)
    ):
        raise UsageError(f"the numbers of this combination by {rule!r} do not fit together.")
    return made
