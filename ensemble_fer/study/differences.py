"""A study's arms against one of them, row by row: how much better, and can chance do it, among so many arms?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.evaluate.counts import METRICS, row_statistics
from ensemble_fer.evaluate.intervals import N_BOOT, count_draws, mean_of_drawn, paired_draws, percentile_interval
from ensemble_fer.evaluate.pairs import difference_p, holm
from ensemble_fer.evaluate.ranking import average_precision, average_precision_draws
from ensemble_fer.study.gathering import Gathered
from ensemble_fer.study.plan import Study
from ensemble_fer.types import CLASSES, Predictions, Role

_COUNTED = ("macro_f1", "disgust_f1", "accuracy")
_RANKED, _RARE = "disgust_ap", CLASSES.index("disgust")
SAID_OF = ("macro_f1", "disgust_f1", _RANKED, "accuracy")
LEVEL = 0.05


def predictions_of_arm(study: Study, gathered: Gathered, of: str) -> list[Predictions]:
    """What an arm says, one for each seed: of its test part where it was scored, of all rows where there are folds.

    An arm of which a run failed gives nothing for that seed.
    """
    found = []
    for seed in study.seeds:
        own = [row for row in gathered.rows if row["of"] == of and row["seed"] == seed]
        for role in (Role.TEST, Role.SELECT):
            said = [gathered.said(row, role) for row in own]
            whole = [one for one in said if one is not None]
            if whole and len(whole) == len(said):
                found.append(pooled(whole) if study.folds else whole[0])
                break
    return found


def pooled(folds: Sequence[Predictions]) -> Predictions:
    """Predictions of the test parts of all folds as one, in the order of the rows.

    Each row is there once, predicted by a network that has trained on neither it nor a twin of it.
    """
    order = np.argsort(np.concatenate([p.rows for p in folds]), kind="stable")
    arrays = ("logits", "labels", "rows", "groups", "twin_in_train")
    joined = {key: np.concatenate([getattr(p, key) for p in folds])[order] for key in arrays}
    first = folds[0]
    protocol = replace(first.protocol, split=f"{first.protocol.split.rpartition(':')[0]}, all folds")
    return replace(first, **joined, protocol=protocol)


def differences(study: Study, gathered: Gathered, *, n_boot: int = N_BOOT, seed: int = 0) -> list[dict]:
    """Scores of each arm with intervals, and its differences from the arm ``study.against``.

    Returns
    -------
    list of dict
        For each arm and ensemble that was scored: ``of``, ``rows`` (faces), ``seeds``, ``scores`` and, for all but the
        one it is measured against that were scored on the same rows, ``differences``: for each of macro_f1, disgust_f1,
        disgust_ap (average precision, which no threshold changes) and accuracy ``value`` with ``ci95``. A difference
        also has ``p``, of the bootstrap over photographs and, where there are several, seeds, ``p_holm``, adjusted over
        the arms for each metric by itself, and ``verdict``: better, worse, or undecided at 5 %. ``on`` is what was
        scored: its part and split, and a number that is the same for arms that were scored on the same rows.
        ``beside``, of what ``study.pairs`` compares, has for the name of each other the same as ``differences``,
        adjusted over the pairs.
    """
    names = list(dict.fromkeys(row["of"] for row in gathered.rows))
    said = {of: predictions_of_arm(study, gathered, of) for of in names}
    base = said.get(study.against, [])
    draws = _Draws(n_boot, seed)
    parts: list[Predictions] = []
    found: list[dict] = []
    for of, own in said.items():
        if not own:
            continue
        first = own[0]
        part = _same_rows(first, parts)
        line = {
            "of": of,
            "on": [str(first.role), first.protocol.split, part],
            "rows": len(first),
            "seeds": [p.protocol.seed for p in own],
            "scores": draws.scores(own),
        }
        # Of the same faces alone: others are not to be compared, whatever the file asks.
        if base and of != study.against and len(own) == len(base) and part == _same_rows(base[0], parts):
            line["differences"] = draws.differences(own, base)
        found.append(line)
    _judge([line["differences"] for line in found if "differences" in line])
    lines = {line["of"]: line for line in found}
    pairs = [
        lines[a].setdefault("beside", {}).setdefault(b, draws.differences(said[a], said[b]))
        for a, b in study.pairs
        if a in lines and b in lines and lines[a]["on"] == lines[b]["on"] and len(said[a]) == len(said[b])
    ]
    _judge(pairs)
    return found


def _judge(compared: Sequence[dict[str, dict]]) -> None:
    """Of each metric p adjusted over all that is compared, and what it says."""
    for metric in SAID_OF:
        for one, p in zip(compared, holm([each[metric]["p"] for each in compared]), strict=True):
            one[metric]["p_holm"] = p
            one[metric]["verdict"] = "undecided" if p >= LEVEL else "better" if one[metric]["value"] > 0 else "worse"


def _same_rows(said: Predictions, parts: list[Predictions]) -> int:
    """The number of the part that was scored; a new one is noted."""
    for number, known in enumerate(parts):
        if np.array_equal(known.rows, said.rows) and known.protocol.data == said.protocol.data:
            return number
    parts.append(said)
    return len(parts) - 1


class _Draws:
    """What the bootstrap draws of each network are, drawn once."""

    def __init__(self, n_boot: int, seed: int) -> None:
        self.how = {"n_boot": n_boot, "seed": seed}
        self.counted: dict[int, NDArray] = {}
        self.ranked: dict[int, tuple[float, NDArray]] = {}

    def counts(self, said: Predictions) -> NDArray:
        if id(said) not in self.counted:
            self.counted[id(said)] = count_draws(said, **self.how)
        return self.counted[id(said)]

    def ranks(self, said: Predictions) -> tuple[float, NDArray]:
        """Average precision, and its draws."""
        if id(said) not in self.ranked:
            draws = average_precision_draws(said, _RARE, **self.how)
            self.ranked[id(said)] = average_precision(said, _RARE), draws
        return self.ranked[id(said)]

    def scores(self, own: Sequence[Predictions]) -> dict[str, dict]:
        """Mean over the seeds of each metric, and of the ends of its intervals over photographs."""
        counts = [row_statistics(p.labels, p.logits).sum(axis=0) for p in own]
        found = {}
        for metric in SAID_OF:
            if metric == _RANKED:
                each, drawn = zip(*(self.ranks(p) for p in own), strict=True)
            else:
                each = [float(METRICS[metric](one)) for one in counts]
                drawn = [METRICS[metric](self.counts(p)) for p in own]
            ends = [bounds for draws in drawn if (bounds := percentile_interval(draws)) is not None]
            middle = [float(np.mean(side)) for side in zip(*ends, strict=True)] if ends else None
            found[metric] = {"value": float(np.mean(each)), "ci95": middle, "each": list(each)}
        return found

    def differences(self, own: Sequence[Predictions], base: Sequence[Predictions]) -> dict[str, dict]:
        """How much better an arm is than another, with the same seeds, on the same rows."""
        draws = paired_draws(own, base, _COUNTED, draw=self.counts, **self.how)
        pairs = list(zip(own, base, strict=True))
        ranks = [(self.ranks(a), self.ranks(b)) for a, b in pairs]
        apart = np.stack([a[1] - b[1] for a, b in ranks], axis=1)
        value = float(np.mean([a[0] - b[0] for a, b in ranks]))
        draws[_RANKED] = value, mean_of_drawn(apart, seed=self.how["seed"])
        return {
            metric: {
                "value": draws[metric][0],
                "ci95": percentile_interval(draws[metric][1]),
                "p": difference_p(*draws[metric]),
            }
            for metric in SAID_OF
        }
