"""Sets that show another set's faces row for row, as an aligned set does; and rows that a split of one leaves out.

What is a matter of photographs, not of how they were cut, is asked of the source: twins, looks, neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.errors import UsageError
from ensemble_fer.store import Artifact, Store
from ensemble_fer.types import Role, Split, frozen

ALIGNMENT = "alignment.npz"
DROPS = ("train", "all")
_NO_FACE = "no face found"


@dataclass(frozen=True)
class Alignment:
    """Where the face of each picture was found; of an aligned set in pixels of its source. 0 where none was found.

    Parameters
    ----------
    found : bool [n]
        An aligned set shows the middle of the other pictures.
    landmarks : float32 [n, 5, 2]
        x and y of left eye, right eye, nose, left and right corner of the mouth, left as one looks at the picture.
    boxes : float32 [n, 4]
        Left, top, right, bottom; they may reach over the picture's edge.
    score : float32 [n]
        The detector's probability.
    count : int32 [n]
        Faces in the picture.
    """

    found: NDArray[np.bool_]
    landmarks: NDArray[np.float32]
    boxes: NDArray[np.float32]
    score: NDArray[np.float32]
    count: NDArray[np.int32]

    def __post_init__(self) -> None:
        kinds = {"landmarks": np.float32, "boxes": np.float32, "score": np.float32, "count": np.int32}
        for key, dtype in {"found": np.bool_, **kinds}.items():
            object.__setattr__(self, key, frozen(getattr(self, key), dtype))

    def __len__(self) -> int:
        return len(self.found)


def source_of(store: Store, data: Artifact) -> Artifact:
    """The set whose rows these are: of an aligned set the one it was made from, else the set itself."""
    while "align" in data.spec:
        data = store.by_id("data", data.inputs[0])
    return data


def leaks_of(store: Store, data: Artifact) -> tuple[str, ...]:
    """What makes every score on a set worthless, its own or of the sets it was made from; empty of an honest one."""
    own = list(data.spec.get("leaks", []))
    for identity in data.inputs:
        if identity in store.ids("data"):
            own += leaks_of(store, store.by_id("data", identity))
    return tuple(dict.fromkeys(own))


def alignment_of(data: Artifact) -> Alignment | None:
    """Where the faces of a stored set were found; None for a set that is not aligned."""
    return Alignment(**data.arrays(ALIGNMENT)) if "align" in data.spec else None


def without_faceless(split: Split, data: Artifact) -> Split:
    """The split without the rows that ``--drop-faceless`` keeps out of its parts; itself for other sets.

    How many there were is in ``removed``.

    Raises
    ------
    UsageError
        A part would stay empty.
    """
    asked = data.spec.get("drop_faceless")
    alignment = alignment_of(data)
    if asked not in DROPS or alignment is None:
        return split
    parts = {Role.TRAIN: split.train_rows, Role.SELECT: split.select_rows, Role.TEST: split.test_rows}
    removed = dict(split.removed)
    for role, rows in parts.items():
        if asked == "all" or role == Role.TRAIN:
            kept = rows[alignment.found[rows]]
            if len(rows) and not len(kept):
                raise UsageError(
                    f"in none of the {len(rows)} {role} rows of split {split.name!r} a face was found; nothing is "
                    "left of the part. Align without --drop-faceless."
                )
            parts[role], removed[f"{role}: {_NO_FACE}"] = kept, len(rows) - len(kept)
    return Split(split.name, *parts.values(), removed=removed)


def without_faceless_rows(rows: NDArray[np.int64], data: Artifact) -> NDArray[np.int64]:
    """Those of some rows that may train: of a set made with ``--drop-faceless``, the rows with a found face."""
    alignment = alignment_of(data)
    return rows if alignment is None or data.spec.get("drop_faceless") not in DROPS else rows[alignment.found[rows]]


def faceless_dropped(split: Split, role: str) -> int:
    """Rows that a part of the split is without because no face was found in them."""
    return split.removed.get(f"{role}: {_NO_FACE}", 0)
