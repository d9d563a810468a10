"""Rules and temperatures fitted on the select part, and what that fitting flatters itself by.

Only rows without a twin in training are fitted on: on the others members show what they remember, and a rule that is
fitted there prefers those that remember most.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.ensemble.combination import Combination
from ensemble_fer.ensemble.members import check_together, join_protocols
from ensemble_fer.ensemble.rules import RULES
from ensemble_fer.errors import SplitMisuse, UsageError, unknown_name
from ensemble_fer.evaluate.metrics import summary
from ensemble_fer.evaluate.temperature import calibration_scores, fit_temperature
from ensemble_fer.types import Predictions, Role

CALIBRATE = ("none", "members", "ensemble", "both")
"""Whose temperatures are fitted."""
FOLDS = 5
LEAST_ROWS = 100
"""With fewer rows whatever is fitted says more of these rows than of faces."""


@dataclass(frozen=True)
class Fitted:
    """A combination and what it is worth on the part it was fitted on.

    Parameters
    ----------
    combination : Combination
    predictions : Predictions
        Of the select part, by rules and members' temperatures that were fitted without the row and its twins: honest
        scores. The one number of the ensemble's temperature is fitted, for a fold, on the cross-fitted logits of the
        others.
    rows : int
        How many rows were fitted on; 0 where nothing was.
    optimism : dict
        ``accuracy``, ``macro_f1`` and ``nll`` of the rows fitted on: ``fitted`` by the combination itself,
        ``cross_fitted``, and ``optimism``, the former minus the latter. Empty where nothing was fitted.
    calibration : dict
        ``ensemble``, and under ``members`` each by its source: ``temperature``, and ``before`` and ``after`` it what
        ``calibration_scores`` gives, on select rows without a twin in training. Empty where there are none. A member's
        temperature is fitted on these very rows, the ensemble's is cross-fitted.
    """

    combination: Combination
    predictions: Predictions
    rows: int
    optimism: dict[str, dict[str, float]]
    calibration: dict[str, dict]


def fit(
    members: Sequence[Predictions],
    rule: str = "mean",
    *,
    calibrate: str = "none",
    seed: int = 0,
    source: str | None = None,
) -> Fitted:
    """Fit a rule, and temperatures, on predictions of the select part. A rule that fits nothing is taken as it is.

    Members' temperatures come first, then the rule, then the ensemble's temperature, which is fitted on cross-fitted
    logits. For cross-fitting the rows are dealt into five folds that keep twins together and the shares of classes.

    Parameters
    ----------
    members : sequence of Predictions
        Of the select part; as ``combine`` takes them.
    rule : str
        A key of ``RULES``.
    calibrate : str
        One of ``CALIBRATE``.
    seed : int
        Of the folds, and of a rule that draws.
    source : str, optional
        Id of the ensemble, for its predictions.

    Raises
    ------
    SplitMisuse
        The predictions are of another part, or do not belong together.
    UsageError
        An unknown rule, or too few rows to fit on.
    """
    if rule not in RULES:
        raise unknown_name("rule of fusion", rule, RULES)
    if calibrate not in CALIBRATE:
        raise unknown_name("choice of temperatures", calibrate, CALIBRATE)
    check_together(members)
    first = members[0]
    if first.role != Role.SELECT:
        raise SplitMisuse(
            f"rules and temperatures are fitted on the select part; these are predictions of the {first.role} part."
        )
    each = np.stack([p.logits for p in members]).astype(np.float64)
    labels, known = first.labels, np.flatnonzero(~first.twin_in_train)
    fits = RULES[rule].fit is not None or calibrate != "none"
    if fits and len(known) < LEAST_ROWS:
        raise UsageError(
            f"the select part has {len(known)} rows without a twin in training; expected {LEAST_ROWS} or more to fit "
            f"rule {rule!r} with temperatures of {calibrate}. Take --rule mean and --calibrate none, or more data."
        )

    def of(rows: NDArray[np.int64]) -> Combination:
        return _fitted_on(each[:, rows], labels[rows], rule, calibrate in ("members", "both"), seed)

    whole = of(known)
    crossed = whole(each)
    if whole.fitted:
        folds = list(_folds(labels[known], first.groups[known], seed))
        for others, held in folds:
            crossed[known[held]] = of(known[others])(each[:, known[held]])
    raw = crossed
    if calibrate in ("ensemble", "both"):
        whole = replace(whole, temperature=fit_temperature(raw[known], labels[known]))
        crossed = raw / np.float32(whole.temperature)
        for others, held in _folds(labels[known], first.groups[known], seed):
            held_rows = known[held]
            crossed[held_rows] = raw[held_rows] / fit_temperature(raw[known[others]], labels[known[others]])
    done = f"{', '.join(whole.fitted)} on {len(known):,} select rows without a twin in training" if fits else ""
    protocol = replace(join_protocols([p.protocol for p in members]), fitted=done)
    name = source or f"{rule}({', '.join(p.source for p in members)})"
    return Fitted(
        combination=whole,
        predictions=replace(first, logits=crossed, source=name, protocol=protocol),
        rows=len(known) if fits else 0,
        optimism=_optimism(labels[known], whole(each[:, known]), crossed[known]) if fits else {},
        calibration=_calibration(members, known, whole, raw, crossed) if len(known) else {},
    )


def _fitted_on(
    each: NDArray[np.float64], labels: NDArray[np.uint8], rule: str, with_temperatures: bool, seed: int
) -> Combination:
    """Members' temperatures and the rule, without the ensemble's temperature."""
    temperatures = np.ones(len(each))
    if with_temperatures:
        temperatures = np.array([fit_temperature(logits, labels) for logits in each])
    plain = Combination(rule, np.full(len(each), 1 / len(each)), temperatures)
    fits = RULES[rule].fit
    return plain if fits is None else replace(plain, **fits(each / temperatures[:, None, None], labels, seed))


def _folds(
    labels: NDArray[np.uint8], groups: NDArray[np.int32], seed: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Positions of the other folds and of the fold; twins stay together, classes keep their shares."""
    import warnings

    from sklearn.model_selection import StratifiedGroupKFold

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a class with fewer rows than folds
        yield from StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(labels, labels, groups)


def _optimism(labels: NDArray[np.uint8], fitted: NDArray, crossed: NDArray) -> dict[str, dict[str, float]]:
    scores = {"fitted": summary(labels, fitted), "cross_fitted": summary(labels, crossed)}
    return {
        key: {
            **{how: scores[how][key] for how in scores},
            "optimism": scores["fitted"][key] - scores["cross_fitted"][key],
        }
        for key in ("accuracy", "macro_f1", "nll")
    }


def _calibration(
    members: Sequence[Predictions], known: NDArray[np.int64], by: Combination, raw: NDArray, crossed: NDArray
) -> dict[str, dict]:
    """Of the ensemble, on cross-fitted logits, and of each member: before and after its temperature."""
    labels = members[0].labels[known]
    each = {
        p.source: {
            "temperature": temperature,
            "before": calibration_scores(p.logits[known], labels),
            "after": calibration_scores(p.logits[known] / temperature, labels),
        }
        for p, temperature in zip(members, by.temperatures.tolist(), strict=True)
    }
    whole = {
        "temperature": by.temperature,
        "before": calibration_scores(raw[known], labels),
        "after": calibration_scores(crossed[known], labels),
    }
    return {"ensemble": whole, "members": each}
