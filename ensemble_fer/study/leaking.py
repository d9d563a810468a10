"""Sets made wrong on purpose, as published: resampled before they are split. Every score on one is stamped LEAKY.

System E resampled all 35,887 rows and divided the result 80/10/10, so that copies and mixtures of test faces train.
Such a set is stored with what was done in its spec, from which the stamp of every run on it follows; its parts are its
``usage``, so that the split ``official`` of it is the leaky one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.data.importing import load_faces, store_faces
from ensemble_fer.data.splits import split_of
from ensemble_fer.data.twins import rms_of, twins_of
from ensemble_fer.ensemble import combine
from ensemble_fer.errors import UsageError, unknown_name
from ensemble_fer.evaluate.metrics import score
from ensemble_fer.evaluate.predictions import load_protocol, save_predictions
from ensemble_fer.files import save_arrays
from ensemble_fer.resample import load_resampling
from ensemble_fer.resample import run as resampled
from ensemble_fer.scoring import PREDICTIONS, SELECT
from ensemble_fer.store import Artifact, Store
from ensemble_fer.study.plan import DIVISIONS
from ensemble_fer.train import load_member, predict_rows
from ensemble_fer.types import FaceSet, Kind, Predictions, Role, Split, TwinMap

SHARES = (0.8, 0.1, 0.1)
LINEAGE = "lineage.npz"


def leaky_data(store: Store, data: Artifact, *, method: str, division: str, seed: int = 0) -> Artifact:
    """All rows of a set resampled, and then divided 80/10/10 by row: what one must not do.

    Parameters
    ----------
    data : Artifact
        An honest set.
    method : str
        A key of ``METHODS``; ``none`` divides the rows as they are.
    division : str
        ``one``: a face of the set is in the same part whatever the method, what was made from it anywhere. ``own``:
        each method's rows are divided by a draw of its own.
    seed : int
        Of resampling and division.

    Returns
    -------
    Artifact
        Kind ``data``, called ``leaky.METHOD.DIVISION.sSEED``, with ``lineage.npz``: ``source``, for each row the face
        of ``data`` that it is or is most of. Twins are the rows of one such face, or of faces that are twins.
    """
    if division not in DIVISIONS:
        raise unknown_name("division", division, DIVISIONS)
    if data.spec.get("leaks"):
        raise UsageError(f"{store.name_of(data)} is leaky already. Give an honest set.")
    name = f"leaky.{method}.{division}.s{seed}"
    known = store.refs("data").get(name)
    if known in store.ids("data") and store.by_id("data", str(known)).metrics.get("source") == data.id:
        return store.by_id("data", str(known))
    faces, (_, twins) = load_faces(data), twins_of(store, data)
    everything = Split("every row", np.arange(len(faces)), np.empty(0, np.int64), np.empty(0, np.int64))
    made = resampled(faces, everything.train, method, seed=seed).resampling
    source = np.where(made.weight > 0.5, made.parent_b, made.parent_a).astype(np.int32)
    usage = _divided(len(made), seed, method)
    if division == "one":
        whole = made.kind == Kind.ORIGINAL
        usage[whole] = _divided(len(faces), seed, "faces")[source[whole]]
    wrong = FaceSet(made.pixels(faces.images), made.labels, usage, name)
    metrics = {"layout": "leaky", "source": data.id, "method": method, "division": division, "seed": seed}

    def also(folder: Path) -> None:
        save_arrays(folder / LINEAGE, source=source)

    stored = store_faces(store, wrong, metrics, also=also, leaks=[f"{DIVISIONS[division]} ({method})"])
    twins_of(store, stored, known=_relatives(wrong.images, twins.groups[source]))
    return stored


def fuse_leaky(store: Store, runs: Sequence[Artifact], *, name: str) -> Artifact:
    """The mean of members of several leaky sets, scored on the test rows of all of these.

    Parameters
    ----------
    runs : sequence of Artifact
        One of each set.

    Returns
    -------
    Artifact
        Kind ``predictions``, whose metrics are the report; a row counts as known from training where any member has
        trained on a relative.
    """
    spec = {"leaky": name, "members": [run.id for run in runs], "version": 2}

    def write(folder: Path) -> dict:
        tests = [_test_rows(store, run) for run in runs]
        images, labels, source = (np.concatenate(parts) for parts in zip(*tests, strict=True))
        honest = store.by_id("data", store.by_id("data", runs[0].inputs[0]).metrics["source"])
        groups = twins_of(store, honest)[1].groups
        known = np.isin(groups[source], groups[np.concatenate([_trained_sources(store, run) for run in runs])])
        members = [
            Predictions(
                logits=predict_rows(load_member(run), images),
                labels=labels,
                rows=np.arange(len(labels)),
                groups=groups[source],
                twin_in_train=known,
                role=Role.TEST,
                source=run.id,
                protocol=replace(load_protocol(run.file(SELECT)), role=Role.TEST, data="leaky sets"),
            )
            for run in runs
        ]
        fused = combine(members, "mean", source=name)
        save_predictions(folder / PREDICTIONS, fused)
        return score(fused).to_dict()

    return store.put("predictions", spec, [run.id for run in runs], write, name=name)


def _divided(count: int, seed: int, what: str) -> NDArray[np.uint8]:
    """A part for each of so many rows: codes of the official usages in shares of 80, 10 and 10 per cent."""
    drawn = np.random.default_rng([seed, *what.encode()]).permutation(count)
    return np.searchsorted(np.cumsum(SHARES)[:2] * count, drawn, side="right").astype(np.uint8)


def _relatives(images: NDArray[np.uint8], groups: NDArray[np.int32]) -> TwinMap:
    """Rows of one group as twins, each paired with the first of them."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    smallest = first[inverse].astype(np.int32)
    rows = np.flatnonzero(smallest != np.arange(len(groups)))
    pairs = np.stack([smallest[rows], rows.astype(np.int32)], 1)
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    straight = np.zeros(len(pairs), bool)
    return TwinMap(smallest, pairs, np.ones(len(pairs), np.float32), rms_of(images, pairs, straight), straight)


def _test_rows(store: Store, run: Artifact) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.int32]]:
    """Images, labels and sources of the test rows of a run's set."""
    data = store.by_id("data", run.inputs[0])
    faces, (_, split) = load_faces(data), split_of(store, data)
    rows = split.test_rows
    return faces.images[rows], faces.labels[rows], data.arrays(LINEAGE)["source"][rows]


def _trained_sources(store: Store, run: Artifact) -> NDArray[np.int32]:
    """The faces of the honest set that a run has trained on, or on mixtures of which they are most."""
    data = store.by_id("data", run.inputs[0])
    return data.arrays(LINEAGE)["source"][split_of(store, data)[1].train_rows]


def memory(store: Store, run: Artifact, *, at_most: int = 5000) -> float:
    """Share of its own training rows that a run answers rightly, centre crops of up to so many, evenly spaced."""
    rows = load_resampling(store.by_id("resampling", run.inputs[3]))
    some = np.unique(np.linspace(0, len(rows) - 1, at_most).astype(np.int64))
    faces = load_faces(store.by_id("data", run.inputs[0]))
    said = predict_rows(load_member(run), rows.pixels(faces.images, some)).argmax(1)
    return float((said == rows.labels[some]).mean())
