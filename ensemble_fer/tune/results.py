"""What a study has found, as plain values and files: its trials, the best recipe, what mattered."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from ensemble_fer.config import Recipe

Row = dict[str, Any]
_COLUMNS = ("number", "slot", "state", "value", "best_epoch", "epochs", "seconds", "same_as", "retry_of", "reason")


@dataclass(frozen=True)
class Slice:
    """One parameter beside the score: what ``figures.slices_figure`` draws.

    Parameters
    ----------
    name : str
    values : list
        Of the parameter, one a trial that had it.
    scores : list of float
        Best macro-F1 of each of these trials.
    complete : list of bool
        False where the trial was pruned: its score is of fewer epochs.
    log : bool
        Whether the parameter was searched on its logarithm.
    choices : bool
        Whether it is one of a few values and no number of a range.
    """

    name: str
    values: list[Any]
    scores: list[float]
    complete: list[bool]
    log: bool
    choices: bool


def rows_of(trials: Iterable[FrozenTrial]) -> list[Row]:
    """A plain row for each trial, by number.

    Returns
    -------
    list of dict
        number, slot, state (complete, pruned, failed, killed, interrupted or running), value (best macro-F1 of its
        epochs on the select part, or None), best_epoch, epochs, seconds, same_as, retry_of, reason, params (what was
        asked for), changes (the recipe keys that it set) and scores (macro-F1 by epoch).
    """
    rows = []
    for trial in sorted(trials, key=lambda t: t.number):
        scores = {epoch: s for epoch, s in sorted(trial.intermediate_values.items()) if math.isfinite(s)}
        complete = trial.state == TrialState.COMPLETE
        # The kept epoch is the best one, unless the recipe keeps the last.
        wanted = trial.value if complete else None
        best = max(scores, key=lambda epoch: (scores[epoch] == wanted, scores[epoch])) if scores else None
        attrs = trial.user_attrs
        state = attrs.get("ended", "killed") if trial.state == TrialState.FAIL else trial.state.name.lower()
        rows.append(
            {
                "number": trial.number,
                "slot": attrs.get("slot"),
                "state": "failed" if state == "error" else state,
                "value": trial.value if complete else scores[best] if best is not None else None,
                "best_epoch": best,
                "epochs": len(scores),
                "seconds": attrs.get("seconds", _seconds(trial)),
                "same_as": attrs.get("same_as"),
                "retry_of": attrs.get("retry_of"),
                "reason": attrs.get("reason"),
                "params": trial.params,
                "changes": attrs.get("changes", {}),
                "scores": list(scores.values()),
            }
        )
    return rows


def _seconds(trial: FrozenTrial) -> float | None:
    """Of a trial that failed or runs; of the others it is sealed with the rest."""
    return round(trial.duration.total_seconds(), 1) if trial.duration else None


def best_of(rows: list[Row]) -> Row | None:
    """The complete trial with the highest value, the first of equals."""
    complete = [row for row in rows if row["state"] == "complete"]
    return max(complete, key=lambda row: (row["value"], -row["number"]), default=None)


def ranked(rows: list[Row]) -> list[Row]:
    """Complete trials, best first; those that repeat another are left out."""
    complete = [row for row in rows if row["state"] == "complete" and row["same_as"] is None]
    return sorted(complete, key=lambda row: (-row["value"], row["number"]))


def last_reason(rows: list[Row]) -> str:
    """Why the last trial failed that did."""
    return next((row["reason"] for row in reversed(rows) if row["reason"]), "no reason was noted")


def words(values: dict[str, Any]) -> str:
    """Parameters or recipe keys in one line."""
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in values.items()
    )


def best_recipe(recipe: Recipe, best: Row, study: str, data: str, done: int) -> Recipe:
    """The recipe of the best trial; ``tuned`` says in the stamp of a run who has chosen it, on which faces."""
    chosen = f"study {study}, {done} trials on the select part of split {recipe.split} of {data}"
    return replace(recipe, **best["changes"], tuned=f"{recipe.tuned}; {chosen}" if recipe.tuned else chosen)


def best_toml(recipe: Recipe, best: Row, study: str, data: str, done: int) -> str:
    """``best.toml``: the whole recipe of the best trial, for ``train --recipe``, with a head that says where from."""
    return (
        f"# Study {study}: trial {best['number']} of {done} that were complete or pruned.\n"
        f"# Macro-F1 {best['value']:.4f} on the select part, in epoch {best['best_epoch']}; "
        f"split {recipe.split} of {data}.\n"
        "# The recipe and the epoch were both chosen on the select part, at which every trial has looked: this score\n"
        "# is too good. What the recipe is worth, a part says that chose nothing.\n"
        f"{best_recipe(recipe, best, study, data, done).to_toml()}"
    )


def trials_json(rows: list[Row]) -> str:
    return json.dumps(rows, indent=1, allow_nan=False) + "\n"


def trials_csv(rows: list[Row]) -> str:
    """One line a trial; parameters that a trial did not have are empty."""
    names = sorted({name for row in rows for name in row["params"]})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_COLUMNS, *names])
    for row in rows:
        writer.writerow([*(row[column] for column in _COLUMNS), *(row["params"].get(name) for name in names)])
    return text.getvalue()


def importance_of(study: optuna.Study) -> dict[str, float]:
    """How much of being among the best trials each parameter explains, shares of 1, the most important first.

    PED-ANOVA (Watanabe et al. 2023) over complete trials, as Optuna has it. Empty where fewer than four are complete or
    no parameter took two values: of so little it would say anything.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    seen: dict[str, set[Any]] = {}
    for trial in complete:
        for name, value in trial.params.items():
            seen.setdefault(name, set()).add(value)
    varied = [name for name, values in seen.items() if len(values) > 1]
    if len(complete) < 4 or not varied or len({trial.value for trial in complete}) < 2:
        return {}
    try:
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(), params=varied)
    except (ValueError, RuntimeError):
        return {}
    return {name: float(share) for name, share in found.items() if math.isfinite(share)}


def slices_of(trials: Iterable[FrozenTrial], rows: list[Row]) -> list[Slice]:
    """Each parameter beside the score, in the order in which the parameters were first asked for."""
    by_number = {row["number"]: row for row in rows}
    slices: dict[str, Slice] = {}
    for trial in trials:
        row = by_number[trial.number]
        if row["value"] is None or row["state"] not in ("complete", "pruned"):
            continue
        for name, value in trial.params.items():
            asked = trial.distributions[name]
            kind = (bool(getattr(asked, "log", False)), isinstance(asked, CategoricalDistribution))
            found = slices.setdefault(name, Slice(name, [], [], [], *kind))
            found.values.append(value)
            found.scores.append(row["value"])
            found.complete.append(row["state"] == "complete")
    return list(slices.values())
