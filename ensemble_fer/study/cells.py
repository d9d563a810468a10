"""The single tasks of a study: each run, search and ensemble, with what must be done before it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from ensemble_fer.study.plan import Arm, Blend, Study

SEARCH = "tuning"
"""The kind of a row that is a search."""


@dataclass(frozen=True)
class Cell:
    """One run or ensemble: an arm or blend, at a seed and a split.

    Parameters
    ----------
    needs : tuple of str
        Names of the cells that must be done before: of an ensemble all of them, of a run one at least.
    worker : int
        Of a search, which of its tasks; the first alone gives a row. 0 for all else.
    """

    name: str
    what: Arm | Blend
    seed: int
    split: str
    needs: tuple[str, ...] = ()
    worker: int = 0


def cells_of(study: Study) -> list[Cell]:
    """Every run, then every ensemble, of a study; what others need comes before them."""
    found: list[Cell] = []

    def named(arms: list[str], seed: int, split: str) -> tuple[str, ...]:
        """Of a search the one there is."""
        own = {name: seed if seed in (there := study.seeds_of(name)) else there[0] for name in arms}
        return tuple(study.run_name(name, own[name], split) for name in arms)

    for arm, seed, split in study.cells():
        needs = named(study.needs(arm), seed, split)
        name = study.run_name(arm.name, seed, split)
        found.append(Cell(name, arm, seed, split, needs))
        for worker in range(1, arm.search.get("workers", 1)):
            found.append(Cell(f"{name}.{worker}", arm, seed, split, needs, worker))
    for blend in study.blends:
        (first,) = (arm for arm in study.arms if arm.name == blend.of[0])
        seeds = study.seeds[:1] if blend.across_seeds else study.seeds
        for seed, split in itertools.product(seeds, study.splits(first)):
            own = study.seeds if blend.across_seeds else (seed,)
            needs = tuple(need for each in own for need in named(list(blend.of), each, split))
            found.append(Cell(study.run_name(blend.name, seed, split), blend, seed, split, needs))
    return found
