"""The values that travel through the package. Each is written once and never changed.

Arrays are made read-only on construction, so that a value named by its fingerprint stays that value.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.errors import BadData, SplitMisuse

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
USAGES = ("Training", "PublicTest", "PrivateTest")
N_CLASSES = len(CLASSES)

Array = NDArray[np.generic]


def frozen(array: NDArray, dtype: type | str) -> NDArray:
    """The array with the given dtype, C-ordered and read-only."""
    out = np.ascontiguousarray(array, dtype=dtype)
    if out is array and out.flags.writeable:
        out = out.view()
    out.flags.writeable = False
    return out


def digest(*arrays: NDArray) -> str:
    """sha256 over dtype, shape and bytes of the arrays, as 64 hexadecimal digits."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(f"{array.dtype.str}{array.shape}".encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()


class Role(StrEnum):
    """What a part of the rows may be used for."""

    TRAIN = "train"
    SELECT = "select"
    TEST = "test"


@dataclass(frozen=True)
class FaceSet:
    """Faces with labels, as bytes.

    Parameters
    ----------
    images : uint8 [n, h, w]
        Gray levels 0 to 255. Never floats.
    labels : uint8 [n]
        Codes 0 to 6 in the order of ``CLASSES``.
    usage : uint8 [n]
        The official usage of each row, an index into ``USAGES``.
    name : str
        What users call the set.

    Notes
    -----
    A row id is the position 0 to n-1 of a face in its set.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    usage: NDArray[np.uint8]
    name: str = "faces"

    def __post_init__(self) -> None:
        for key in ("images", "labels", "usage"):
            object.__setattr__(self, key, frozen(getattr(self, key), np.uint8))
        n = len(self.images)
        if self.images.ndim != 3 or len(self.labels) != n or len(self.usage) != n:
            shapes = (self.images.shape, self.labels.shape, self.usage.shape)
            raise BadData(self.name, [f"expected images [n,h,w], labels [n], usage [n]; found {shapes}"])
        if n and (self.labels.max() >= N_CLASSES or self.usage.max() >= len(USAGES)):
            raise BadData(self.name, ["a label above 6 or a usage above 2"])

    def __len__(self) -> int:
        return len(self.images)

    @property
    def fingerprint(self) -> str:
        """sha256 of pixels, labels and usage; the same faces in the same order give the same one."""
        return digest(self.images, self.labels, self.usage)

    def rows_of(self, usage: str) -> NDArray[np.int64]:
        """Row ids of one official usage, ascending."""
        return np.flatnonzero(self.usage == USAGES.index(usage))

    def counts(self, rows: NDArray | None = None) -> list[int]:
        """Number of faces of each class among the rows (all by default)."""
        labels = self.labels if rows is None else self.labels[rows]
        return np.bincount(labels, minlength=N_CLASSES).tolist()


@dataclass(frozen=True)
class TwinMap:
    """Which rows show the same photograph.

    Parameters
    ----------
    groups : int32 [n]
        Group of each row; a group is named by its smallest row, so a row alone has its own id.
    pairs : int32 [p, 2]
        The pairs that were found, smaller row first, ascending.
    correlation : float32 [p]
        Correlation of the mean-free pixels after alignment, -1 to 1.
    rms : float32 [p]
        Root mean square difference in grey levels of the unaligned pixels (mirrored if ``mirrored``).
    mirrored : bool [p]
        The two show the photograph mirrored.
    """

    groups: NDArray[np.int32]
    pairs: NDArray[np.int32]
    correlation: NDArray[np.float32]
    rms: NDArray[np.float32]
    mirrored: NDArray[np.bool_]

    def __post_init__(self) -> None:
        kinds = {"groups": np.int32, "pairs": np.int32, "correlation": np.float32, "rms": np.float32}
        for key, dtype in kinds.items():
            object.__setattr__(self, key, frozen(getattr(self, key), dtype))
        object.__setattr__(self, "mirrored", frozen(self.mirrored, np.bool_))

    def have_twin_in(self, rows: NDArray, others: NDArray) -> NDArray[np.bool_]:
        """For each of ``rows`` whether any *other* row of its group is among ``others``."""
        counts = np.bincount(self.groups[others], minlength=len(self.groups))
        own = np.isin(rows, others)
        return counts[self.groups[rows]] - own > 0


@dataclass(frozen=True)
class Part:
    """Rows with the role they may be used in. Only ``Split`` makes them.

    Parameters
    ----------
    rows : int64 [m]
        Row ids of a FaceSet.
    role : Role
    """

    rows: NDArray[np.int64]
    role: Role

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", frozen(self.rows, np.int64))

    def __len__(self) -> int:
        return len(self.rows)

    def require(self, *roles: Role, purpose: str) -> Part:
        """Itself if its role is one of ``roles``; otherwise raises ``SplitMisuse``."""
        if self.role not in roles:
            wanted = " or ".join(f"'{r}'" for r in roles)
            raise SplitMisuse(
                f"{purpose} needs rows with role {wanted}, but was given {len(self.rows)} rows "
                f"with role '{self.role}'. Use the {wanted} part of the split."
            )
        return self


@dataclass(frozen=True)
class Split:
    """A division of one FaceSet into train, select and test rows.

    Parameters
    ----------
    name : str
        How it was made, e.g. ``official`` or ``kfold:5:0`` (fold 0 of 5).
    train, select, test : int64 arrays
        Row ids; disjoint.
    removed : dict of str to int
        Rows left out of a part and why, e.g. ``{"train: twin in test": 480}``.
    """

    name: str
    train_rows: NDArray[np.int64]
    select_rows: NDArray[np.int64]
    test_rows: NDArray[np.int64]
    removed: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ("train_rows", "select_rows", "test_rows"):
            object.__setattr__(self, key, frozen(getattr(self, key), np.int64))
        joined = np.concatenate([self.train_rows, self.select_rows, self.test_rows])
        if len(np.unique(joined)) != len(joined):
            raise SplitMisuse(f"split {self.name!r} has rows in more than one part; parts must be disjoint.")

    @property
    def train(self) -> Part:
        return Part(self.train_rows, Role.TRAIN)

    @property
    def select(self) -> Part:
        return Part(self.select_rows, Role.SELECT)

    @property
    def test(self) -> Part:
        return Part(self.test_rows, Role.TEST)


class Kind:
    """Codes of ``Resampling.kind``."""

    ORIGINAL, DUPLICATE, SYNTHETIC, AUGMENTED, INJECTED = range(5)


@dataclass(frozen=True)
class Resampling:
    """A balanced training set as a list of parents; pixels are made on demand.

    Row ``i`` shows ``a + weight (b - a)`` of the faces ``parent_a[i]`` and ``parent_b[i]``.
    Originals and duplicates have ``b = a`` and weight 0.

    Parameters
    ----------
    method : str
    kind : uint8 [m]
        One of the codes of ``Kind``.
    parent_a, parent_b : int32 [m]
        Row ids of the FaceSet; all of role train.
    weight : float64 [m]
        0 to 1.
    labels : uint8 [m]
        Class of each row, that of both parents.
    params : dict
        Seed, target, classes, neighbours: whatever the method was asked.
    """

    method: str
    kind: NDArray[np.uint8]
    parent_a: NDArray[np.int32]
    parent_b: NDArray[np.int32]
    weight: NDArray[np.float64]
    labels: NDArray[np.uint8]
    params: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        dtypes = {
            "kind": np.uint8,
            "parent_a": np.int32,
            "parent_b": np.int32,
            "weight": np.float64,
            "labels": np.uint8,
        }
        for key, dtype in dtypes.items():
            object.__setattr__(self, key, frozen(getattr(self, key), dtype))

    def __len__(self) -> int:
        return len(self.kind)

    def pixels(self, images: NDArray[np.uint8], rows: NDArray | slice | None = None) -> NDArray[np.uint8]:
        """Pixels of the given rows of the resampling, uint8 [m, h, w].

        Rounded to the nearest grey level in floating point, so that every pixel lies between
        those of its parents (imbalanced-learn's uint8 path subtracts bytes and wraps around).
        """
        rows = slice(None) if rows is None else rows
        a = images[self.parent_a[rows]]
        w = self.weight[rows]
        mixed = np.flatnonzero(w)
        if len(mixed):
            first = a[mixed].astype(np.float32)
            second = images[self.parent_b[rows][mixed]].astype(np.float32)
            shape = (-1,) + (1,) * (images.ndim - 1)
            a[mixed] = np.rint(first + w[mixed].astype(np.float32).reshape(shape) * (second - first))
        return a

    @property
    def title(self) -> str:
        """What was done, for the stamp: ``smote``, ``hybrid 3000``, ``ros of disgust, fear``."""
        target, classes = self.params.get("target"), self.params.get("classes")
        return self.method + (f" {target}" if target else "") + (f" of {', '.join(classes)}" if classes else "")

    def counts(self) -> list[int]:
        """Rows of each class."""
        return np.bincount(self.labels, minlength=N_CLASSES).tolist()


@dataclass(frozen=True)
class Protocol:
    """How a score was obtained. Every score carries one.

    ``leaks`` names what makes a score worthless as an estimate; only the leak simulator sets it.
    """

    data: str
    split: str
    role: str
    resampling: str = "none"
    resampled_where: str = "training part only, after the split"
    chosen_by: str = "macro-F1 on the select part"
    tta: str = "none"
    rows_left_out: int = 0
    pretraining: str = "none"
    seed: int | None = 0
    looks: int = 0
    leaks: tuple[str, ...] = ()

    @property
    def leaky(self) -> bool:
        return bool(self.leaks)

    def to_dict(self) -> dict:
        return {**asdict(self), "leaks": list(self.leaks), "leaky": self.leaky}

    def line(self) -> str:
        """One line for under a table."""
        text = (
            f"{'LEAKY (' + '; '.join(self.leaks) + ') · ' if self.leaks else ''}"
            f"data {self.data} · split {self.split} · {self.role} part · resampling {self.resampling} "
            f"({self.resampled_where}) · chosen by {self.chosen_by} · tta {self.tta} · "
            f"pretraining {self.pretraining} · seed {'various' if self.seed is None else self.seed}"
        )
        if self.rows_left_out:
            text += f" · {self.rows_left_out} ROWS LEFT OUT"
        if self.role == Role.TEST:
            text += f" · look {self.looks} at this test part"
        return text


@dataclass(frozen=True)
class Predictions:
    """What one member or ensemble says of the rows of one part. Complete enough to score alone.

    Parameters
    ----------
    logits : float32 [m, 7]
        Computed in float32. With test-time augmentation the logarithm of the mean probability.
    labels : uint8 [m]
    rows : int64 [m]
        Row ids.
    groups : int32 [m]
        Twin group of each row, the unit of resampling for intervals.
    twin_in_train : bool [m]
        The row has a twin among the split's training rows.
    role : Role
    source : str
        Id of the run or ensemble.
    protocol : Protocol
    """

    logits: NDArray[np.float32]
    labels: NDArray[np.uint8]
    rows: NDArray[np.int64]
    groups: NDArray[np.int32]
    twin_in_train: NDArray[np.bool_]
    role: Role
    source: str
    protocol: Protocol

    def __post_init__(self) -> None:
        dtypes = {
            "logits": np.float32,
            "labels": np.uint8,
            "rows": np.int64,
            "groups": np.int32,
            "twin_in_train": np.bool_,
        }
        for key, dtype in dtypes.items():
            object.__setattr__(self, key, frozen(getattr(self, key), dtype))

    def __len__(self) -> int:
        return len(self.rows)

    def probabilities(self) -> NDArray[np.float64]:
        """Softmax of the logits, float64 [m, 7]."""
        z = self.logits.astype(np.float64)
        z = np.exp(z - z.max(axis=1, keepdims=True))
        return z / z.sum(axis=1, keepdims=True)
