"""What each mistake of protocol adds: the leaky score beside the honest one of the same member, over seeds.

It reads the rows of the study ``leakage``; which arm stands for what is said here by the names of its stages.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.evaluate.metrics import summary
from ensemble_fer.study.gathering import Gathered
from ensemble_fer.study.plan import Study
from ensemble_fer.study.published import published
from ensemble_fer.types import Predictions, Role

METRICS = ("accuracy", "macro_f1")
BALANCED = ("ros", "smote", "smote_tomek")
SHOWN = {"ros": "ROS", "smote": "SMOTE", "smote_tomek": "SMOTE-Tomek", "three": "the mean of the three"}
STEPS = {
    "one": ("all rows resampled, then divided", "honest"),
    "own": ("each resampled set divided on its own", "honest"),
    "onward": ("each divided on its own, on from a network tuned before", "continued"),
}
"""What each leaky stage is called, and the honest one that trained as long."""
CHOOSING = ("official", "swapped")
"""Stages that keep the epoch that was best somewhere, which need not be one that remembers."""
MEMBERS = 3
"""Of the ensemble whose members are searched."""


@dataclass(frozen=True)
class Mistake:
    """One mistake and what it adds.

    Parameters
    ----------
    group : str
        The kind of mistake.
    what : str
        What was done wrong, or of which network it is.
    honest, leaky : dict
        For each of ``METRICS`` a score of each seed, 0 to 1.
    published : float or None
        The accuracy that was published for it.
    """

    group: str
    what: str
    honest: dict[str, list[float]]
    leaky: dict[str, list[float]]
    published: float | None = None
    added: dict[str, dict] = field(init=False)

    def __post_init__(self) -> None:
        added = {metric: over_seeds(np.subtract(self.leaky[metric], self.honest[metric])) for metric in METRICS}
        object.__setattr__(self, "added", added)

    def to_dict(self) -> dict:
        """JSON values, marked LEAKY."""
        return {**vars(self), "mark": "LEAKY"}


def over_seeds(values: NDArray) -> dict:
    """Mean, and its 95 % interval by Student's t over the seeds; None of a single one."""
    from scipy.stats import t

    n = len(values)
    mean = float(np.mean(values))
    if n < 2:
        return {"mean": mean, "ci95": None}
    half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return {"mean": mean, "ci95": [mean - half, mean + half]}


def mistakes(study: Study, gathered: Gathered) -> list[Mistake]:
    """What each mistake added, of the finished rows of the study ``leakage``; what lacks a row is left out."""
    pool = _Pool(study, gathered)
    found: list[Mistake] = []

    def add(group: str, what: str, pairs: Callable[[int], tuple[dict, dict]], claimed: float | None = None) -> None:
        """A mistake whose honest and leaky scores of a seed ``pairs`` gives; seeds that lack a row are left out."""
        each = []
        for seed in study.seeds:
            try:
                each.append(pairs(seed))
            except KeyError:
                continue
        if each:
            honest, leaky = ({m: [one[side][m] for one in each] for m in METRICS} for side in (0, 1))
            found.append(Mistake(group, what, honest, leaky, claimed))

    claims = {one.arm: one.accuracy for one in published("gaballa_tantawy_ensemble") if one.leaky}
    for stage, (text, base) in STEPS.items():
        for method in (*BALANCED, "three"):
            honest, leaky = (_arm(of, method) for of in (base, stage))
            # Members that were made by one division of all rows give no mean like the published one.
            claim = claims["three"] if method == "three" else claims[f"balanced/{method}"]
            add(
                text,
                SHOWN[method],
                lambda seed, honest=honest, leaky=leaky: (pool.test(honest, seed), pool.test(leaky, seed)),
                claim if method != "three" or stage != "one" else None,
            )
    add(
        "twins of test faces train, as the official split has it",
        "against training without them",
        lambda seed: (pool.test("clean", seed), pool.test("twins", seed)),
    )
    count = len(pool.arms)
    add("checkpoint and recipe chosen on the test", f"of {count} recipes and all their epochs", pool.chosen)
    add("test rows without a detected face dropped", "by MTCNN", pool.faceless)
    add("the members of an ensemble searched on the test", f"{pool.members} of {count}", pool.searched)
    return found


def _arm(stage: str, method: str) -> str:
    """The arm of a method in a stage; of the three together the ensemble."""
    return f"{stage}-three" if method == "three" else f"{stage}/{method}"


class _Pool:
    """What the arms said; those of the official split are the ones of which recipes, rows and members are chosen.

    Whatever lacks a row raises KeyError.
    """

    def __init__(self, study: Study, gathered: Gathered) -> None:
        self.gathered = gathered
        self.arms = [arm.name for arm in study.arms if arm.stage == "official"]
        self.rows = {(row["of"], row["seed"]): row for row in gathered.rows}
        # Fewer than all: else there is nothing to search.
        self.members = max(1, min(MEMBERS, len(self.arms) - 1))

    def said(self, of: str, seed: int, role: Role) -> Predictions:
        found = self.gathered.said(self.rows[of, seed], role)
        if found is None:
            raise KeyError(of)
        return found

    def test(self, of: str, seed: int) -> dict:
        """Scores of the test part."""
        return _scores(self.said(of, seed, Role.TEST))

    def chosen(self, seed: int) -> tuple[dict, dict]:
        """The recipe that the select part prefers, and the one that the test part does, both scored on the test."""
        swapped = [_scores(self.said(of.replace("official", "swapped"), seed, Role.SELECT)) for of in self.arms]
        return self.test(self._best(seed), seed), max(swapped, key=lambda scores: scores["accuracy"])

    def faceless(self, seed: int) -> tuple[dict, dict]:
        """Of the network of the official split all test rows, and those in which a face is found."""
        said, found = self.said("twins", seed, Role.TEST), self.gathered.found
        if found is None:
            raise KeyError("found")
        kept = found[said.rows]
        return _scores(said), summary(said.labels[kept], said.logits[kept])

    def searched(self, seed: int) -> tuple[dict, dict]:
        """Of all ensembles of some members the best on the select part, and the best on the test, scored there."""
        select, test = ([self.said(of, seed, role) for of in self.arms] for role in (Role.SELECT, Role.TEST))
        sets = list(itertools.combinations(range(len(self.arms)), self.members))
        by_select, by_test = ([_mean(said, members) for members in sets] for said in (select, test))
        honest = max(range(len(sets)), key=lambda i: by_select[i]["accuracy"])
        leaky = max(range(len(sets)), key=lambda i: by_test[i]["accuracy"])
        return by_test[honest], by_test[leaky]

    def _best(self, seed: int) -> str:
        """The arm that the select part prefers."""
        if not self.arms:
            raise KeyError("official")
        return max(self.arms, key=lambda of: _scores(self.said(of, seed, Role.SELECT))["accuracy"])


def _scores(said: Predictions) -> dict:
    return summary(said.labels, said.logits)


def _mean(said: Sequence[Predictions], members: Sequence[int]) -> dict:
    """Scores of the mean of the probabilities of some members."""
    mean = np.mean([said[i].probabilities() for i in members], axis=0)
    return summary(said[0].labels, np.log(np.maximum(mean, 1e-30)))


def by_group(found: Sequence[Mistake]) -> Iterator[tuple[str, list[Mistake]]]:
    """The mistakes of each kind together."""
    for group in dict.fromkeys(one.group for one in found):
        yield group, [one for one in found if one.group == group]
