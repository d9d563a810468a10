"""Faces of another set added to training, and to nothing else.

The base's rows come first, as they are; the others follow with the usage Injected, which every split gives to its
training part alone. An added face that shows the photograph of a row that tests or selects would let a test face train,
so it is left out and counted (``admission.py``). Where each row came from is kept beside the faces.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.data.admission import admitted, fitted, reasons
from ensemble_fer.data.derived import source_of
from ensemble_fer.data.importing import load_faces
from ensemble_fer.data.twins import THRESHOLDS as TWINS_THRESHOLDS
from ensemble_fer.data.twins import VERSION as TWINS_VERSION
from ensemble_fer.data.twins import twins_of
from ensemble_fer.data.warped import THRESHOLDS as WARPED_THRESHOLDS
from ensemble_fer.data.warped import VERSION as WARPED_VERSION
from ensemble_fer.data.warped import WARPED, warped_of
from ensemble_fer.errors import BadData, UsageError, unknown_name
from ensemble_fer.files import save_arrays
from ensemble_fer.store import Artifact, Store, check_name
from ensemble_fer.types import CLASSES, INJECTED, USAGES, FaceSet, TwinMap, frozen

PROVENANCE = "provenance.npz"
VERSION = 2
LONGEST = 100


@dataclass(frozen=True)
class Provenance:
    """Where the rows of a set came from.

    Parameters
    ----------
    sets : list of str
        Ids of sets, the base first.
    set : int32 [n]
        Of each row, an index into ``sets``.
    row : int32 [n]
        Of each row, its row id there.
    """

    sets: list[str]
    set: NDArray[np.int32]
    row: NDArray[np.int32]

    def __post_init__(self) -> None:
        for key in ("set", "row"):
            object.__setattr__(self, key, frozen(getattr(self, key), np.int32))


def inject_data(
    store: Store,
    base: Artifact,
    source: Artifact,
    *,
    classes: Sequence[str],
    limit: int | None = None,
    seed: int = 0,
    name: str | None = None,
    quiet: bool = False,
) -> Artifact:
    """A new set: the rows of ``base``, and behind them faces of ``source`` that only train.

    Parameters
    ----------
    store : Store
    base, source : Artifact
        Of kind data. The base may have injected rows already.
    classes : names of classes
        Only faces of these are added, whatever their usage in ``source``.
    limit : int, optional
        At most this many of each class, drawn by ``seed``; drawn before any is left out, so that fewer may come.
    seed : int
        0 or more; without a limit nothing is drawn.
    name : str, optional
        The reference to set; ``automatic_name`` by default.
    quiet : bool
        No progress bars while copies are looked for.

    Returns
    -------
    Artifact
        Of kind data, made from both: ``faces.npz``, ``provenance.npz``, and ``warped.npz`` with the pairs of rows that
        only the wider search joined. Its metrics are those of an import, with ``injected``, a list with one entry for
        each set that was added (see ``admission.admitted``). Bad rows that an import left out are those of the base.
        The base itself stays as it is.

    Raises
    ------
    UsageError
        An unknown class, one of which ``source`` has no face, a limit below 1, or an aligned set.
    BadData
        No face is left to add.
    """
    for one in classes:
        if one not in CLASSES:
            raise unknown_name("class", one, CLASSES)
    named = sorted(set(classes), key=CLASSES.index)
    if not named:
        raise UsageError("no class was named; expected at least one, e.g. disgust.")
    if limit is not None and limit < 1:
        raise UsageError(f"limit is {limit}; expected at least 1 face a class, or none for all.")
    if seed < 0:
        raise UsageError(f"seed is {seed}; expected 0 or more.")
    for one in (base, source):
        whole = source_of(store, one)
        if whole.id != one.id:
            # Photographs and looks are told apart by the pixels of the set that is not aligned.
            raise UsageError(
                f"{store.name_of(one)} is aligned, and faces are added before that: name {store.name_of(whole)}, from "
                "which it was made, and align what comes out."
            )
    name = check_name(name or automatic_name(store, base, source, named, limit, seed))
    if name in (store.name_of(base), store.name_of(source)):
        raise UsageError(f"{name!r} is what a set that goes in is called. Give the new set a name of its own.")
    spec = {
        "injected": {"classes": named, "limit": limit, "seed": None if limit is None else seed},
        "twins": {"version": TWINS_VERSION, **TWINS_THRESHOLDS},
        "warped": {"version": WARPED_VERSION, **WARPED_THRESHOLDS},
        "version": VERSION,
    }
    found: list[TwinMap] = []

    def write(folder: Path) -> dict:
        faces, theirs = load_faces(base), load_faces(source)
        rows = _drawn(theirs, named, limit, seed, store.name_of(source))
        images, converted = fitted(theirs.images[rows], faces.images.shape[1:])
        kept, twins, warped, account = admitted(faces, images, warped_of(base), quiet)
        if not len(kept):
            raise BadData(
                store.name_of(source),
                [f"none of {len(rows):,} faces may be added: {reasons(account)}"],
                "These show photographs that select or test, or nothing. Take another set, or other classes.",
            )
        found.append(twins)
        usage = np.full(len(kept), USAGES.index(INJECTED), np.uint8)
        whole = FaceSet(
            np.concatenate([faces.images, images[kept]]),
            np.concatenate([faces.labels, theirs.labels[rows[kept]]]),
            np.concatenate([faces.usage, usage]),
            name,
        )
        np.savez(folder / "faces.npz", images=whole.images, labels=whole.labels, usage=whole.usage)
        before = provenance_of(base) or _own(base, len(faces))
        save_arrays(
            folder / PROVENANCE,
            sets=np.array([*before.sets, source.id]),
            set=np.append(before.set, np.full(len(kept), len(before.sets), np.int32)),
            row=np.append(before.row, rows[kept].astype(np.int32)),
        )
        save_arrays(folder / WARPED, **vars(warped))
        step = {"from": source.id, "name": store.name_of(source), **spec["injected"]}
        counts = {"offered": theirs.counts(rows), "added": theirs.counts(rows[kept])}
        same = {key: base.metrics[key] for key in ("left_out", "skipped") if key in base.metrics}
        return {
            "name": name,
            "layout": "injected",
            "source": base.id,
            "rows": len(whole),
            "usage": whole.usage_counts(),
            "converted": converted,
            "notes": [],
            **same,
            "injected": [*base.metrics.get("injected", []), {**step, **counts, **account, "converted": converted}],
        }

    made = store.put("data", spec, [base.id, source.id], write, name=name)
    if found:
        twins_of(store, made, known=found[0], quiet=quiet)
    return made


def automatic_name(
    store: Store, base: Artifact, source: Artifact, classes: Sequence[str], limit: int | None, seed: int
) -> str:
    """``<base>+<source>-<class>+<class>[-<limit>-s<seed>]``; one that would be too long ends with a hash of itself."""
    parts = [f"{store.name_of(base)}+{store.name_of(source)}", "+".join(classes)]
    name = "-".join([*parts, *([str(limit), f"s{seed}"] if limit is not None else [])])
    if len(name) <= LONGEST:
        return name
    mark = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: LONGEST - len(mark) - 1]}-{mark}"


def provenance_of(data: Artifact) -> Provenance | None:
    """Where the rows of a set came from; None if nothing was added to it."""
    if PROVENANCE not in data.manifest["files"]:
        return None
    arrays = data.arrays(PROVENANCE)
    return Provenance(arrays["sets"].tolist(), arrays["set"], arrays["row"])


def _own(data: Artifact, rows: int) -> Provenance:
    """Of a set to which nothing was added."""
    return Provenance([data.id], np.zeros(rows, np.int32), np.arange(rows, dtype=np.int32))


def injected_text(store: Store, data: Artifact, training: int | None = None) -> str:
    """What was added to a set, for the stamp: ``1,200 angry, disgust faces of affectnet``; empty if nothing was.

    Parameters
    ----------
    store : Store
    data : Artifact
        Of an aligned set, what was added to the set it was made from.
    training : int, optional
        Added faces in the training part, said where a split leaves some out.
    """
    steps = source_of(store, data).metrics.get("injected", [])
    text = " + ".join(f"{sum(step['added']):,} {', '.join(step['classes'])} faces of {step['name']}" for step in steps)
    added = sum(sum(step["added"]) for step in steps)
    return text + (f", {training:,} of them in training" if training not in (None, added) else "")


def _drawn(faces: FaceSet, classes: Sequence[str], limit: int | None, seed: int, name: str) -> NDArray[np.int64]:
    """Rows of these classes, ascending; at most ``limit`` of each. A class draws by itself, whatever else is named."""
    chosen = []
    for one in classes:
        code = CLASSES.index(one)
        rows = np.flatnonzero(faces.labels == code)
        if not len(rows):
            raise UsageError(f"{name} has no face of class {one!r}. Leave it out of classes, or take another set.")
        if limit is not None:
            rows = np.random.default_rng([seed, code]).permutation(rows)[:limit]
        chosen.append(rows)
    return np.sort(np.concatenate(chosen))
