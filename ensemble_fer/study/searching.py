"""A stage of a study that searches for a recipe, by several tasks that share its trials, and what others take of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ensemble_fer.config import Recipe, resolve_recipe
from ensemble_fer.store import Artifact, Store
from ensemble_fer.study.plan import Arm
from ensemble_fer.tune.planning import base_recipe
from ensemble_fer.tune.spaces import Space, parse_spaces
from ensemble_fer.tune.tuning import tune

BEST = "best.toml"


def search_recipe(
    store: Store, arm: Arm, settings: Mapping[str, Any], *, data: str, name: str, storage: str | None,
    threads: int | None, quiet: bool,
) -> Artifact:  # fmt: skip
    """The finished search of an arm; every task that calls this does trials until all are done.

    Parameters
    ----------
    settings : mapping
        Keys of ``Recipe``; those that the space sets are left to it.
    name : str
        Of the search, the same for all tasks.
    storage : str or None
        Address of the database in which they find each other; by default a file in the store, for one machine.
    """
    names = parse_spaces(arm.search["space"])
    # The trainings of all trials have the recipe's own seed; that of the study is the sampler's.
    own = {key: value for key, value in settings.items() if key != "seed" and key not in _searched(names, settings)}
    return tune(
        store,
        space=names,
        trials=arm.search.get("trials"),
        storage=storage,
        name=name,
        seed=settings["seed"],
        data=data,
        threads=threads,
        quiet=quiet,
        **own,
    )


def chosen(found: Artifact) -> dict[str, Any]:
    """Of the best recipe of a search the keys that it was searched for, and who has chosen them, for the stamp."""
    best: Recipe = resolve_recipe(found.file(BEST))
    keys = Space(tuple(found.metrics["space"]), best).searched()
    return {key: getattr(best, key) for key in sorted(keys)} | {"tuned": best.tuned}


def trials_of(arm: Arm) -> int:
    """How many trainings an arm stands for: of a search its trials, or the points of its grid."""
    if not arm.search or "trials" in arm.search:
        return arm.search.get("trials", 1)
    names = parse_spaces(arm.search["space"])
    return len(Space(names, base_recipe(names)).points())


def _searched(names: tuple[str, ...], settings: Mapping[str, Any]) -> set[str]:
    """Keys that the trials set."""
    model = settings.get("model")
    return Space(names, base_recipe(names, **({"model": model} if model else {}))).searched()
