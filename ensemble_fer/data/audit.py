"""What is wrong with a set of faces before anything is learned from it: class counts, twins, conflicts."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.data.contact_sheet import contact_sheet
from ensemble_fer.data.derived import source_of
from ensemble_fer.data.importing import load_faces
from ensemble_fer.data.registration import correlation
from ensemble_fer.data.twins import IDENTICAL, THRESHOLDS, groups_of, twins_of
from ensemble_fer.files import write_atomic
from ensemble_fer.store import Artifact, Store
from ensemble_fer.types import CLASSES, INJECTED, OFFICIAL, FaceSet, TwinMap, gray_levels

# Pairs of each kind on the contact sheet.
SHOWN = 8
# Pixels that correlate so well as they lie are not cropped otherwise: light, noise or a watermark differs.
SAME_CROP = 0.98


def audit(store: Store, data: Artifact, *, sheet: Path | None = None, quiet: bool = False) -> dict:
    """Count classes, twins, label conflicts and constant images of a stored set of faces.

    Parameters
    ----------
    store : Store
    data : Artifact
        Of kind data. Its twins are looked for on first need and read from the store after.
    sheet : path, optional
        Where to write the contact sheet of sample pairs; ``<store>/figures/audit-<name>.png`` by default.
    quiet : bool
        No progress bar.

    Returns
    -------
    dict
        JSON values: what `measure` says, and ``data``, ``twins_id``, ``thresholds``, and the path ``sheet``
        (None where there is no pair to show).
    """
    # Photographs are compared and shown as they came, in gray.
    faces = load_faces(source_of(store, data))
    faces = replace(faces, images=gray_levels(faces.images))
    found, twins = twins_of(store, data, quiet=quiet)
    name = store.name_of(data)
    path = sheet if sheet is not None else store.root / "figures" / f"audit-{name}.png"
    if len(twins.pairs):
        write_sheet(faces, twins, path, name)
    return {
        **measure(faces, twins),
        "data": name,
        "twins_id": found.id,
        "thresholds": dict(THRESHOLDS),
        "sheet": str(path) if len(twins.pairs) else None,
    }


def measure(faces: FaceSet, twins: TwinMap) -> dict:
    """The counts of an audit.

    Returns
    -------
    dict
        ``counts``: faces of each class in each usage, {usage: [7]}.
        ``twins``: for PublicTest and PrivateTest how many of its rows have a twin in Training (``rows``), and
        how many lie within one grey level rms of a Training row (``identical``); ``within_training`` how many
        rows of Training have a twin, or such a near one, there; ``Injected`` the same of rows from another set.
        ``conflicts``: photographs (groups) whose rows carry more than one label; ``conflict_rows`` their rows.
        ``constant``: rows of a single grey level.
        ``groups``, ``largest_group``, ``pairs``, ``mirrored_pairs``: of the twins that were found.
        ``test_in_select``: rows of PrivateTest with a twin in PublicTest.
    """
    training, public, private = (faces.rows_of(usage) for usage in OFFICIAL)

    def against(rows: NDArray, others: NDArray) -> dict[str, int]:
        twinned, identical = twins.have_twin_in(rows, others), have_identical_in(twins, rows, others)
        return {"rows": int(twinned.sum()), "identical": int(identical.sum())}

    injected = faces.rows_of(INJECTED)
    sizes = np.bincount(twins.groups)
    disputed = conflicting_rows(faces.labels, twins.groups)
    pixels = faces.images.reshape(len(faces), -1)
    return {
        "counts": faces.usage_counts(),
        "twins": {
            "PublicTest": against(public, training),
            "PrivateTest": against(private, training),
            "within_training": against(training, training),
            **({INJECTED: against(injected, training)} if len(injected) else {}),
        },
        "conflicts": len(np.unique(twins.groups[disputed])),
        "conflict_rows": len(disputed),
        "constant": int((pixels.min(1) == pixels.max(1)).sum()) if len(faces) else 0,
        "groups": int((sizes > 1).sum()),
        "largest_group": int(sizes.max(initial=0)),
        "pairs": len(twins.pairs),
        "mirrored_pairs": int(twins.mirrored.sum()),
        "test_in_select": int(twins.have_twin_in(private, public).sum()),
    }


def have_identical_in(twins: TwinMap, rows: NDArray, others: NDArray) -> NDArray[np.bool_]:
    """For each of ``rows`` whether another row among ``others`` lies within one grey level rms of it.

    Of rows equal byte for byte the twin map lists only the pairs with the first, so these are put together before.
    """
    n = len(twins.groups)
    straight = ~twins.mirrored
    copies = groups_of(twins.pairs[straight & (twins.rms == 0)], n)
    there = np.bincount(copies[others], minlength=n)
    near = copies[twins.pairs[straight & (twins.rms <= IDENTICAL)]]
    beside = np.zeros(n, bool)
    for a, b in (near.T, near.T[::-1]):
        other_picture = a != b
        beside[a[other_picture]] |= there[b[other_picture]] > 0
    return beside[copies[rows]] | (there[copies[rows]] - np.isin(rows, others) > 0)


def conflicting_rows(labels: NDArray, groups: NDArray) -> NDArray[np.int64]:
    """Rows whose photograph carries more than one label, ascending."""
    n = len(labels)
    low, high = np.full(n, 255), np.zeros(n, int)
    np.minimum.at(low, groups, labels)
    np.maximum.at(high, groups, labels)
    return np.flatnonzero(low[groups] < high[groups])


def kinds_of(faces: FaceSet, twins: TwinMap) -> dict[str, NDArray[np.int64]]:
    """Positions in ``twins.pairs`` by what differs between the two; the last kinds overlap the others."""
    first, second = twins.pairs.T
    straight = ~twins.mirrored
    alike = np.zeros(len(first), bool)
    for start in range(0, len(first), 1024):
        at = slice(start, start + 1024)
        a, b = (faces.images[r[at]].astype(np.float32) for r in (first, second))
        alike[at] = correlation(a, b) >= SAME_CROP
    identical = twins.rms <= IDENTICAL
    return {
        "identical": np.flatnonzero(straight & identical),
        "other light or noise": np.flatnonzero(straight & ~identical & alike),
        "other crop": np.flatnonzero(straight & ~identical & ~alike),
        "mirrored": np.flatnonzero(twins.mirrored),
        "other label": np.flatnonzero(faces.labels[first] != faces.labels[second]),
        "least alike": np.argsort(twins.correlation, kind="stable")[: 4 * SHOWN],
    }


def write_sheet(faces: FaceSet, twins: TwinMap, path: Path, name: str) -> None:
    """Write a PNG with sample pairs of each kind, the same ones every time."""
    rng = np.random.default_rng(0)
    pictures, captions, labels = [], [], []
    gap = np.full((faces.images.shape[1], 1), 255, np.uint8)
    for kind, pairs in kinds_of(faces, twins).items():
        drawn = np.sort(rng.permutation(pairs)[:SHOWN])
        if len(drawn):
            labels.append(f"{kind} ({len(pairs)})" if kind != "least alike" else kind)
            rows = [twins.pairs[p] for p in drawn]
            pictures.append([np.hstack([faces.images[a], gap, faces.images[b]]) for a, b in rows])
            captions.append(
                [
                    f"{a}, {b}  r {twins.correlation[p]:.2f}\n{CLASSES[faces.labels[a]]} | {CLASSES[faces.labels[b]]}"
                    for p, (a, b) in zip(drawn, rows, strict=True)
                ]
            )
    picture = contact_sheet(pictures, captions, title=f"Twins in {name}: sample pairs", row_labels=labels)
    out = io.BytesIO()
    picture.save(out, "PNG")
    write_atomic(path, out.getvalue())
