"""What came of a study, complete enough to write its report without the store: rows, histories and logits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.align import align
from ensemble_fer.artifact import canonical
from ensemble_fer.data.derived import alignment_of
from ensemble_fer.errors import MissingError, StoreError, UsageError, brief, some_of
from ensemble_fer.evaluate.predictions import load_predictions, protocol_from_json
from ensemble_fer.files import MOST_JSON, UnfitFile, load_arrays, read_file, save_arrays, write_atomic
from ensemble_fer.report import evaluate
from ensemble_fer.scoring import PREDICTIONS
from ensemble_fer.store import Artifact, Store
from ensemble_fer.study.cells import cells_of
from ensemble_fer.study.making import row_of
from ensemble_fer.study.plan import Study
from ensemble_fer.train.loop import HISTORY
from ensemble_fer.types import Predictions, Role

ROWS, SAID = "study.json", "said.npz"
_OF_A_RUN = (
    "parameters",
    "train_seconds",
    "epochs",
    "best_epoch",
    "steps",
    "train_rows",
    "device",
    "precision",
    "threads",
)
_PART = ("labels", "rows", "groups")


@dataclass(frozen=True)
class Gathered:
    """A study's rows and what its networks said.

    Parameters
    ----------
    rows : list of dict
        As ``run_study`` gives them, of a run with ``history`` and what training cost, and with ``said``: for each part
        that was scored ``{"part", "protocol"}``.
    arrays : dict of arrays
        Logits in half precision, labels, row ids, twin groups, and whether a row has a twin in training. ``found``, of
        a study with leaks: in which faces of the set a detector finds one.
    """

    rows: list[dict]
    arrays: dict[str, NDArray] = field(repr=False)

    def said(self, row: dict, role: Role) -> Predictions | None:
        """What the network of a row says of a part; None if it was not scored there."""
        kept = row.get("said", {}).get(str(role))
        if kept is None:
            return None
        own = f"{row['name']}.{role}"
        return Predictions(
            logits=self.arrays[f"{own}.logits"].astype(np.float32),
            twin_in_train=self.arrays[f"{own}.twin"],
            **{key: self.arrays[f"part{kept['part']}.{key}"] for key in _PART},
            role=role,
            source=row["name"],
            protocol=protocol_from_json(canonical(kept["protocol"]), row["name"]),
        )

    @property
    def found(self) -> NDArray[np.bool_] | None:
        return self.arrays.get("found")

    def save(self, folder: str | Path) -> None:
        """Write ``study.json`` and ``said.npz``."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / ROWS, json.dumps(self.rows, indent=None, separators=(",", ":")).replace("},{", "},\n{"))
        save_arrays(folder / SAID, **self.arrays)


def load_gathered(folder: str | Path, study: Study | None = None) -> Gathered:
    """What ``Gathered.save`` has written.

    Parameters
    ----------
    folder : path
    study : Study, optional
        What must be kept there.

    Raises
    ------
    MissingError
        Nothing is kept there.
    StoreError
        A file is damaged.
    UsageError
        It is of another study or scale, or of another version of its file.
    """
    folder = Path(folder)
    if not (folder / ROWS).is_file() or not (folder / SAID).is_file():
        raise MissingError(f"{folder} does not hold {ROWS} and {SAID}. Make them:  ensemble-fer study report NAME")
    try:
        rows = json.loads(read_file(folder / ROWS, MOST_JSON))
        if not isinstance(rows, list):
            raise TypeError
        asked = [(row["name"], row["of"], row["asked"]) for row in rows]
        needed = [
            key
            for row in rows
            for role, kept in row.get("said", {}).items()
            for key in (f"{row['name']}.{role}.logits", f"{row['name']}.{role}.twin", f"part{kept['part']}.labels")
        ]
    except (ValueError, TypeError, KeyError, AttributeError, UnfitFile) as error:
        raise StoreError(f"{folder / ROWS} is damaged. Make it again:  ensemble-fer study report NAME") from error
    if study is not None:
        cells = [row_of(study, cell) for cell in cells_of(study) if not cell.worker]
        if asked != [(cell["name"], cell["of"], cell["asked"]) for cell in cells]:
            first = f"which begins with {brief(asked[0][0])}" if asked else "which is empty"
            raise UsageError(
                f"{folder} does not keep study {study.name} at scale {study.scale} as its file is now, but another, "
                f"{first}. Name the study and scale that were kept, or gather them again from a store."
            )
    arrays = load_arrays(folder / SAID)
    lacking = [key for key in needed if key not in arrays]
    if lacking:
        raise StoreError(
            f"{folder / SAID} lacks {some_of(lacking)}. Make it again:  ensemble-fer study report NAME --kept FOLDER"
        )
    return Gathered(rows, arrays)


def gather(store: Store, study: Study, rows: Sequence[dict], *, quiet: bool = True) -> Gathered:
    """Collect what the rows of a study stand for. Nothing is looked at that was not.

    Parameters
    ----------
    rows : sequence of dict
        As ``run_study`` gives them.
    """
    arrays: dict[str, NDArray] = {}
    parts: list[tuple[NDArray, ...]] = []

    def part_of(p: Predictions) -> int:
        own = tuple(getattr(p, key) for key in _PART)
        for number, known in enumerate(parts):
            if all(np.array_equal(a, b) for a, b in zip(own, known, strict=True)):
                return number
        parts.append(own)
        arrays.update({f"part{len(parts) - 1}.{key}": value for key, value in zip(_PART, own, strict=True)})
        return len(parts) - 1

    found = []
    for row in rows:
        kept = {key: value for key, value in row.items() if key not in ("id", "select", "test")} | {"said": {}}
        if "id" in row:
            source = store.by_id(row["kind"], row["id"])
            if row["kind"] == "run":
                kept |= {key: source.metrics[key] for key in _OF_A_RUN if key in source.metrics}
                kept["history"] = [json.loads(line) for line in source.file(HISTORY).read_text().splitlines()]
            for role, said in _scored(store, study, source, row):
                own = f"{row['name']}.{role}"
                # The highest of each row becomes 0, beside which half precision tells the smallest differences: these
                # are the same probabilities, and the same answers.
                arrays[f"{own}.logits"] = (said.logits - said.logits.max(1, keepdims=True)).astype(np.float16)
                arrays[f"{own}.twin"] = said.twin_in_train
                kept["said"][str(role)] = {"part": part_of(said), "protocol": said.protocol.to_dict()}
        found.append(kept)
    if study.leaky and any(row.get("test") for row in rows):
        faces = _found(store, rows, quiet)
        arrays |= {"found": faces} if faces is not None else {}
    return Gathered(found, arrays)


def _scored(store: Store, study: Study, source: Artifact, row: dict) -> list[tuple[Role, Predictions]]:
    """The parts that were scored, with what was said of them."""
    if source.kind == "predictions":
        return [(Role.TEST, load_predictions(source.file(PREDICTIONS)))]
    # Of folds all rows are tested, and what selects in one fold is tested in another.
    roles = [role for role in (Role.SELECT, Role.TEST) if row.get(str(role)) and not (study.folds and role == "select")]
    return [(role, evaluate(store, f"{source.kind}:{source.id}", role=role, quiet=True).predictions) for role in roles]


def _found(store: Store, rows: Sequence[dict], quiet: bool) -> NDArray[Any] | None:
    """In which faces of the honest set of a study a detector finds a face."""
    for row in rows:
        if "id" in row and row["kind"] == "run":
            data = store.by_id("data", store.by_id("run", row["id"]).inputs[0])
            if not data.spec.get("leaks"):
                alignment = alignment_of(align(store, data, quiet=quiet))
                return None if alignment is None else alignment.found
    return None
