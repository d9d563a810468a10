"""What a study asks for: its file, at a scale, as the runs and ensembles it stands for. Nothing is computed here.

A study is a TOML file::

    title = "Which schedule?"
    asks = "One sentence: what is not known before."
    system = "C"                                # which published system it carries
    metric = "macro_f1"                         # by which a later stage takes the best of an earlier one
    against = "balanced/none"                   # the arm with which all others are compared, row by row
    pairs = [["tuned", "searched"]]             # and two with one another, the first beside the second

    [recipe]                                    # keys of Recipe, for every run
    model = "vggnet"

    [[stage]]                                   # every combination of the values in grid is an arm
    name = "schedules"
    recipe = { learning_rate = 0.01 }
    grid = { schedule = ["plateau", "cosine"] }

    [[stage]]
    name = "tuned"
    start = "best of schedules"                 # weights and recipe of the best arm, on the select part
    grid = { train_on = ["train", "train+select"] }

    [[stage]]
    name = "balanced"
    resample = [{ method = "none" }, { method = "hybrid", target = 3000 }]

    [[stage]]
    name = "near"                               # neighbours as the run of an arm sees faces, of the same seed and fold
    resample = [{ method = "smote", space = "run:balanced/none" }]

    [[stage]]
    name = "both"
    combine = ["balanced", "schedules"]         # of each the best arm's recipe and resampling, for each seed and fold

    [[stage]]
    name = "search"                             # Optuna on the select part, for the first seed; trials are shared by
    search = { space = ["optimizer", "schedule"], trials = 30, workers = 4 }  # so many tasks

    [[stage]]
    name = "searched"
    tuned = "search"                            # with the values that the search has chosen, whatever stands above

    [[stage]]
    name = "found"
    aligned = true                              # faces as ``align`` cuts them
    inject = { name = "affectnet", classes = ["disgust"] }  # faces of another set in the store, to train with

    [[stage]]
    name = "wrong"
    leak = "own"                                # resampled before the split, on purpose; see ``leaking``
    resample = [{ method = "ros" }]

    [[ensemble]]
    name = "pair"
    of = ["balanced/none", "balanced/hybrid-3000"]

    [scale.small]                               # and smoke, paper
    data = "fer2013"                            # or drawn:400, so many faces drawn by the program
    seeds = [0, 1, 2]
    recipe = { epochs = 3 }
    keep = { schedule = ["plateau"] }           # of a key's values, or of method; all others stay
    most = 300                                  # no class is brought to more rows than this
    sets = { affectnet = "drawn:300" }          # what stands here for a set that stages name
    trials = 6                                  # of each search
    ensembles = ["pair"]                        # of those there are; all by default
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ensemble_fer.config import Recipe

DIVISIONS = {
    "one": "resampled before the split",
    "own": "resampled before the split, each set divided on its own",
}
"""How the leak simulator divides what it has resampled: one division for all methods, or one for each."""
SPACE_OF = "run:"
DRAWN = "drawn:"
LONGEST = 80
"""Characters of a name in the store, without seed and fold."""


@dataclass(frozen=True)
class Arm:
    """What is compared: one recipe, whatever its seeds and folds.

    Parameters
    ----------
    name : str
        ``STAGE/VALUES``, or the stage's name where it is one arm.
    recipe : dict
        Keys of ``Recipe`` that are not the defaults.
    resample : dict
        ``method``, and maybe ``target``, ``classes``, ``space``, as ``make_resampling`` takes them; empty for none.
    start : str
        Stage or arm whose best run it goes on from; empty for none.
    aligned : bool
        It is trained on the faces that ``align`` finds in the set.
    inject : dict
        ``name`` of another set, or ``drawn:N``, and ``classes`` of which its faces are added to training; empty for
        none.
    leak : str
        A key of ``DIVISIONS``: it is trained on a leaky set. Empty for an honest arm.
    combine : tuple of str
        Stages of whose best arms it takes recipe and resampling.
    search : dict
        ``space``, a list of names that ``tune`` takes, ``trials`` and ``workers``: it is no run but a search; empty for
        a run.
    tuned : str
        The search whose choice it is trained with; empty for none.
    own : set of str
        Keys of the recipe that its stage or the scale sets: these no arm that it combines changes.
    """

    name: str
    recipe: Mapping[str, Any]
    resample: Mapping[str, Any] = field(default_factory=dict)
    start: str = ""
    leak: str = ""
    combine: tuple[str, ...] = ()
    aligned: bool = False
    inject: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[str, Any] = field(default_factory=dict)
    tuned: str = ""
    own: frozenset[str] = frozenset()

    @property
    def stage(self) -> str:
        return self.name.partition("/")[0]

    @property
    def space_of(self) -> str:
        """The arm as whose run sees faces neighbours are looked for; empty for none."""
        space = str(self.resample.get("space", ""))
        return space.removeprefix(SPACE_OF) if space.startswith(SPACE_OF) else ""


@dataclass(frozen=True)
class Blend:
    """An ensemble of arms, for each seed and fold; with ``across_seeds`` one of the runs of all seeds."""

    name: str
    of: tuple[str, ...]
    rule: str = "mean"
    calibrate: str = "none"
    tta: str = "none"
    across_seeds: bool = False


@dataclass(frozen=True)
class Study:
    """A study at one scale.

    Parameters
    ----------
    data : str
        Name of an imported set, or ``drawn:N``.
    seeds : tuple of int
    folds : int
        0 for the split of the recipe; else every arm is trained on each of so many folds, and scored on all rows.
    look : bool
        Whether the test part is scored when all is done: a look for each run and ensemble.
    memory : bool
        Whether each run is asked how much of its own training rows it knows.
    against : str
        The arm with which all others are compared, row by row; empty for none.
    pairs : tuple of (str, str)
        Arms and ensembles that are compared with one another too.
    file : str
        What ``study run`` is given to run it: its name where it comes with the package, else its path.
    """

    name: str
    scale: str
    title: str
    asks: str
    system: str
    metric: str
    data: str
    seeds: tuple[int, ...]
    folds: int
    look: bool
    arms: tuple[Arm, ...]
    blends: tuple[Blend, ...]
    memory: bool = False
    against: str = ""
    pairs: tuple[tuple[str, str], ...] = ()
    file: str = ""

    @property
    def leaky(self) -> bool:
        """Some of it is done wrong on purpose."""
        return any(arm.leak for arm in self.arms)

    def named(self, name: str) -> list[str]:
        """The arms of this name, or of the stage of this name."""
        return [arm.name for arm in self.arms if name in (arm.name, arm.stage)]

    def needs(self, arm: Arm) -> list[str]:
        """The arms of which a run of the same split must be there before."""
        before = (arm.start, arm.space_of, arm.tuned, *arm.combine)
        found = dict.fromkeys(each for name in before if name for each in self.named(name))
        # What is combined may look for neighbours as another run sees them.
        spaces = [each.space_of for each in self.arms if each.stage in arm.combine or each.name in arm.combine]
        return list(found | dict.fromkeys(space for space in spaces if space))

    def seeds_of(self, name: str) -> tuple[int, ...]:
        """The seeds with which an arm is there: of a search the first."""
        (arm,) = [each for each in self.arms if each.name == name]
        return self.seeds[:1] if arm.search else self.seeds

    def splits(self, arm: Arm) -> list[str]:
        """The splits an arm is trained on."""
        if arm.leak:
            return [Recipe.split]
        if self.folds:
            return [f"kfold:{self.folds}:{fold}" for fold in range(self.folds)]
        return [str(arm.recipe.get("split", Recipe.split))]

    def cells(self) -> Iterator[tuple[Arm, int, str]]:
        """Every run: arm, seed, split, in the order in which they can be made."""
        for arm in self.arms:
            for seed, split in itertools.product(self.seeds_of(arm.name), self.splits(arm)):
                yield arm, seed, split

    def run_name(self, of: str, seed: int, split: str) -> str:
        """The reference of a run or ensemble in the store."""
        fold = f"-f{split.rpartition(':')[2]}" if self.folds else ""
        whole = f"{self.name}.{self.scale}.{re.sub(r'[^A-Za-z0-9._+-]', '.', of)}"
        if len(whole) > LONGEST:  # of a long grid: what is cut off stands in a digest
            whole = f"{whole[: LONGEST - 9]}.{hashlib.sha256(whole.encode()).hexdigest()[:8]}"
        return f"{whole}-s{seed}{fold}"


def drawn_name(name: str, seed: int = 0) -> str:
    """What the set ``drawn:N`` is called in a store; the name of any other set as it is."""
    if not name.startswith(DRAWN):
        return name
    return f"drawn-{name.removeprefix(DRAWN)}" + (f"-{seed}" if seed else "")
