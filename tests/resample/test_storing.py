"""Resamplings that are kept: ids, names, files, dry runs, the sheet."""

from __future__ import annotations

import numpy as np
import pytest

from ensemble_fer.data.importing import store_faces
from ensemble_fer.data.splits import split_of
from ensemble_fer.errors import StoreError, UsageError
from ensemble_fer.resample import (
    Plan,
    ResamplingWarning,
    check_lineage,
    load_resampling,
    make_resampling,
    resample,
)
from ensemble_fer.resample.sheet import lineage_sheet
from ensemble_fer.types import FaceSet, Kind, Part, Role
from tests.resample.test_resampling import surrounded

pytestmark = pytest.mark.filterwarnings("ignore::ensemble_fer.resample.ResamplingWarning")


@pytest.fixture
def faces() -> FaceSet:
    draw = np.random.default_rng(0)
    labels = draw.permutation(np.repeat(np.arange(7), [30, 12, 40, 50, 20, 20, 28]))
    images = np.clip(128 + 9 * labels[:, None, None] + draw.normal(0, 40, (200, 48, 48)), 0, 255)
    return FaceSet(images.astype(np.uint8), labels, np.repeat([0, 1, 2], [140, 30, 30]), "few")


@pytest.fixture
def data(store, faces):
    return store_faces(store, faces, {})


def test_what_is_loaded_is_what_was_made(store, data, faces):
    artifact = make_resampling(store, data, method="smote", seed=3)
    loaded = load_resampling(artifact)
    made = resample(faces, Part(faces.rows_of("Training"), Role.TRAIN), "smote", seed=3)
    for field in ("kind", "parent_a", "parent_b", "weight", "labels"):
        assert np.array_equal(getattr(loaded, field), getattr(made, field))
    assert (loaded.method, loaded.params) == (made.method, made.params)
    assert artifact.metrics["rows"] == len(made)
    split_artifact, split = split_of(store, data)
    assert artifact.inputs == [data.id, split_artifact.id]
    check_lineage(loaded, split)


def test_the_same_request_is_answered_from_disk_and_another_is_not(store, data, monkeypatch):
    first = make_resampling(store, data, method="ros", classes=["disgust", "angry"])
    with monkeypatch.context() as patched:
        patched.setattr("ensemble_fer.resample.storing.run", lambda *a, **k: pytest.fail("made again"))
        assert make_resampling(store, data, method="ros", classes=["angry", "disgust", "angry"]).id == first.id
    ids = {
        make_resampling(store, data, **asked).id
        for asked in (
            {"method": "ros"},
            {"method": "ros", "seed": 1},
            {"method": "ros", "classes": ["disgust"]},
            {"method": "ros", "split": "official-swapped"},
            {"method": "hybrid", "target": 9},
            {"method": "hybrid", "target": 10},
        )
    }
    assert len(ids | {first.id}) == 7


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({"method": "smote_tomek"}, "few-smote_tomek-s0"),
        ({"method": "ros", "classes": ["fear", "disgust"], "seed": 4}, "few-ros-disgust+fear-s4"),
        ({"method": "hybrid", "target": 12}, "few-hybrid-12-s0"),
        ({"method": "none", "split": "stratified:0.8,0.1,0.1"}, "few-none-s0-stratified-0.8-0.1-0.1"),
        ({"method": "none", "name": "plain"}, "plain"),
    ],
)
def test_names(store, data, asked, name):
    artifact = make_resampling(store, data, **asked)
    assert store.get("resampling", name).id == artifact.id


def test_a_dry_run_writes_nothing(store, data):
    ahead = make_resampling(store, data, method="smote_enn", dry_run=True)
    assert isinstance(ahead, Plan)
    assert not ahead.exact
    assert ahead.counts_before == make_resampling(store, data, method="none", dry_run=True).counts_after
    assert store.ids("resampling") == []


def test_a_dry_run_keeps_the_split_and_twins_it_needs_and_says_so(store, data):
    make_resampling(store, data, method="ros", split="official-clean", dry_run=True)
    assert [len(store.ids(kind)) for kind in ("split", "twins", "resampling")] == [1, 1, 0]
    assert "The split is made and kept, and so are the twins" in (make_resampling.__doc__ or "")


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_target_that_nobody_means_is_refused(store, data, faces, dry_run):
    rows = faces.counts(faces.rows_of("Training"))
    most = 100 * sum(rows)
    with pytest.raises(UsageError, match=rf"target {10**11:,} makes {7 * 10**11:,} rows of 140 training rows"):
        make_resampling(store, data, method="hybrid", target=10**11, dry_run=dry_run)
    assert store.ids("resampling") == []
    assert isinstance(make_resampling(store, data, method="hybrid", target=most // 7, dry_run=True), Plan)
    with pytest.raises(UsageError, match="at most"):
        make_resampling(store, data, method="hybrid", target=most // 7 + 1, dry_run=dry_run)
    # Only the named class grows, so that the same target is far from too much.
    asked = {"method": "hybrid", "target": most // 7 + 1, "classes": ["disgust"], "dry_run": True}
    assert isinstance(make_resampling(store, data, **asked), Plan)


def test_a_bad_request_makes_nothing_not_even_a_split(store, data):
    with pytest.raises(UsageError, match="unknown resampling method"):
        make_resampling(store, data, method="smoote")
    assert store.ids("split") == store.ids("resampling") == []


def test_a_changed_file_is_noticed(store, data):
    artifact = make_resampling(store, data, method="none")
    path = artifact.path / "rows.npz"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(StoreError, match="not what was written"):
        load_resampling(artifact)


def test_warnings_are_stored_and_given_again_from_disk(store):
    known = surrounded()
    elsewhere = np.random.default_rng(1).integers(0, 256, (4, 6, 6))
    faces = FaceSet(
        np.concatenate([known.images, elsewhere]),
        np.append(known.labels, [0, 1, 2, 3]),
        np.append(known.usage, [1, 1, 2, 2]),
        "surrounded",
    )
    data = store_faces(store, faces, {})
    for _ in range(2):
        with pytest.warns(ResamplingWarning, match=r"SMOTE-ENN keeps \d+ of 60 happy faces"):
            artifact = make_resampling(store, data, method="smote_enn")
    assert any("happy" in text for text in artifact.metrics["warnings"])


def test_the_sheet_shows_each_synthetic_face_between_its_parents(store, data, faces):
    artifact = make_resampling(store, data, method="smote")
    from PIL import Image

    sheet = np.asarray(Image.open(artifact.file("sheet.png")))
    made = load_resampling(artifact)
    code = int(made.labels[made.kind == Kind.SYNTHETIC].min())
    row = np.flatnonzero((made.kind == Kind.SYNTHETIC) & (made.labels == code))[0]
    triple = [faces.images[made.parent_a[row]], made.pixels(faces.images, [row])[0], faces.images[made.parent_b[row]]]
    places = []
    for picture in triple:
        large = np.kron(picture, np.ones((2, 2), np.uint8))
        windows = np.lib.stride_tricks.sliding_window_view(sheet, (1, 96))[:, :, 0]
        tops = [
            (y, x)
            for y, x in np.argwhere((windows == large[0]).all(axis=2))
            if np.array_equal(sheet[y : y + 96, x : x + 96], large)
        ]
        places.append(tops[0])
    assert len({y for y, _ in places}) == 1
    assert places[0][1] < places[1][1] < places[2][1]


def test_without_synthetic_rows_there_is_no_sheet(store, data, faces):
    artifact = make_resampling(store, data, method="ros")
    assert lineage_sheet(faces, load_resampling(artifact)) is None
    assert list(artifact.manifest["files"]) == ["rows.npz"]
