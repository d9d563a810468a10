"""Rows with the role they may be used in."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.errors import SplitMisuse
from ensemble_fer.types.faces import frozen


class Role(StrEnum):
    """What a part of the rows may be used for."""

    TRAIN = "train"
    SELECT = "select"
    TEST = "test"


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
