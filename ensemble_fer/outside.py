"""Predictions made by other programs as a run without weights: scored, ranked, compared and combined like others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.data.derived import faceless_dropped
from ensemble_fer.data.importing import identity_images, load_faces, rows_left_out
from ensemble_fer.data.predictions_csv import Said, read_said
from ensemble_fer.data.splits import parse_split, split_of, twins_in
from ensemble_fer.data.twins import twins_of
from ensemble_fer.errors import SplitMisuse, UsageError, brief
from ensemble_fer.evaluate.metrics import summary
from ensemble_fer.evaluate.predictions import save_predictions
from ensemble_fer.files import sha256_of
from ensemble_fer.looks import note_choosing
from ensemble_fer.scoring import OUTSIDE, SELECT, looked, stored_or_made
from ensemble_fer.store import Artifact, Store, check_name, need_data
from ensemble_fer.types import FaceSet, Predictions, Protocol, Role, Split, TwinMap

MOST_LETTERS = 200
UNKNOWN = "unknown, made elsewhere"


def import_predictions(
    store: Store,
    path: str | Path,
    *,
    name: str,
    data: str | None = None,
    split: str = "official",
    part: str | None = None,
    kind: str = "auto",
    about: str = "",
    quiet: bool = False,
) -> Artifact:
    """Take predictions of the select part, of the test part or of both into the store.

    The test part's are scored at once, which counts a look. Nothing is known here of how they were made: the stamp says
    so, and that they saw neither part in training is the word of whoever imports them.

    Parameters
    ----------
    path : path
        A csv with a column for each class and, for predictions of both parts, a column ``row``: the row's number in the
        data set, from 0, which for Kaggle's csv is its line. A column ``label`` is checked.
    name : str
        What to call them.
    data : str, optional
        Name of the set, as ``need_data`` takes it.
    split : str
        Whose parts.
    part : str, optional
        ``select`` or ``test``: needed without a column ``row``; lines are then that part's rows in their order.
    kind : str
        ``auto``, ``probabilities`` or ``logits``.
    about : str
        What made them, for the stamp; one line.
    quiet : bool
        Draw no progress.

    Returns
    -------
    Artifact of kind ``run``
        ``select.npz`` if the select part was among them.

    Raises
    ------
    BadData, MissingError, UsageError
        The file is not one, or does not hold a whole part.
    SplitMisuse
        Training rows are among them, or labels differ, so that rows are in another order than is thought.
    """
    check_name(name)
    if not about.isprintable() or len(about) > MOST_LETTERS:
        raise UsageError(
            f"what made them, {brief(about)}: expected one line of at most {MOST_LETTERS} letters, since it is part of "
            "the stamp."
        )
    said = read_said(path, kind)
    found = need_data(store, data)
    faces = load_faces(found)
    split_artifact, parts = split_of(store, found, parse_split(split).text, faces=faces, quiet=quiet)
    twins_artifact, twins = twins_of(store, found, quiet=quiet)
    twins = twins_in(parts, faces, twins)
    chosen = _parts_of(said, parts, faces, part)
    digest = sha256_of(Path(path))
    recipe = {
        "model": about or "elsewhere",
        "resampling": "unknown",
        "split": parts.name,
        "seed": None,
        "train_on": "train",
    }
    spec = {OUTSIDE: digest, "part": part, "kind": kind, "recipe": recipe}
    inputs = [found.id, split_artifact.id, twins_artifact.id]
    protocol = Protocol(
        data=str(found.metrics.get("name") or store.name_of(found)),
        split=parts.name,
        role=Role.SELECT,
        resampling="unknown",
        resampled_where=UNKNOWN,
        trained_on=UNKNOWN,
        chosen_by=UNKNOWN,
        pretraining=f"{UNKNOWN}{f': {about}' if about else ''}",
        seed=None,
    )

    def predictions(role: Role) -> Predictions:
        rows, logits = chosen[role]
        return Predictions(
            logits=logits,
            labels=faces.labels[rows],
            rows=rows,
            groups=twins.groups[rows],
            twin_in_train=twins.have_twin_in(rows, parts.train_rows),
            role=role,
            source=name,
            protocol=_protocol(protocol, parts, twins, rows, role, rows_left_out(found, faces, rows)),
        )

    def write(folder: Path) -> dict:
        if Role.SELECT not in chosen:
            return {"name": name, "protocol": protocol.to_dict()}
        select = predictions(Role.SELECT)
        save_predictions(folder / SELECT, select)
        return {"name": name, "protocol": select.protocol.to_dict(), "select": summary(select.labels, select.logits)}

    run = store.put("run", spec, inputs, write, name=name)
    if Role.SELECT in chosen:
        note_choosing(store, identity_images(store, found)[parts.select_rows], run.id)
    if Role.TEST in chosen:

        def looking() -> Predictions:
            test = predictions(Role.TEST)
            stamp = looked(store, test.protocol, found, parts, run, "none")
            return replace(test, protocol=stamp)

        stored_or_made(store, run, Role.TEST, "none", looking)
    return run


def _protocol(
    protocol: Protocol, split: Split, twins: TwinMap, rows: NDArray[np.int64], role: Role, left_out: int
) -> Protocol:
    also = int(twins.have_twin_in(rows, split.select_rows).sum()) if role == Role.TEST else 0
    dropped = faceless_dropped(split, role)
    return replace(protocol, role=str(role), rows_left_out=left_out, faceless_dropped=dropped, twins_in_select=also)


def _parts_of(
    said: Said, split: Split, faces: FaceSet, part: str | None
) -> dict[Role, tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Rows of each part that is there, in the split's order, and their logits."""
    known = {Role.SELECT: split.select_rows, Role.TEST: split.test_rows}
    if part is not None and part not in list(known):
        raise UsageError(f"part {part!r}: expected select or test.")
    given = said.rows
    if given is None:
        if part is None:
            raise UsageError(
                "the file has no column row. Say which part its lines are:  --part select  or  --part test"
            )
        given = known[Role(part)]
        if len(given) != len(said.logits):
            raise UsageError(
                f"the file has {len(said.logits):,} lines of numbers, and the {part} part of split {split.name!r} "
                f"{len(given):,} rows. Expected a line for each, in their order, or a column row."
            )
    beyond = given[(given < 0) | (given >= len(faces.labels))]
    if len(beyond):
        raise UsageError(f"row {beyond[0]} is not in the set, which has rows 0 to {len(faces.labels) - 1:,}.")
    if said.labels is not None and (wrong := faces.labels[given] != said.labels).any():
        raise SplitMisuse(
            f"{int(wrong.sum()):,} of {len(given):,} labels are not those of the set, the first at row "
            f"{given[wrong][0]}: rows are in another order, or of another set."
        )
    trained = np.intersect1d(given, split.train_rows)
    if len(trained):
        raise SplitMisuse(
            f"{len(trained):,} rows are training rows of split {split.name!r}, the first is {trained[0]}. Predictions "
            "of rows that were trained on measure memory. Leave them out."
        )
    place = dict(zip(given.tolist(), range(len(given)), strict=True))
    chosen = {}
    for role, rows in known.items():
        inside = np.isin(rows, given)
        if part not in (None, str(role)) or not inside.any():
            continue
        if not inside.all():
            raise UsageError(
                f"{int((~inside).sum()):,} of {len(rows):,} rows of the {role} part are missing, the first is "
                f"{rows[~inside][0]}. A score on some of the rows would not compare with others; predict all of them."
            )
        chosen[role] = rows, said.logits[[place[row] for row in rows.tolist()]]
    if not chosen:
        raise UsageError("none of the rows is in the select or the test part.")
    return chosen
