"""Ensembles of stored predictions: combining them and measuring how differently they err. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ensemble_fer.ensemble.combination import Combination, combination_from, plain
from ensemble_fer.ensemble.diversity import diversity
from ensemble_fer.ensemble.fitting import CALIBRATE, Fitted, fit
from ensemble_fer.ensemble.members import check_together, join_protocols
from ensemble_fer.ensemble.rules import RULES
from ensemble_fer.errors import UsageError
from ensemble_fer.types import Predictions

__all__ = ["CALIBRATE", "RULES", "Combination", "Fitted", "combination_from", "combine", "diversity", "fit", "plain"]


def combine(
    members: Sequence[Predictions], rule: str | Combination = "mean", source: str | None = None, fitted: str = ""
) -> Predictions:
    """What the ensemble of these members says of the rows they share.

    Parameters
    ----------
    members : sequence of Predictions
        At least one; all of the same rows, in the same order, of the same part of the same split.
    rule : str or Combination
        A key of ``RULES`` that fits nothing, or what ``fit`` made of one that does.
    source : str, optional
        Id of the ensemble; ``rule(id, id, …)`` by default.
    fitted : str
        What was fitted and where, for the stamp.

    Returns
    -------
    Predictions
        The logits are logarithms of the ensemble's probabilities (up to a constant a row for ``mean_logits``,
        ``stacking`` and with a temperature). The protocol joins those of the members: their resamplings with `` + ``,
        every leak, the most looks.

    Raises
    ------
    SplitMisuse
        Members differ in data, split, role, rows, labels, twin groups or twins in training.
    UsageError
        No member, the same member twice, another test-time augmentation, an unknown rule or one that is to be fitted,
        or a combination of another number of members.
    """
    by = rule if isinstance(rule, Combination) else plain(rule, len(members)) if members else None
    check_together(members)
    assert by is not None
    if len(by.weights) != len(members):
        raise UsageError(f"this combination is of {len(by.weights)} members; {len(members)} were given.")
    return replace(
        members[0],
        logits=by(np.stack([p.logits for p in members])),
        source=source or f"{by.rule}({', '.join(p.source for p in members)})",
        protocol=replace(join_protocols([p.protocol for p in members]), fitted=fitted),
    )
