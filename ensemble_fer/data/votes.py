"""The votes of FER+: ten annotators' answers for each face of FER2013, joined to an imported set.

E. Barsoum, C. Zhang, C. Canton Ferrer, Z. Zhang, "Training Deep Networks for Facial Expression Recognition with
Crowd-Sourced Label Distribution", ICMI 2016 (arXiv 1608.01041). Their file, ``fer2013new.csv``, lies in the repository
microsoft/FERPlus. It has no pixels: a line belongs to the row at the same place in ``fer2013.csv``.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.data.derived import source_of
from ensemble_fer.data.importing import load_faces
from ensemble_fer.data.votes_csv import COLUMNS, read_votes
from ensemble_fer.errors import BadData, MissingError, unknown_name
from ensemble_fer.files import save_arrays
from ensemble_fer.store import Artifact, NameMoved, Store, check_name
from ensemble_fer.types import INJECTED, N_CLASSES, OFFICIAL, USAGES, frozen

FILE = "votes.npz"
VERSION = 1
RULES = ("none", "not_a_face", "no_majority")
# The columns of our seven classes, in the order of CLASSES.
_SEVEN = [COLUMNS.index(name) for name in ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")]
_NOT_A_FACE = COLUMNS.index("NF")
# Agreement of labels and votes beyond chance (Cohen's kappa). Rows in another order have about 0.
LEAST_KAPPA = 0.2
BLOCK = 1000  # rows that are looked at together


@dataclass(frozen=True)
class Votes:
    """Votes of each row of a set.

    Parameters
    ----------
    counts : uint8 [n, 10]
        Votes for each of ``COLUMNS``: eight expressions, unknown, not a face.
    named : bool [n]
        The file names a picture for the row. Where it names none its authors found no face.
    asked : bool [n]
        The row is one of the file. Of injected rows nothing is known.
    """

    counts: NDArray[np.uint8]
    named: NDArray[np.bool_]
    asked: NDArray[np.bool_]

    def __post_init__(self) -> None:
        for key, dtype in (("counts", np.uint8), ("named", np.bool_), ("asked", np.bool_)):
            object.__setattr__(self, key, frozen(getattr(self, key), dtype))

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def seven(self) -> NDArray[np.int64]:
        """Votes for the seven classes, [n, 7]."""
        return self.counts[:, _SEVEN].astype(np.int64)


def join_votes(store: Store, path: str | Path, data: Artifact, *, name: str | None = None) -> Artifact:
    """Read ``fer2013new.csv`` and keep its votes with a set of faces.

    Parameters
    ----------
    store : Store
    path : path
    data : Artifact
        FER2013 row for row, in the order of ``fer2013.csv``. Injected rows, which come behind, have no votes. Votes on
        an aligned set are kept with its source.
    name : str, optional
        The reference to set; ``<data>-votes`` by default.

    Returns
    -------
    Artifact
        Of kind votes, made from ``data``. Its metrics: ``rows``, ``not_a_face`` and ``no_majority`` (rows that
        `left_out` would leave out), ``agreement`` (share of the rows with votes for the seven classes whose own label
        has the most of them), ``kappa`` (the same beyond chance), ``source``.

    Raises
    ------
    MissingError
        There is no such file.
    BadData
        Bad lines, all of them listed; or a set that is not, row for row, what was voted on.
    """
    file = Path(path)
    if not file.is_file():
        raise MissingError(
            f"there is no file {file}. Expected fer2013new.csv of FER+: its authors have it in the repository "
            "microsoft/FERPlus on GitHub, under the MIT licence."
        )
    data = source_of(store, data)
    name = check_name(name or f"{store.name_of(data)[:90]}-votes")
    usage, named, counts = read_votes(file)
    faces = load_faces(data)
    own = np.flatnonzero(faces.usage != USAGES.index(INJECTED))
    _check_usage(str(file), store.name_of(data), faces.usage[own], usage)
    votes = Votes(counts, named, np.ones(len(counts), bool))
    agreement, kappa = label_agreement(votes, faces.labels[own])
    # Block by block, so that a part in another order does not hide behind the rest.
    for begin in range(0, len(own), BLOCK):
        block = slice(begin, begin + BLOCK)
        shown = Votes(counts[block], named[block], votes.asked[block])
        share, beyond = label_agreement(shown, faces.labels[own[block]])
        if beyond >= LEAST_KAPPA:
            continue
        problem = (
            f"from row {begin:,} of {store.name_of(data)} on {100 * share:.0f} % of {len(shown):,} rows have "
            f"the label with the most votes, which chance alone could give (kappa {beyond:.2f}, expected {LEAST_KAPPA} "
            "or more): another order of rows"
        )
        hint = "Import fer2013.csv or icml_face_data.csv: the votes follow their order; image folders can have another."
        raise BadData(str(file), [problem], hint)

    def write(folder: Path) -> dict:
        save_arrays(folder / FILE, counts=counts, named=named)
        rules = {rule: int(left_out(votes, rule).sum()) for rule in RULES[1:]}
        return {"rows": len(counts), **rules, "agreement": agreement, "kappa": kappa, "source": file.name}

    spec = {"sha256": hashlib.sha256(named.tobytes() + counts.tobytes()).hexdigest(), "version": VERSION}
    made = store.put("votes", spec, [data.id], write, name=name)
    with warnings.catch_warnings():
        # It moves with every file that is joined, which is what it is for.
        warnings.simplefilter("ignore", NameMoved)
        store.set_ref("votes", _in_force(data), made.id)
    return made


def _in_force(data: Artifact) -> str:
    """The reference to the votes that were last joined to a set."""
    return f"of-{data.id}"


def _check_usage(source: str, name: str, ours: NDArray[np.uint8], theirs: NDArray[np.uint8]) -> None:
    """Refuse votes on another number of rows, or on rows of other official usages."""
    hint = "The votes are those of FER2013, row for row as fer2013.csv has it. Name that set with --data."
    if len(ours) != len(theirs):
        raise BadData(source, [f"votes on {len(theirs):,} rows; {name} has {len(ours):,}"], hint)
    differ = np.flatnonzero(ours != theirs)
    if len(differ):
        row = differ[0]
        usages = f"{OFFICIAL[theirs[row]]} in the file and {OFFICIAL[ours[row]]} in {name}"
        raise BadData(source, [f"{len(differ):,} rows have another usage, the first is row {row}: {usages}"], hint)


def find_votes(store: Store, data: Artifact) -> Artifact | None:
    """The newest votes on a set, or else on the one it was made from; None if there are none.

    An aligned set has those of its source, a set with injected rows those of its base.
    """
    last = store.refs("votes").get(_in_force(data))
    if last is not None:
        return store.by_id("votes", last)
    # Sets whose first rows are those of another: with faces injected behind them, or aligned.
    derived = "align" in data.spec or data.metrics.get("injected")
    if not derived or data.inputs[0] not in store.ids("data"):
        return None
    return find_votes(store, store.by_id("data", data.inputs[0]))


def load_votes(artifact: Artifact, rows: int) -> Votes:
    """Stored votes for a set of so many rows, whose last ones may be injected."""
    arrays = artifact.arrays(FILE)
    more = rows - len(arrays["counts"])
    return Votes(
        np.pad(arrays["counts"], ((0, more), (0, 0))),
        np.pad(arrays["named"], (0, more)),
        np.arange(rows) < len(arrays["counts"]),
    )


def votes_of(store: Store, data: Artifact) -> Votes | None:
    """The votes on a stored set of faces, or None if none were joined."""
    found = find_votes(store, data)
    return None if found is None else load_votes(found, data.metrics["rows"])


def need_votes(store: Store, data: Artifact) -> tuple[Artifact, Votes]:
    """The votes on a set of faces, where they are needed.

    Raises
    ------
    MissingError
        None were joined.
    """
    found = find_votes(store, data)
    if found is None:
        name = store.name_of(data)
        raise MissingError(f"no votes were joined to {name}:  ensemble-fer data votes fer2013new.csv --data {name}")
    return found, load_votes(found, data.metrics["rows"])


def soft_labels(votes: Votes, labels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Shares of the seven classes among the votes for them, float32 [n, 7].

    Votes for contempt, unknown and not-a-face are dropped. A row without votes for the seven has its own label alone.
    (The authors' code also drops what has a single vote; here it stays, as a small share.)
    """
    seven = votes.seven
    total = seven.sum(axis=1, keepdims=True)
    own = np.eye(N_CLASSES)[labels]
    return np.where(total > 0, seven / np.maximum(total, 1), own).astype(np.float32)


def left_out(votes: Votes, rule: str) -> NDArray[np.bool_]:
    """Rows that a rule leaves out of training, bool [n]; rows nobody was asked about stay.

    ``none``
        No row.
    ``not_a_face``
        The file names no picture, or more than half of the votes say that there is no face.
    ``no_majority``
        Those, and rows where no one of the seven classes has a majority: votes that stand alone in their column are
        put aside, and of the others more than half must be for one class. This is what the authors' code does
        (microsoft/FERPlus, src/ferplus.py, mode majority), except that contempt is an eighth class there.

    Raises
    ------
    UsageError
        Another rule.
    """
    if rule not in RULES:
        raise unknown_name("rule", rule, RULES)
    counts = votes.counts.astype(np.int64)
    out = ~votes.named | (2 * counts[:, _NOT_A_FACE] > counts.sum(axis=1))
    if rule == "no_majority":
        counts[counts == 1] = 0
        out |= ~(2 * counts[:, _SEVEN].max(axis=1) > counts.sum(axis=1))
    return out & votes.asked if rule != "none" else np.zeros(len(votes), bool)


def agreement_of(votes: Votes) -> NDArray[np.float64]:
    """How far the annotators agree on each row, float64 [n], 0 to 1; NaN without votes.

    The share of all votes, those for contempt, unknown and not-a-face included, that the class with the most votes
    among the seven has.
    """
    total = votes.counts.sum(axis=1, dtype=np.int64)
    return np.where(total > 0, votes.seven.max(axis=1) / np.maximum(total, 1), np.nan)


def is_top(seven: NDArray[np.int64], labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether no class has more of the votes for the seven, [n, 7], than a row's own label; False without votes."""
    top = seven.max(axis=1)
    return (top > 0) & (seven[np.arange(len(seven)), labels] == top)


def label_agreement(votes: Votes, labels: NDArray[np.uint8]) -> tuple[float, float]:
    """Share of the rows with votes for the seven whose label has the most of them, and Cohen's kappa of it."""
    voted = votes.seven.sum(axis=1) > 0
    if not voted.any():
        return 0.0, 0.0
    seven, own = votes.seven[voted], labels[voted]
    found = float(is_top(seven, own).mean())
    tops = (seven == seven.max(axis=1, keepdims=True)).mean(axis=0)
    chance = float((np.bincount(own, minlength=N_CLASSES) / len(own)) @ tops)
    return found, (found - chance) / (1 - chance) if chance < 1 else float(found == 1)
