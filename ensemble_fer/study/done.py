"""What of a study is in a store already, told by names and recipes without anything being made."""

from __future__ import annotations

from ensemble_fer.config import Recipe, resolve_recipe
from ensemble_fer.errors import EnsembleFerError
from ensemble_fer.store import Store
from ensemble_fer.study.cells import Cell, cells_of
from ensemble_fer.study.plan import Arm, Study, drawn_name

_OTHERS = ("resampling", "weights", "split")
"""Keys of a kept recipe that say otherwise what was asked."""


def done_cells(store: Store, study: Study) -> tuple[int, int]:
    """How many runs, searches and ensembles of a study are there, and how many it has."""
    runs = store.refs("run")
    others = {name: found for kind in ("tuning", "ensemble", "predictions") for name, found in store.refs(kind).items()}
    cells = [cell for cell in cells_of(study) if not cell.worker]
    own = [isinstance(cell.what, Arm) and not cell.what.search for cell in cells]
    done = [is_done(store, study, cell, runs if run else others) for cell, run in zip(cells, own, strict=True)]
    return sum(done), len(cells)


def is_done(store: Store, study: Study, cell: Cell, known: dict[str, str]) -> bool:
    """Whether the store has this run, of this recipe and set; of what takes its recipe from others only the name."""
    arm = cell.what
    if cell.name not in known or not isinstance(arm, Arm) or arm.search:
        return cell.name in known
    try:
        made = store.by_id("run", known[cell.name])
    except EnsembleFerError:
        return False
    same = True
    if not (arm.inject or arm.aligned or arm.leak):
        data = store.refs("data").get(drawn_name(study.data))
        same = made.inputs[0] == data
    if arm.tuned or arm.start or arm.combine:
        return same
    asked = resolve_recipe(**{**arm.recipe, "seed": cell.seed, "split": cell.split}).to_dict()
    kept = {"kept_epoch": Recipe.kept_epoch, **made.spec["recipe"]}
    return same and all(kept.get(key) == value for key, value in asked.items() if key not in _OTHERS)
