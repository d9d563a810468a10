"""Who answers what a space asks: Optuna's trials, and the three here that need no study.

A space is a function that asks for values one by one, so that a number can depend on a choice made before it.
``points`` answers in all ways there are, ``same_as`` as a recipe has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ensemble_fer.config import Recipe

Params = dict[str, Any]
"""What was asked for, by name, with the answers."""


class Chooser(Protocol):
    """Answers what a space asks; Optuna's ``Trial`` is one."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...


def key_of(name: str) -> str:
    """The recipe key of a parameter: what is before ``@``, after which stands for which choice the range is meant."""
    return name.partition("@")[0]


def points(ask: Callable[[Chooser], Any], levels: int = 3) -> Iterator[Params]:
    """All ways to answer, each once: every choice, and of a range its ends and what lies evenly between.

    Parameters
    ----------
    ask : callable
        A space, or anything that asks a ``Chooser``.
    levels : int
        Numbers of a range, evenly on the logarithm where the range is meant so.
    """
    path: list[int] | None = []
    while path is not None:
        chooser = _Path(path, levels)
        ask(chooser)
        yield chooser.params
        path = chooser.following()


def same_as(ask: Callable[[Chooser], Any], recipe: Recipe) -> Params | None:
    """The answers that give back a recipe's own values; None where a value of it lies outside of the space."""
    chooser = _Same(recipe)
    try:
        ask(chooser)
    except LookupError:
        return None
    return chooser.params


@dataclass
class _Path:
    """Answers with the option of each number in ``path``, and with the first one after its end."""

    path: list[int]
    levels: int
    params: Params = field(default_factory=dict)
    taken: list[tuple[int, int]] = field(default_factory=list)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        if name not in self.params:
            depth = len(self.taken)
            index = self.path[depth] if depth < len(self.path) else 0
            self.taken.append((index, len(choices)))
            self.params[name] = choices[index]
        return self.params[name]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return self.suggest_categorical(name, self._levels(low, high, log))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return self.suggest_categorical(name, sorted({round(value) for value in self._levels(low, high, log)}))

    def _levels(self, low: float, high: float, log: bool) -> list[float]:
        if low == high:
            return [low]
        shares = [step / (self.levels - 1) for step in range(1, self.levels - 1)]
        between = [low * (high / low) ** share if log else low + share * (high - low) for share in shares]
        return [low, *between, high]

    def following(self) -> list[int] | None:
        """The next path, as one counts: the last number that can grow grows, and what was behind it starts over."""
        taken = list(self.taken)
        while taken:
            index, count = taken.pop()
            if index + 1 < count:
                return [*(i for i, _ in taken), index + 1]
        return None


@dataclass
class _Same:
    """Answers with a recipe's own values."""

    recipe: Recipe
    params: Params = field(default_factory=dict)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._own(name, lambda value: value in choices)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return self._own(name, lambda value: low <= value <= high)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return self._own(name, lambda value: low <= value <= high)

    def _own(self, name: str, fits: Callable[[Any], bool]) -> Any:
        value = getattr(self.recipe, key_of(name), None)
        if value is None or not fits(value):
            raise LookupError(name)
        self.params[name] = value
        return value
