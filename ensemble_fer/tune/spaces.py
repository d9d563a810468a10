"""What can be tuned, by name: spaces of a recipe's keys.

A space is a function of a chooser and the recipe that is tuned; it asks for values and returns the recipe keys that
they set. A number is asked for only where it has a meaning. A new space is one function and one line in ``SPACES``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ensemble_fer.config import COUNTING_LOSSES, Recipe
from ensemble_fer.errors import UsageError, unknown_name
from ensemble_fer.tune.choosing import Chooser, Params, points, same_as
from ensemble_fer.tune.published import PUBLISHED, Published

Values = dict[str, Any]
Group = Callable[[Chooser, Recipe], Values]

# Rates that are usual for the kind of step an optimizer takes: along the gradient, normalized by its size, or by its
# sign and rank.
_RATES = {
    "sgd": ("gradient", 3e-3, 0.3),
    "nesterov": ("gradient", 3e-3, 0.3),
    "adam": ("adaptive", 1e-4, 1e-2),
    "adamw": ("adaptive", 1e-4, 1e-2),
    "muon": ("muon", 1e-3, 0.1),
}


def optimizer(chooser: Chooser, recipe: Recipe) -> Values:
    """Which one, its rate, momentum where it has one, and weight decay.

    Averaged SGD, AMSGrad, Adadelta and Adagrad are left to ``khaireddin_optimizers``, where they came in behind.
    """
    name = chooser.suggest_categorical("optimizer", tuple(_RATES))
    kind, low, high = _RATES[name]
    values = {"optimizer": name, "learning_rate": chooser.suggest_float(f"learning_rate@{kind}", low, high, log=True)}
    if kind != "adaptive":
        values["momentum"] = chooser.suggest_float("momentum", 0.8, 0.98)
    # Decay that is taken off the weights themselves (adamw, muon) is larger than decay that is added to the gradient.
    decoupled = name in ("adamw", "muon")
    name, low, high = ("weight_decay@decoupled", 1e-3, 0.3) if decoupled else ("weight_decay", 1e-6, 5e-3)
    values["weight_decay"] = chooser.suggest_float(name, low, high, log=True)
    return values


def schedule(chooser: Chooser, recipe: Recipe) -> Values:
    """Which one and its numbers, and the warm-up; one_cycle has its own."""
    name = chooser.suggest_categorical(
        "schedule", ("constant", "plateau", "cosine", "cosine_restarts", "one_cycle", "step")
    )
    values: Values = {"schedule": name, "warmup_epochs": 0.0}
    if name == "plateau":
        values["plateau_factor"] = chooser.suggest_float("plateau_factor", 0.3, 0.9)
        values["plateau_patience"] = chooser.suggest_int("plateau_patience", 1, max(1, min(8, recipe.epochs // 3)))
    if name == "step":
        values["step_epochs"] = chooser.suggest_int("step_epochs", 1, max(1, recipe.epochs // 2))
        values["step_factor"] = chooser.suggest_float("step_factor", 0.1, 0.8)
    if name == "cosine_restarts":
        values["restart_epochs"] = chooser.suggest_int("restart_epochs", 1, max(1, recipe.epochs // 2))
        values["restart_growth"] = chooser.suggest_categorical("restart_growth", (1.0, 2.0))
    if name != "one_cycle":
        values["warmup_epochs"] = chooser.suggest_float("warmup_epochs", 0.0, min(5.0, recipe.epochs / 4))
    return values


def loss(chooser: Chooser, recipe: Recipe) -> Values:
    """Which one, its numbers, and whose class counts it goes by where a resampling makes them differ."""
    names = ("cross_entropy", "weighted", "effective", "focal", "balanced_softmax", "ldam")
    values: Values = {"loss": (name := chooser.suggest_categorical("loss", names))}
    if name in ("effective", "ldam"):
        values["effective_beta"] = chooser.suggest_categorical("effective_beta", (0.9, 0.99, 0.999, 0.9999))
    if name == "ldam":
        values["ldam_margin"] = chooser.suggest_float("ldam_margin", 0.25, 4.0, log=True)
    if name == "focal":
        values["focal_gamma"] = chooser.suggest_float("focal_gamma", 0.5, 5.0)
    if name == "balanced_softmax":
        values["logit_tau"] = chooser.suggest_float("logit_tau", 0.25, 1.5)
    if name in COUNTING_LOSSES and recipe.resampling != "none":
        values["class_counts"] = chooser.suggest_categorical("class_counts", ("resampled", "original"))
    return values


def augment(chooser: Chooser, recipe: Recipe) -> Values:
    """Which policy; not khaireddin_tencrop, whose steps cost ten times those of the others."""
    names = ("none", "light", "strong", "khaireddin", "atasoy", "pazos", "group14", "gaballa")
    return {"augmentation": chooser.suggest_categorical("augmentation", names)}


def regularization(chooser: Chooser, recipe: Recipe) -> Values:
    """Dropout, label smoothing, mixup and cutmix, and the moving average of the weights."""
    return {
        "dropout": chooser.suggest_float("dropout", 0.0, 0.5),
        "label_smoothing": chooser.suggest_float("label_smoothing", 0.0, 0.2),
        "mixup": chooser.suggest_categorical("mixup", (0.0, 0.2, 0.4, 1.0)),
        "cutmix": chooser.suggest_categorical("cutmix", (0.0, 0.5, 1.0)),
        "ema": chooser.suggest_categorical("ema", (0.0, 0.99, 0.998, 0.9995)),
    }


def batch(chooser: Chooser, recipe: Recipe) -> Values:
    """Faces of a step."""
    return {"batch_size": chooser.suggest_categorical("batch_size", (32, 64, 128, 256))}


def sampling(chooser: Chooser, recipe: Recipe) -> Values:
    """Whether the rows of a batch are drawn as they come, or of classes drawn evenly."""
    return {"sampling": chooser.suggest_categorical("sampling", ("shuffled", "balanced"))}


SPACES: dict[str, Group] = {
    "optimizer": optimizer,
    "schedule": schedule,
    "loss": loss,
    "augment": augment,
    "regularization": regularization,
    "batch": batch,
    "sampling": sampling,
}


@dataclass(frozen=True)
class Space:
    """One or several spaces of ``SPACES``, or one of ``PUBLISHED``, over a recipe.

    Parameters
    ----------
    names : tuple of str
    recipe : Recipe
        What is tuned: the values of all keys that the space does not set.
    """

    names: tuple[str, ...]
    recipe: Recipe

    def changes(self, chooser: Chooser) -> Values:
        """The recipe keys that the chooser's answers set."""
        values: Values = {}
        for name in self.names:
            found = PUBLISHED[name].choose(chooser) if name in PUBLISHED else SPACES[name](chooser, self.recipe)
            assert values.keys().isdisjoint(found), f"two of the spaces {self.names} set the same key"
            values |= found
        return values

    def recipe_of(self, chooser: Chooser) -> Recipe:
        """The recipe of the chooser's answers, checked."""
        return replace(self.recipe, **self.changes(chooser))

    def points(self, levels: int = 3) -> list[Params]:
        """All answers there are, for a grid search; of a range so many numbers."""
        return list(points(self.changes, levels))

    def searched(self) -> set[str]:
        """The recipe keys that the space sets; those of another choice's numbers are set where they have a meaning."""
        found: set[str] = set()
        for _ in points(lambda chooser: found.update(self.changes(chooser)), 2):
            pass
        return found

    def own(self) -> Params | None:
        """The answers that give the recipe itself, where it lies within the space."""
        return same_as(self.changes, self.recipe)


def parse_spaces(text: str | Sequence[str]) -> tuple[str, ...]:
    """Names of spaces, ``optimizer,schedule`` or a sequence, checked: known, each once, a published one alone.

    Raises
    ------
    UsageError
        Nothing, an unknown name, or a published grid beside others.
    """
    given = text.split(",") if isinstance(text, str) else text
    names = tuple(dict.fromkeys(name.strip() for name in given if name.strip()))
    if not names:
        raise UsageError(f"no space to search. Expected some of {', '.join([*SPACES, *PUBLISHED])}.")
    for name in names:
        if name not in SPACES and name not in PUBLISHED:
            raise unknown_name("space", name, [*SPACES, *PUBLISHED])
    alone = [name for name in names if name in PUBLISHED]
    if alone and len(names) > 1:
        raise UsageError(f"{alone[0]} is a published grid and stands alone; found it beside other spaces.")
    return names


def published_of(names: Sequence[str]) -> Published | None:
    """The published grid, if it is one that is searched."""
    return PUBLISHED.get(names[0])
