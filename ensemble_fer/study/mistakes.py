"""What each mistake of protocol adds: the leaky score beside the honest one of the same member, over seeds.

It reads the rows of the study ``leakage``; which arm stands for what is said here by the names of its stages.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.evaluate.counts import accuracy_of, confusion, macro_f1_of, ratio
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
    alike : dict or None
        The honest scores if each class weighed the same, as in a test part that was balanced before the split: what
        lies between these and the leaky ones is memory, the rest other rows. None where the test rows are the same.
    published : float or None
        The accuracy that was published for it.
    """

    group: str
    what: str
    honest: dict[str, list[float]]
    leaky: dict[str, list[float]]
    published: float | None = None
    alike: dict[str, list[float]] | None = None
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


@dataclass(frozen=True)
class _Line:
    """A mistake as it is asked for: of a seed its honest and leaky scores, and maybe the honest ones of classes alike.

    What lacks a row raises KeyError.
    """

    group: str
    what: str
    scores: Callable[[int], tuple[dict, ...]]
    published: float | None = None


def mistakes(study: Study, gathered: Gathered) -> list[Mistake]:
    """What each mistake added, of the finished rows of the study ``leakage``; what lacks a row is left out."""
    found = []
    for line in _lines(study, gathered):
        each = [scores for seed in study.seeds if (scores := _scored(line, seed)) is not None]
        if each:
            sides = [{m: [one[side][m] for one in each] for m in METRICS} for side in range(len(each[0]))]
            alike = sides[2] if len(sides) > 2 else None
            found.append(Mistake(line.group, line.what, sides[0], sides[1], line.published, alike))
    return found


def lacking(study: Study, gathered: Gathered) -> list[str]:
    """The mistakes and seeds of which a row is not there, so that they are not in ``mistakes``."""
    return [
        f"{line.group}, {line.what}, seed {seed}"
        for line in _lines(study, gathered)
        for seed in study.seeds
        if _scored(line, seed) is None
    ]


def _scored(line: _Line, seed: int) -> tuple[dict, ...] | None:
    try:
        return line.scores(seed)
    except KeyError:
        return None


def _lines(study: Study, gathered: Gathered) -> Iterator[_Line]:
    """All mistakes, whether their rows are there or not."""
    pool = _Pool(study, gathered)
    claims = {one.arm: one.accuracy for one in published("gaballa_tantawy_ensemble") if one.leaky}
    for stage, (text, base) in STEPS.items():
        for method in (*BALANCED, "three"):
            # Members that were made by one division of all rows give no mean like the published one.
            claim = claims["three"] if method == "three" else claims[f"balanced/{method}"]
            yield _Line(
                text,
                SHOWN[method],
                partial(pool.resampled, _arm(base, method), _arm(stage, method)),
                claim if method != "three" or stage != "one" else None,
            )
    yield _Line("twins of test faces train, as the official split has it", "against training without them", pool.twins)
    count = len(pool.arms)
    yield _Line("checkpoint and recipe chosen on the test", f"of {count} recipes and all their epochs", pool.chosen)
    yield _Line("test rows without a detected face dropped", "by MTCNN", pool.faceless)
    yield _Line("the members of an ensemble searched on the test", f"{pool.members} of {count}", pool.searched)


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

    def resampled(self, honest: str, leaky: str, seed: int) -> tuple[dict, dict, dict]:
        """Of a network of a set that was resampled before the split, and of its honest one."""
        said = self.said(honest, seed, Role.TEST)
        return _scores(said), self.test(leaky, seed), _alike(said)

    def twins(self, seed: int) -> tuple[dict, dict]:
        """Of networks that were trained without twins of test rows, and with them."""
        return self.test("clean", seed), self.test("twins", seed)

    def chosen(self, seed: int) -> tuple[dict, dict]:
        """The recipe that the select part prefers, and the one that the test part does, both scored on the test."""
        best = self._best(seed)
        swapped = [_scores(self.said(of.replace("official", "swapped"), seed, Role.SELECT)) for of in self.arms]
        return self.test(best, seed), max(swapped, key=lambda scores: scores["accuracy"])

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
        if not self.arms:
            raise KeyError("official")
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


def _alike(said: Predictions) -> dict:
    """The scores if there were as many rows of each class as of any other."""
    counts = confusion(said.labels, said.logits)
    shares = ratio(counts, counts.sum(axis=1, keepdims=True))
    return {"accuracy": float(accuracy_of(shares)), "macro_f1": float(macro_f1_of(shares))}


def _mean(said: Sequence[Predictions], members: Sequence[int]) -> dict:
    """Scores of the mean of the probabilities of some members."""
    mean = np.mean([said[i].probabilities() for i in members], axis=0)
    return summary(said[0].labels, np.log(np.maximum(mean, 1e-30)))


def by_group(found: Sequence[Mistake]) -> Iterator[tuple[str, list[Mistake]]]:
    """The mistakes of each kind together."""
    for group in dict.fromkeys(one.group for one in found):
        yield group, [one for one in found if one.group == group]
