"""Scoring a run or an ensemble on the test or select part: predictions are found or made, looks are counted."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ensemble_fer.data.votes import agreement_of, find_votes, is_top, load_votes
from ensemble_fer.ensemble import Combination, combination_from, combine
from ensemble_fer.errors import SplitMisuse, UsageError, unknown_name
from ensemble_fer.evaluate.agreement import by_agreement
from ensemble_fer.evaluate.metrics import Report, score
from ensemble_fer.evaluate.predictions import load_predictions
from ensemble_fer.scoring import (
    PREDICTIONS,
    SELECT,
    TTA,
    check_outside,
    check_select,
    find_source,
    looked,
    scored_run,
    split_of_run,
    stored_or_made,
)
from ensemble_fer.store import Artifact, Store
from ensemble_fer.types import Predictions, Role


@dataclass(frozen=True)
class Evaluation:
    """A scored part.

    Parameters
    ----------
    report : Report
        All metrics with intervals and the protocol stamp; ``.to_dict()`` gives JSON values.
    predictions : Predictions
        What was scored.
    artifact : Artifact
        Of kind predictions: ``predictions.npz`` and ``confusion.png``; its metrics are the report.
    source : Artifact
        The run or ensemble.
    stored : bool
        The predictions were there already, so no look was counted.
    votes : Artifact or None
        Those in force, by which ``report.by_agreement`` was counted.
    """

    report: Report
    predictions: Predictions
    artifact: Artifact
    source: Artifact
    stored: bool
    votes: Artifact | None = None


def evaluate(
    store: Store,
    name: str,
    *,
    tta: str | None = None,
    role: str = Role.TEST,
    device: str = "auto",
    quiet: bool = False,
) -> Evaluation:
    """Score a run or an ensemble on one part of the split it was trained on.

    What was scored before is read from the store. A new score of the test part counts a look; one of an
    ensemble counts a look for each member that had none with this augmentation, and one for the ensemble,
    since the leaderboard then shows all of them. The look is written down before the faces are shown to the
    network: a process killed in between has looked.

    Parameters
    ----------
    name : str
        Reference or id; ``run:NAME`` or ``ensemble:NAME`` where both exist.
    tta : str, optional
        ``none`` (centre crop), ``flip`` or ``ten_crop``; by default that with which an ensemble was fused, and none for
        a run.
    role : str
        ``test``, or ``select``, which counts no look.
    device : str
        Where torch computes new predictions, in float32: ``auto``, ``cpu``, ``cuda`` or ``mps``.
    quiet : bool
        Draw no progress.

    Raises
    ------
    UsageError
        An unknown or ambiguous name, augmentation or part.
    MissingError
        Something the source was made from is gone.
    SplitMisuse
        The train part was asked for, or the split has no such part.
    """
    source = find_source(store, name)
    tta = tta_for(source, tta)
    if role == Role.TRAIN:
        raise SplitMisuse("scores of the train part measure memory. Evaluate the 'test' or the 'select' part.")
    if role not in list(Role):
        raise unknown_name("part", role, (Role.TEST, Role.SELECT))
    artifact, stored = _scored(store, source, Role(role), tta, device, quiet)
    predictions = load_predictions(artifact.file(PREDICTIONS))
    report = score(predictions)
    data = _faces_of(store, source)
    joined = None if data is None else find_votes(store, data)
    if data is not None and joined is not None:
        votes = load_votes(joined, data.metrics["rows"])
        # Not among what is kept: votes may be joined after the score was made.
        agreement, top = agreement_of(votes)[predictions.rows], votes.seven[predictions.rows]
        report = replace(report, by_agreement=by_agreement(predictions, agreement, is_top(top, predictions.labels)))
    return Evaluation(report, predictions, artifact, source, stored, joined)


def tta_for(source: Artifact, tta: str | None) -> str:
    """The augmentation to score with; only its own for an ensemble whose graph has one, or that was fitted with it."""
    own = own_tta(source)
    if tta is None:
        return own
    if tta not in TTA:
        raise unknown_name("test-time augmentation", tta, TTA)
    if tta != own and (own != "none" or fitted_text(source)):
        raise UsageError(
            f"this ensemble was fused with test-time augmentation {own!r}, and its graph and what was fitted hold for "
            f"that alone; {tta!r} was asked for. Leave --tta out, or fuse with --tta {tta}."
        )
    return tta


def _faces_of(store: Store, source: Artifact) -> Artifact | None:
    """The set of a run or an ensemble; None where it is gone."""
    run = source.id if source.kind == "run" else source.inputs[0]
    data = store.by_id("run", run).inputs[0] if run in store.ids("run") else ""
    return store.by_id("data", data) if data in store.ids("data") else None


def _scored(store: Store, source: Artifact, role: Role, tta: str, device: str, quiet: bool) -> tuple[Artifact, bool]:
    """The predictions artifact of a source, and whether it was there already."""
    if source.kind == "run":
        return scored_run(store, source, role, tta, device=device, quiet=quiet)
    return stored_or_made(store, source, role, tta, lambda: _of_ensemble(store, source, role, tta, device, quiet))


def _of_ensemble(store: Store, source: Artifact, role: Role, tta: str, device: str, quiet: bool) -> Predictions:
    """What an ensemble says: as it was stored, or its members' predictions, made where missing, combined."""
    if role == Role.SELECT:
        check_select(store, source)
        if tta == own_tta(source):
            return load_predictions(source.file(SELECT))
    runs = [store.by_id("run", identity) for identity in source.inputs]
    for run in runs:  # before any look is taken
        check_outside(store, run, role, tta)
    members = []
    for run in runs:
        made, _ = scored_run(store, run, role, tta, device=device, quiet=quiet)
        members.append(replace(load_predictions(made.file(PREDICTIONS)), source=run.id))
    combined = combine(members, combination_of(source), source=source.id, fitted=fitted_text(source))
    if role != Role.TEST:
        return combined
    first = store.by_id("run", source.inputs[0])
    data, split = store.by_id("data", first.inputs[0]), split_of_run(store.by_id("split", first.inputs[1]))
    return replace(combined, protocol=looked(store, combined.protocol, data, split, source, tta))


def own_tta(source: Artifact) -> str:
    """The test-time augmentation that an ensemble was fused with; none for a run."""
    return source.spec.get("tta", "none") if source.kind == "ensemble" else "none"


def combination_of(source: Artifact) -> str | Combination:
    """By what an ensemble combines its members."""
    kept = source.metrics.get("combination")
    return source.spec["rule"] if kept is None else combination_from(kept)


def fitted_text(source: Artifact) -> str:
    """What of an ensemble was fitted, and where; empty for a run."""
    return (source.metrics.get("protocol") or {}).get("fitted", "")
