"""Settings that would change nothing: numbers of a schedule, loss or optimizer that is not the recipe's."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from ensemble_fer.config.choices import COUNTING_LOSSES, defaults_of
from ensemble_fer.config.layers import Setting
from ensemble_fer.config.recipe import KEYS, Recipe
from ensemble_fer.errors import UsageError

# A key, the one that it belongs to, and the values of that one with which it has a meaning.
ONLY_WITH: dict[str, tuple[str, tuple[str, ...]]] = {
    "momentum": ("optimizer", ("sgd", "nesterov", "muon")),
    "plateau_factor": ("schedule", ("plateau",)),
    "plateau_patience": ("schedule", ("plateau",)),
    "step_epochs": ("schedule", ("step",)),
    "step_factor": ("schedule", ("step",)),
    "restart_epochs": ("schedule", ("cosine_restarts",)),
    "restart_growth": ("schedule", ("cosine_restarts",)),
    "class_counts": ("loss", COUNTING_LOSSES),
    "effective_beta": ("loss", ("effective", "ldam")),
    "focal_gamma": ("loss", ("focal",)),
    "logit_tau": ("loss", ("balanced_softmax",)),
    "ldam_margin": ("loss", ("ldam",)),
}


class NoEffect(UserWarning):
    """A recipe file sets what changes nothing."""


def without_effect(recipe: Recipe, keys: Iterable[str] = KEYS) -> dict[str, str]:
    """Which of the keys change nothing in this recipe, and why.

    A value that is the key's default, or the model's, is no setting of anybody's and not among them.
    """
    found: dict[str, str] = {}
    own = defaults_of(recipe.model)
    for key in keys:
        value = getattr(recipe, key)
        if value in (getattr(Recipe, key), own.get(key)):
            continue
        if key in ONLY_WITH:
            other, values = ONLY_WITH[key]
            if getattr(recipe, other) not in values:
                found[key] = f"it belongs to {other} {' or '.join(values)}, and {other} is {getattr(recipe, other)}"
        if key in ("unfreeze_epoch", "train_norms") and not recipe.frozen_stages:
            found[key] = "it belongs to frozen_stages, which is 0: all stages train"
        elif key == "unfreeze_epoch" and value > recipe.epochs:
            found[key] = f"there are {recipe.epochs} epochs"
    return found


def checked_recipe(settings: Iterable[Setting]) -> Recipe:
    """The recipe of resolved settings; what was given and would change nothing is not passed over in silence.

    Recipe files are made to be used with other flags, and ``tune`` writes all keys: there it is a warning.

    Raises
    ------
    UsageError
        A flag would change nothing.
    """
    given = {setting.key: setting for setting in settings}
    recipe = Recipe(**{key: setting.value for key, setting in given.items()})
    for key, why in without_effect(recipe, (key for key, s in given.items() if s.source in ("file", "flag"))).items():
        said = f"{key} = {given[key].value} would change nothing: {why}."
        if given[key].source == "flag":
            raise UsageError(f"{said} Leave it out, or set what it belongs to.")
        warnings.warn(said.replace(" would", " of the recipe file would"), NoEffect, stacklevel=2)
    return recipe
