"""What is asked for, made definite: the recipe that is tuned, the method, the number of trials, the name."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ensemble_fer.config import NoEffect, Recipe, Setting, defaults_of, resolve
from ensemble_fer.errors import UsageError, unknown_name
from ensemble_fer.tune.choosing import Params
from ensemble_fer.tune.published import PUBLISHED
from ensemble_fer.tune.spaces import Space, published_of

SAMPLERS = ("tpe", "random", "grid")
PRUNERS = ("hyperband", "median", "none")
MOST_POINTS = 1000


def base_recipe(names: Sequence[str], file: str | Path | None = None, **flags: Any) -> Recipe:
    """The recipe that is tuned: defaults < the model's < those of a published grid < file < flags.

    Keys that all trials set are none of a flag's. A recipe file may hold them: it is the first trial of an ordinary
    space that has it; of a published grid it is not, and there it is a warning.

    Raises
    ------
    UsageError
        An unknown key or value, a flag for a key that the search sets, or a recipe without a select part.
    """
    given = {key: value for key, value in flags.items() if value is not None}
    published = published_of(names)
    grid = None if published is None else {"model": published.model, **published.base}
    settings = resolve(file, grid=grid, **given)
    base = Recipe(**{setting.key: setting.value for setting in settings})
    _check_searched(names, base, settings)
    if base.train_on != "train":
        raise UsageError(
            f"train_on = {base.train_on} leaves no select part, by which recipes could be compared. "
            "Tune with train_on = train, and train the best recipe on both."
        )
    return base


def _check_searched(names: Sequence[str], base: Recipe, settings: Sequence[Setting]) -> None:
    """Say what is set and would be overwritten by every trial."""
    by_key = {key: name for name in names for key in Space((name,), base).searched()}
    own = {key: (getattr(Recipe, key), defaults_of(base.model).get(key)) for key in by_key}
    for setting in settings:
        name = by_key.get(setting.key)
        if name is None or setting.source not in ("flag", "file"):
            continue
        points = name in PUBLISHED
        why = f"all points of {name} set it" if points else f"the space {name} searches it"
        said = f"{setting.key} = {setting.value} would change nothing: {why}."
        if setting.source == "flag":
            more = "" if points else " A recipe file with it is the first trial, where it lies in the space."
            raise UsageError(f"{said} Leave it out, or search something else.{more}")
        if points and setting.value not in own[setting.key]:
            warnings.warn(said.replace(" would", " of the recipe file would"), NoEffect, stacklevel=1)


def automatic_name(recipe: Recipe, names: Sequence[str], seed: int) -> str:
    """``<model>-[<resampling>-]<spaces>-s<seed>``, in characters of a name."""
    resampling = [] if recipe.resampling == "none" else [recipe.resampling]
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", "-".join([recipe.model, *resampling, "+".join(names), f"s{seed}"]))[:100]


def methods_of(names: Sequence[str], sampler: str | None, pruner: str | None) -> tuple[str, str]:
    """Sampler and pruner, checked, with what they are by default."""
    published = published_of(names) is not None
    sampler = sampler or ("grid" if published else "tpe")
    if sampler not in SAMPLERS:
        raise unknown_name("sampler", sampler, SAMPLERS)
    if published and sampler != "grid":
        raise UsageError(f"{names[0]} is a published grid, which is run point by point. Leave --sampler out.")
    pruner = pruner or ("none" if sampler == "grid" else "hyperband")
    if pruner not in PRUNERS:
        raise unknown_name("pruner", pruner, PRUNERS)
    return sampler, pruner


def first_points(searched: Space, sampler: str) -> list[Params]:
    """Parameters of the first trials: all of a grid; else the recipe's own, which is then among those that can win."""
    if sampler != "grid":
        own = searched.own()
        return [own] if own else []
    points = searched.points()
    if len(points) > MOST_POINTS:
        raise UsageError(
            f"the grid over {', '.join(searched.names)} has {len(points):,} points; expected {MOST_POINTS:,} at most. "
            "Take fewer spaces, or --sampler tpe."
        )
    return points


def number_of_trials(given: int | None, grid: Sequence[Params] | None) -> int:
    if given is None:
        if grid is None:
            raise UsageError(
                "--trials is missing: how many trials the search has. Only a grid has a number of its own."
            )
        return len(grid)
    if given < 1:
        raise UsageError(f"--trials {given}: expected 1 or more.")
    if grid is not None and given > len(grid):
        raise UsageError(f"--trials {given}: the grid has {len(grid)} points. Leave --trials out to run them all.")
    return given
