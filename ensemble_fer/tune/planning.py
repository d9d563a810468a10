"""What is asked for, made definite: the recipe that is tuned, the method, the number of trials, the name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ensemble_fer.config import Recipe, resolve_recipe
from ensemble_fer.errors import UsageError, unknown_name
from ensemble_fer.tune.choosing import Params
from ensemble_fer.tune.spaces import Space, published_of

SAMPLERS = ("tpe", "random", "grid")
PRUNERS = ("hyperband", "median", "none")
MOST_POINTS = 1000


def base_recipe(names: Sequence[str], file: str | Path | None = None, **flags: Any) -> Recipe:
    """The recipe that is tuned: defaults < the model's < those of a published grid < file < flags."""
    given = {key: value for key, value in flags.items() if value is not None}
    published = published_of(names)
    grid = None if published is None else {"model": published.model, **published.base}
    base = resolve_recipe(file, grid=grid, **given)
    if base.train_on != "train":
        raise UsageError(
            f"train_on = {base.train_on} leaves no select part, by which recipes could be compared. "
            "Tune with train_on = train, and train the best recipe on both."
        )
    return base


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
