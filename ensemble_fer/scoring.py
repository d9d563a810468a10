"""What a run says of a part, found in the store or made: the one way to a test part, by which looks are counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ensemble_fer.artifact import canonical
from ensemble_fer.data.derived import faceless_dropped
from ensemble_fer.data.importing import identity_images, load_faces
from ensemble_fer.data.splits import twins_in
from ensemble_fer.devices import choose_device
from ensemble_fer.errors import MissingError, SplitMisuse, UsageError, unknown_name
from ensemble_fer.evaluate.figures import confusion_figure
from ensemble_fer.evaluate.metrics import score
from ensemble_fer.evaluate.predictions import load_predictions, load_protocol, protocol_from_json, save_predictions
from ensemble_fer.looks import count_look
from ensemble_fer.store import Artifact, Store
from ensemble_fer.types import Predictions, Protocol, Role, Split, TwinMap

KINDS = ("run", "ensemble")
TTA = ("none", "flip", "ten_crop")
PREDICTIONS, FIGURE = "predictions.npz", "confusion.png"
SELECT = "select.npz"
OUTSIDE = "outside"
"""Stands in the spec of a run that is predictions of another program, with the sha256 of their file."""
# Raised when scores are computed otherwise than before: old ones are not taken for new ones.
VERSION = 1


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


def stored(store: Store, source: Artifact, role: Role, tta: str) -> Artifact | None:
    """The scored predictions of a source, if it was scored so."""
    return store.find("predictions", _spec(source, role, tta), [source.id])


def _spec(source: Artifact, role: Role, tta: str) -> dict:
    return {"source": source.id, "role": str(role), "tta": tta, "version": VERSION}


def stored_or_made(
    store: Store, source: Artifact, role: Role, tta: str, make: Callable[[], Predictions]
) -> tuple[Artifact, bool]:
    """The scored predictions of a source, and whether they were there already; else what ``make`` gives, stored."""
    found = stored(store, source, role, tta)
    if found is not None:
        return found, True
    spec = _spec(source, role, tta)
    said = replace(make(), source=source.id)

    def write(folder: Path) -> dict:
        save_predictions(folder / PREDICTIONS, said)
        report = score(said)
        confusion_figure(report, folder / FIGURE, name=store.name_of(source))
        return report.to_dict()

    return store.put("predictions", spec, [source.id], write), False


def scored_run(
    store: Store, run: Artifact, role: Role, tta: str = "none", *, device: str = "auto", quiet: bool = False
) -> tuple[Artifact, bool]:
    """Predictions of a run with their scores, as ``stored_or_made`` gives them.

    Raises
    ------
    SplitMisuse
        The run was trained on the select part, which was asked for; or the split has no such part.
    """

    def make() -> Predictions:
        if role == Role.SELECT:
            check_select(store, run)
        check_outside(store, run, role, tta)
        if role == Role.SELECT and tta == "none":
            return load_predictions(run.file(SELECT))
        return _computed(store, run, role, tta, device, quiet)

    return stored_or_made(store, run, role, tta, make)


def check_outside(store: Store, run: Artifact, role: Role, tta: str) -> None:
    """Raise MissingError if a run is predictions of another program, and there are none of this part."""
    own = role == Role.SELECT and tta == "none" and SELECT in run.manifest["files"]
    if OUTSIDE in run.spec and not own and stored(store, run, role, tta) is None:
        raise MissingError(
            f"{store.name_of(run)} is predictions that were made elsewhere, and of the {role} part with test-time "
            f"augmentation {tta!r} there are none. Import them:  ensemble-fer predictions import CSV"
        )


def check_select(store: Store, source: Artifact) -> None:
    """Raise SplitMisuse if a run, or a member of an ensemble, was trained on the select part."""
    for run in [source] if source.kind == "run" else [store.by_id("run", i) for i in source.inputs]:
        if run.spec["recipe"].get("train_on", "train") != "train":
            raise SplitMisuse(
                f"run {run.id} ({store.name_of(run)}) was trained on train+select: it knows the select part, so that "
                "nothing can be scored, chosen or fitted there. Evaluate the test part, or train it on train alone."
            )


def _computed(store: Store, run: Artifact, role: Role, tta: str, device: str, quiet: bool) -> Predictions:
    """What the weights of a run say of a part, computed by torch in float32."""
    from ensemble_fer.train import left_out, load_member, own_code, predictions_of, trained_rows

    data = store.by_id("data", run.inputs[0])
    split = split_of_run(store.by_id("split", run.inputs[1]))
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
        protocol = looked(store, protocol, data, split, run, tta)
    trained = trained_rows(split, trained_on)
    with own_code([run], "scoring"):
        return predictions_of(
            member, faces, part, trained, twins, source=run.id, protocol=protocol, tta=tta, quiet=quiet
        )


def split_of_run(artifact: Artifact) -> Split:
    """The split a run was trained on, as it was stored."""
    parts = artifact.arrays("split.npz")
    return Split(artifact.spec["name"], parts["train"], parts["select"], parts["test"], artifact.metrics["removed"])


def looked(store: Store, protocol: Protocol, data: Artifact, split: Split, source: Artifact, tta: str) -> Protocol:
    """The stamp after this look at the test part has been written down."""
    images = identity_images(store, data)
    found = count_look(store, images[split.test_rows], images[split.select_rows], source.id, tta)
    return replace(protocol, looks=found.looks, chosen_on=found.chosen_on)
