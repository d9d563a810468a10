"""Synthetic faces: FER2013's shares, the planted faults, and that they need more than a linear classifier."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ensemble_fer.data.face_drawing import LOOKS, MUSCLES, draw_batch
from ensemble_fer.data.importing import load_faces
from ensemble_fer.data.planting import TWIN_KINDS, twin_of
from ensemble_fer.data.synthetic import (
    ROWS,
    TRAINING_COUNTS,
    SyntheticFaces,
    class_counts,
    draw_faces,
    synth_data,
)
from ensemble_fer.errors import UsageError
from ensemble_fer.store import Store
from ensemble_fer.types import CLASSES, OFFICIAL


@pytest.fixture(scope="module")
def drawn() -> SyntheticFaces:
    return draw_faces(ROWS, 0)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Best correlation over shifts of up to two pixels, borders left out."""
    inner = a[3:-3, 3:-3].astype(float).ravel()
    shifts = [b[3 + y : 45 + y, 3 + x : 45 + x] for y in range(-2, 3) for x in range(-2, 3)]
    return max(np.corrcoef(inner, shifted.ravel())[0, 1] for shifted in shifts)


def test_class_shares_are_those_of_fer2013(drawn: SyntheticFaces) -> None:
    faces = drawn.faces()
    for usage, share in zip(OFFICIAL, (0.8, 0.1, 0.1), strict=True):
        counts = np.array(faces.counts(faces.rows_of(usage)))
        expected = share * ROWS * np.array(TRAINING_COUNTS) / sum(TRAINING_COUNTS)
        assert np.abs(counts - expected).max() <= (12 if usage == "Training" else 1)
    assert np.array_equal(faces.usage, np.sort(faces.usage))
    assert len(np.unique(faces.labels[:50])) > 4  # not sorted by class


@pytest.mark.parametrize("rows", [200, 333, 1000, 35887])
def test_class_counts_sum_up_and_leave_no_class_out(rows: int) -> None:
    counts = class_counts(rows)
    assert counts.sum() == rows
    assert counts[0].min() >= 8
    assert counts[1:].min() >= 2


def test_same_seed_same_faces() -> None:
    first, again, other = draw_faces(200, 5), draw_faces(200, 5), draw_faces(200, 6)
    assert first.faces().fingerprint == again.faces().fingerprint
    assert first.planted == again.planted
    assert first.faces().fingerprint != other.faces().fingerprint
    with pytest.raises(UsageError, match="199"):
        draw_faces(199, 0)


def test_planted_twins_are_twins_and_each_photograph_is_used_once(drawn: SyntheticFaces) -> None:
    twins = drawn.planted["twins"]
    involved = [row for t in twins for row in (t["row"], t["of"])] + drawn.planted["constant"]
    assert len(involved) == len(set(involved))
    assert {t["kind"] for t in twins} == set(TWIN_KINDS)
    for twin in twins:
        a, b = drawn.images[twin["row"]], drawn.images[twin["of"]]
        if twin["kind"] == "mirrored":
            b = b[:, ::-1]
        assert correlation(a, b) > (0.85 if twin["kind"] == "crop" else 0.9), twin
        if twin["kind"] == "identical":
            assert np.sqrt(((a.astype(float) - b) ** 2).mean()) <= 1
    usage = [(OFFICIAL[drawn.usage[t["row"]]], OFFICIAL[drawn.usage[t["of"]]]) for t in twins]
    assert usage.count(("PrivateTest", "Training")) == 32
    assert usage.count(("PublicTest", "Training")) == 32
    assert usage.count(("PrivateTest", "PublicTest")) >= 4
    assert usage.count(("Training", "Training")) >= 30


def test_planted_conflicts_and_constants(drawn: SyntheticFaces) -> None:
    conflicts = {tuple(pair) for pair in drawn.planted["conflicts"]}
    differ = {(t["row"], t["of"]) for t in drawn.planted["twins"] if drawn.labels[t["row"]] != drawn.labels[t["of"]]}
    assert conflicts == differ
    assert 10 <= len(conflicts) <= 0.01 * ROWS
    levels = drawn.images.reshape(ROWS, -1)
    assert np.flatnonzero(levels.min(1) == levels.max(1)).tolist() == drawn.planted["constant"]
    assert (drawn.usage[drawn.planted["constant"]] == 0).all()


def test_hardly_anything_else_looks_like_a_twin(drawn: SyntheticFaces) -> None:
    """Of 8 million pairs of other faces at most a handful correlate as twins do."""
    planted = {tuple(sorted((t["row"], t["of"]))) for t in drawn.planted["twins"]}
    pixels = drawn.images.reshape(ROWS, -1).astype(np.float32)
    pixels -= pixels.mean(axis=1, keepdims=True)
    pixels /= np.linalg.norm(pixels, axis=1, keepdims=True) + 1e-6
    mirrored = pixels.reshape(-1, 48, 48)[:, :, ::-1].reshape(ROWS, -1)
    for other in (pixels, mirrored):
        close = np.argwhere(np.triu(pixels @ other.T, 1) > 0.93)
        assert {(int(a), int(b)) for a, b in close} <= planted


def test_a_linear_classifier_is_not_enough(drawn: SyntheticFaces) -> None:
    from sklearn.linear_model import RidgeClassifier

    x = drawn.images.reshape(ROWS, -1).astype(np.float32) / 255
    train, test = drawn.usage == 0, drawn.usage == 2
    linear = RidgeClassifier(alpha=10).fit(x[train], drawn.labels[train])
    score = linear.score(x[test], drawn.labels[test])
    assert 0.3 < score < 0.75  # above always saying happy (25 %), so that the labels mean something


def neutral(**muscles: float) -> np.ndarray:
    """One quiet face with some muscles contracted, drawn with nothing random but the fixed grain."""
    looks = {key: np.array([(low + high) / 2]) for key, (low, high) in LOOKS.items()}
    looks |= {"glasses": np.zeros(1), "grain": np.zeros(1), "blotches": np.zeros(1), "background_texture": np.zeros(1)}
    looks |= {"yaw": np.zeros(1), "shadow": np.zeros(1), "light_x": np.zeros(1)}
    values = {key: np.array([muscles.get(key, 0.0)]) for key in MUSCLES}
    return draw_batch(values, looks, np.random.default_rng(0))[0].astype(int)


@pytest.mark.parametrize("muscle", MUSCLES)
def test_every_muscle_shows_and_moves_both_sides(muscle: str) -> None:
    company = {"jaw_drop": 0.5} if muscle == "teeth" else {}
    change = neutral(**company, **{muscle: 1.0}) - neutral(**company)
    assert np.abs(change).max() > 25
    assert np.abs(change - change[:, ::-1]).max() <= 60  # a level face changes alike left and right
    rows = np.abs(change).sum(axis=1)
    middle = (rows * np.arange(48)).sum() / rows.sum()
    if muscle in ("inner_raise", "outer_raise", "brow_lower", "lid_raise", "lid_tight"):
        assert middle < 26
    if muscle in ("corner_pull", "corner_down", "stretch", "press", "jaw_drop", "teeth"):
        assert middle > 24


def test_drawing_a_part_of_the_rows_leaves_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eyes and mouth are computed on some rows of the picture only; on all rows the faces would be the same."""
    from ensemble_fer.data import face_drawing
    from ensemble_fer.data.synthetic import draw_expressions

    labels = np.tile(np.arange(7), 60).astype(np.uint8)
    part = draw_expressions(labels, np.random.default_rng(1))
    monkeypatch.setattr(face_drawing, "_EYES_END", 48)
    monkeypatch.setattr(face_drawing, "_MOUTH_START", 0)
    whole = draw_expressions(labels, np.random.default_rng(1))
    assert np.abs(whole.astype(int) - part).max() <= 1  # the faint tail of a soft shadow


def test_unknown_twin_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="mirrored"):
        twin_of(np.zeros((48, 48), np.uint8), "mirorred", np.random.default_rng(0))


def test_stored_like_an_import(store: Store) -> None:
    made = synth_data(store, rows=250, seed=3)
    assert store.get("data", "synthetic").id == made.id
    assert synth_data(store, rows=250, seed=3, name="other").id == made.id
    drawn = draw_faces(250, 3)
    assert load_faces(made).fingerprint == drawn.faces().fingerprint
    assert json.loads(made.file("planted.json").read_text()) == drawn.planted
    assert made.metrics["rows"] == 250
    assert made.metrics["layout"] == "synthetic"
    assert list(made.metrics["usage"]) == list(OFFICIAL)
    assert len(made.metrics["usage"]["Training"]) == len(CLASSES)
