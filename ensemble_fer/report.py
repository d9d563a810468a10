"""Scoring a run or an ensemble on the test or select part: predictions are found or made, looks are counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ensemble_fer.artifact import canonical
from ensemble_fer.data.derived import faceless_dropped
from ensemble_fer.data.importing import identity_images, load_faces
from ensemble_fer.data.splits import twins_in
from ensemble_fer.data.votes import agreement_of, find_votes, is_top, load_votes
from ensemble_fer.devices import choose_device
from ensemble_fer.ensemble import combine
from ensemble_fer.errors import SplitMisuse, UsageError, unknown_name
from ensemble_fer.evaluate.agreement import by_agreement
from ensemble_fer.evaluate.figures import confusion_figure
from ensemble_fer.evaluate.metrics import Report, score
from ensemble_fer.evaluate.predictions import load_predictions, load_protocol, protocol_from_json, save_predictions
from ensemble_fer.looks import count_look
from ensemble_fer.store import Artifact, Store
from ensemble_fer.types import Predictions, Protocol, Role, Split, TwinMap

KINDS = ("run", "ensemble")
TTA = ("none", "flip", "ten_crop")
PREDICTIONS, FIGURE = "predictions.npz", "confusion.png"
SELECT = "select.npz"
# Raised when scores are computed otherwise than before: old ones are not taken for new ones.
VERSION = 1


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
    tta: str = "none",
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
    tta : str
        ``none`` (centre crop), ``flip`` or ``ten_crop``.
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
    if tta not in TTA:
        raise unknown_name("test-time augmentation", tta, TTA)
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


def _faces_of(store: Store, source: Artifact) -> Artifact | None:
    """The set of a run or an ensemble; None where it is gone."""
    run = source.id if source.kind == "run" else source.inputs[0]
    data = store.by_id("run", run).inputs[0] if run in store.ids("run") else ""
    return store.by_id("data", data) if data in store.ids("data") else None


def find_source(store: Store, name: str, kinds: Sequence[str] = KINDS) -> Artifact:
    """The run or ensemble with this reference, id or beginning of an id; or an artifact of other kinds.

    Raises
    ------
    UsageError
        There is none, or several kinds have one that is called so.
    """
    kind, colon, rest = name.partition(":")
    if colon:
        if kind not in kinds:
            raise unknown_name("kind before the colon", kind, kinds)
        return store.get(kind, rest)
    # An exact id first, as Store.get has it.
    found = [kind for kind in kinds if name in store.ids(kind)] or [
        kind
        for kind in kinds
        if name in store.refs(kind) or (len(name) >= 4 and any(i.startswith(name) for i in store.ids(kind)))
    ]
    if len(found) > 1:
        raise UsageError(f"several things are called {name!r}. Write {' or '.join(f'{k}:{name}' for k in found)}.")
    if not found:
        known = [known for kind in kinds for known in (store.refs(kind) or store.ids(kind))]
        raise unknown_name(f"{' or '.join(kinds)} (in store {store.root})", name, known)
    return store.get(found[0], name)


def _scored(store: Store, source: Artifact, role: Role, tta: str, device: str, quiet: bool) -> tuple[Artifact, bool]:
    """The predictions artifact of a source, and whether it was there already."""
    spec = {"source": source.id, "role": str(role), "tta": tta, "version": VERSION}
    found = store.find("predictions", spec, [source.id])
    if found is not None:
        return found, True
    if role == Role.SELECT:
        check_select(store, source)
    if role == Role.SELECT and tta == "none":
        said = replace(load_predictions(source.file(SELECT)), source=source.id)
    elif source.kind == "ensemble":
        said = _of_ensemble(store, source, role, tta, device, quiet)
    else:
        said = _of_run(store, source, role, tta, device, quiet)

    def write(folder: Path) -> dict:
        save_predictions(folder / PREDICTIONS, said)
        report = score(said)
        confusion_figure(report, folder / FIGURE, name=store.name_of(source))
        return report.to_dict()

    return store.put("predictions", spec, [source.id], write), False


def check_select(store: Store, source: Artifact) -> None:
    """Raise SplitMisuse if a run, or a member of an ensemble, was trained on the select part."""
    for run in [source] if source.kind == "run" else [store.by_id("run", i) for i in source.inputs]:
        if run.spec["recipe"].get("train_on", "train") != "train":
            raise SplitMisuse(
                f"run {run.id} ({store.name_of(run)}) was trained on train+select: it knows the select part, so that "
                "nothing can be scored, chosen or fitted there. Evaluate the test part, or train it on train alone."
            )


def _of_ensemble(store: Store, source: Artifact, role: Role, tta: str, device: str, quiet: bool) -> Predictions:
    """The members' predictions, made where they are missing, combined by the rule."""
    members = []
    for identity in source.inputs:
        made, _ = _scored(store, store.by_id("run", identity), role, tta, device, quiet)
        members.append(replace(load_predictions(made.file(PREDICTIONS)), source=identity))
    combined = combine(members, source.spec["rule"], source=source.id)
    if role != Role.TEST:
        return combined
    first = store.by_id("run", source.inputs[0])
    data, split = store.by_id("data", first.inputs[0]), _split(store.by_id("split", first.inputs[1]))
    return replace(combined, protocol=_looked(store, combined.protocol, data, split, source, tta))


def _of_run(store: Store, run: Artifact, role: Role, tta: str, device: str, quiet: bool) -> Predictions:
    """What the weights of a run say of a part, computed by torch in float32."""
    from ensemble_fer.train import left_out, load_member, own_code, predictions_of, trained_rows

    data = store.by_id("data", run.inputs[0])
    split = _split(store.by_id("split", run.inputs[1]))
    twins = TwinMap(**store.by_id("twins", run.inputs[2]).arrays("twins.npz"))
    part = split.test if role == Role.TEST else split.select
    if not len(part):
        raise SplitMisuse(f"split {split.name!r} of run {run.id} has no {role} rows; there is nothing to score.")
    faces = load_faces(data)
    twins = twins_in(split, faces, twins)
    member = load_member(run).to(choose_device(device))
    trained_on = run.spec["recipe"].get("train_on", "train")
    if SELECT in run.manifest["files"]:
        protocol = load_protocol(run.file(SELECT))
    else:
        protocol = protocol_from_json(canonical(run.metrics["protocol"]), f"run {run.id}")
    protocol = replace(protocol, role=str(role), tta=tta, looks=0)
    dropped = faceless_dropped(split, role)
    protocol = replace(protocol, rows_left_out=left_out(data, faces, part), faceless_dropped=dropped)
    # All that can fail has been loaded. From here on this is a look, whatever happens to the process.
    if role == Role.TEST:
        choosing = split.select_rows if trained_on == "train" else split.select_rows[:0]
        also = twins.have_twin_in(part.rows, choosing)
        protocol = replace(protocol, twins_in_select=int(also.sum()))
        protocol = _looked(store, protocol, data, split, run, tta)
    trained = trained_rows(split, trained_on)
    with own_code([run], "scoring"):
        return predictions_of(
            member, faces, part, trained, twins, source=run.id, protocol=protocol, tta=tta, quiet=quiet
        )


def _split(artifact: Artifact) -> Split:
    """The split a run was trained on, as it was stored."""
    parts = artifact.arrays("split.npz")
    return Split(artifact.spec["name"], parts["train"], parts["select"], parts["test"], artifact.metrics["removed"])


def _looked(store: Store, protocol: Protocol, data: Artifact, split: Split, source: Artifact, tta: str) -> Protocol:
    """The stamp after this look at the test part has been written down."""
    images = identity_images(store, data)
    found = count_look(store, images[split.test_rows], images[split.select_rows], source.id, tta)
    return replace(protocol, looks=found.looks, chosen_on=found.chosen_on)
