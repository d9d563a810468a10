"""Divisions of one set of faces into train, select and test rows.

=========================== ==================================================================================
``official``                Training trains, PublicTest selects, PrivateTest tests
``official-clean``          the same, but training loses every row that has a twin in the select or test part,
                            and select every row that has one in the test part
``official-swapped``        PrivateTest selects and PublicTest tests, as in the released code behind the
                            published 73.28
``stratified:0.8,0.1,0.1``  all rows, divided by these fractions
``kfold:5:0``               all rows in 5 folds; fold 0 tests, the next one selects, the others train
=========================== ==================================================================================

Where the division is ours (the last two), all rows of one photograph lie in one part, every row is
in exactly one part, and each class has its share in each part as far as whole photographs allow.

Rows of usage Injected only ever train. Parts and fractions are those of the set without them; where the division is
ours, injected rows that show a photograph of a select or test row do not train either.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.data.derived import without_faceless
from ensemble_fer.data.importing import load_faces
from ensemble_fer.data.twins import among, groups_of, twins_of
from ensemble_fer.errors import BadData, UsageError, unknown_name
from ensemble_fer.files import save_arrays
from ensemble_fer.store import Artifact, Store
from ensemble_fer.types import INJECTED, N_CLASSES, OFFICIAL, USAGES, FaceSet, Split, TwinMap

LEAST_FOLDS = 3
"""One tests, one selects, one trains."""
MOST_FOLDS = 1000
KNOWN = ("official", "official-clean", "official-swapped", "stratified:0.8,0.1,0.1", "kfold:5:0")
PARTS = ("train", "select", "test")


@dataclass(frozen=True)
class SplitName:
    """What the name of a split asks for; ``text`` is its one spelling."""

    family: str
    fractions: tuple[float, ...] = ()
    fold: int = 0

    @property
    def text(self) -> str:
        if self.family == "stratified":
            return "stratified:" + ",".join(repr(f) for f in self.fractions)
        if self.family == "kfold":
            return f"kfold:{len(self.fractions)}:{self.fold}"
        return self.family

    @property
    def needs_twins(self) -> bool:
        return self.family in ("official-clean", "stratified", "kfold")

    @property
    def draws(self) -> bool:
        """The seed matters."""
        return self.family in ("stratified", "kfold")


def parse_split(name: str) -> SplitName:
    """Read the name of a split.

    Raises
    ------
    UsageError
        A name that is not known, fractions that are not three positive numbers with sum 1,
        fewer than 3 folds or more than 1,000, or a fold that is not there.
    """
    family, _, rest = name.strip().partition(":")
    if family == "stratified":
        try:
            fractions = tuple(float(f) for f in rest.split(","))
        except ValueError:
            fractions = ()
        if len(fractions) != 3 or not all(0 < f < 1 for f in fractions) or abs(sum(fractions) - 1) > 1e-6:
            raise UsageError(
                f"split {name!r}: expected three fractions above 0 with sum 1, for train, select and test. "
                "Write for instance stratified:0.8,0.1,0.1"
            )
        return SplitName(family, fractions)
    if family == "kfold":
        try:
            folds, fold = (int(i) for i in rest.split(":"))
        except ValueError:
            folds, fold = 0, 0
        if not LEAST_FOLDS <= folds <= MOST_FOLDS or not 0 <= fold < folds:
            raise UsageError(
                f"split {name!r}: expected kfold:K:I with {LEAST_FOLDS} to {MOST_FOLDS:,} folds (one tests, the next "
                "selects, the others train) and I from 0 to K-1. Write for instance kfold:5:0"
            )
        return SplitName(family, (1 / folds,) * folds, fold)
    if name.strip() not in KNOWN:
        raise unknown_name("split", name, KNOWN)
    return SplitName(family)


def make_split(faces: FaceSet, twins: TwinMap | None, name: str = "official", seed: int = 0) -> Split:
    """Divide the rows of a set of faces.

    Parameters
    ----------
    faces : FaceSet
    twins : TwinMap or None
        Needed by ``official-clean``, ``stratified`` and ``kfold``; the official parts do not look at it.
    name : str
        See the head of this module.
    seed : int
        Of the drawing in ``stratified`` and ``kfold``. The K folds of one seed belong together: each row
        is tested by exactly one of them.

    Raises
    ------
    UsageError
        An unknown or ill-formed name, no twin map where one is needed, or a part that would stay empty.
    BadData
        An official split of a set that has no rows of one of the official usages.
    """
    wanted = parse_split(name)
    injected = faces.rows_of(INJECTED)
    if wanted.needs_twins and twins is None:
        raise UsageError(f"split {name!r} needs the twins of {faces.name!r}; find them with find_twins(faces.images).")
    if wanted.draws:
        assert twins is not None
        own, groups = np.arange(len(faces)), twins.groups
        if len(injected):
            # As the set without them is dealt, so that scores on either compare.
            own = np.flatnonzero(faces.usage != USAGES.index(INJECTED))
            groups = among(twins, own).groups
        parts = [own[places] for places in deal(faces.labels[own], groups, wanted.fractions, seed)]
        if wanted.family == "kfold":
            order = [(wanted.fold + k) % len(parts) for k in range(len(parts))]
            test, select, *rest = (parts[k] for k in order)
            parts = [np.sort(np.concatenate(rest)), select, test]
        empty = [part for part, rows in zip(PARTS, parts, strict=True) if not len(rows)]
        if empty:
            raise UsageError(
                f"split {name!r} leaves no row for {' and '.join(empty)}: {faces.name!r} has only {len(own)} rows "
                f"({len(np.unique(groups))} photographs). Take larger fractions, fewer folds or more faces."
            )
        train, select, test = parts
        if not len(injected):
            return Split(wanted.text, train, select, test)
        out = twins.have_twin_in(injected, np.concatenate([select, test]))
        removed = {"train: injected, twin in select or test": int(out.sum())}
        return Split(wanted.text, np.sort(np.concatenate([train, injected[~out]])), select, test, removed)

    parts = [faces.rows_of(usage) for usage in OFFICIAL]
    missing = [usage for usage, rows in zip(OFFICIAL, parts, strict=True) if not len(rows)]
    if missing:
        raise BadData(
            faces.name,
            [f"split {name!r} needs usages {', '.join(OFFICIAL)}; found none of {' and none of '.join(missing)}."],
            "Import a source that has them, or divide the rows here: stratified:0.8,0.1,0.1 or kfold:5:0",
        )
    train, select, test = parts
    train = np.sort(np.concatenate([train, injected]))
    if wanted.family == "official-swapped":
        return Split(wanted.text, train, test, select)
    if wanted.family == "official":
        return Split(wanted.text, train, select, test)
    assert twins is not None
    train_out = twins.have_twin_in(train, np.concatenate([select, test]))
    select_out = twins.have_twin_in(select, test)
    removed = {
        "train: twin in select or test": int(train_out.sum()),
        "select: twin in test": int(select_out.sum()),
    }
    return Split(wanted.text, train[~train_out], select[~select_out], test, removed)


def twins_in(split: Split, faces: FaceSet, twins: TwinMap) -> TwinMap:
    """The twins of a set as they matter in a split: injected rows that it leaves out are alone and link nobody.

    Else a test row would count as known from training because a face that does not train lies between it and one that
    does, and scores on a set with injected faces would not compare with those on the set without.
    """
    out = np.setdiff1d(faces.rows_of(INJECTED), split.train_rows)
    if not len(out):
        return twins
    stay = ~np.isin(twins.pairs, out).any(1)
    pairs = twins.pairs[stay]
    groups = groups_of(pairs, len(twins.groups))
    return TwinMap(groups, pairs, twins.correlation[stay], twins.rms[stay], twins.mirrored[stay])


def deal(
    labels: NDArray, groups: NDArray, fractions: tuple[float, ...] | list[float], seed: int
) -> list[NDArray[np.int64]]:
    """Deal all rows to parts so that a group stays together and classes keep their shares.

    Groups of several rows are dealt first, largest first in drawn order, each to the part that lacks
    its classes most. Rows without a twin then fill what each class still lacks, so that the
    count of every class in every part is its share to the row, unless the groups alone exceed it.

    Parameters
    ----------
    labels : uint8 [n]
    groups : int [n]
        Rows with the same number stay together.
    fractions : positive floats with sum 1
        Share of each part.
    seed : int

    Returns
    -------
    list of int64 arrays
        Row ids of each part, ascending; every row is in exactly one.
    """
    rng = np.random.default_rng(seed)
    lacking = _quotas(np.bincount(labels, minlength=N_CLASSES), fractions)
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    part = np.full(len(labels), -1)

    drawn = rng.permutation(len(sizes))
    drawn = drawn[sizes[drawn] > 1]
    rows_by_group = np.split(np.argsort(group, kind="stable"), np.cumsum(sizes)[:-1])
    for g in drawn[np.argsort(-sizes[drawn], kind="stable")]:
        rows = rows_by_group[g]
        counts = np.bincount(labels[rows], minlength=N_CLASSES)
        # Relative to what a part gets in all, so that a small part is not starved by a large one. A group
        # that would overfill every part goes where most is lacking.
        absolute = (counts * lacking).sum(1)
        need = np.where((counts > lacking).any(1), absolute - 1e12, absolute / np.asarray(fractions))
        chosen = int(np.argmax(need))
        part[rows] = chosen
        lacking[chosen] -= counts

    for c in range(N_CLASSES):
        rows = rng.permutation(np.flatnonzero((labels == c) & (part < 0)))
        room = np.maximum(lacking[:, c], 0)
        while room.sum() > len(rows):  # what one part has too much, the fullest of the others give
            room[np.argmax(room)] -= 1
        part[rows] = np.repeat(np.arange(len(fractions)), room)
    return [np.flatnonzero(part == p) for p in range(len(fractions))]


def _quotas(counts: NDArray, fractions: tuple[float, ...] | list[float]) -> NDArray[np.int64]:
    """Whole numbers [parts, classes] nearest to fraction x count that sum to the counts.

    What rounding down leaves of a class goes to the largest remainders; equal ones take turns from class to
    class, so that the first part does not get them all.
    """
    exact = np.outer(fractions, counts)
    quotas = np.floor(exact + 1e-9).astype(np.int64)
    given = 0
    for c, left in enumerate(counts - quotas.sum(0)):
        remainder = np.round(exact[:, c] - quotas[:, c], 9)
        turn = (np.arange(len(fractions)) - given) % len(fractions)
        quotas[np.lexsort((turn, -remainder))[:left], c] += 1
        given += int(left)
    return quotas


def split_of(
    store: Store,
    data: Artifact,
    name: str = "official",
    seed: int = 0,
    *,
    faces: FaceSet | None = None,
    quiet: bool = False,
) -> tuple[Artifact, Split]:
    """The split of a stored set of faces; made on first need and answered from disk after.

    The id depends on the seed only where something is drawn, and on the twins only where they matter.

    Parameters
    ----------
    store : Store
    data : Artifact
        Of kind data.
    name, seed
        As in `make_split`.
    faces : FaceSet, optional
        Those of ``data`` where they are loaded already; they are loaded when they are needed.
    quiet : bool
        No progress bar while twins are looked for.

    Returns
    -------
    Artifact
        Of kind split; its metrics hold the rows and class counts of each part and what was removed.
    Split
    """
    wanted = parse_split(name)
    spec: dict = {"name": wanted.text, "version": 1} | ({"seed": seed} if wanted.draws else {})
    inputs, twins = [data.id], None
    if wanted.needs_twins:
        found, twins = twins_of(store, data, quiet=quiet)
        inputs.append(found.id)

    def write(folder: Path) -> dict:
        loaded = load_faces(data) if faces is None else faces
        split = without_faceless(make_split(loaded, twins, name, seed), data)
        rows = {"train": split.train_rows, "select": split.select_rows, "test": split.test_rows}
        save_arrays(folder / "split.npz", **rows)
        return {
            "rows": {part: len(r) for part, r in rows.items()},
            "counts": {part: loaded.counts(r) for part, r in rows.items()},
            "removed": split.removed,
        }

    made = store.put("split", spec, inputs, write)
    arrays = made.arrays("split.npz")
    return made, Split(wanted.text, *(arrays[part] for part in PARTS), removed=made.metrics["removed"])
