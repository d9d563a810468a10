"""Rows, parents, weights and order are those of imbalanced-learn on float64 pixels, index by index."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as settings_of
from hypothesis import strategies as st

from ensemble_fer.errors import EnsembleFerError
from ensemble_fer.neighbors import Mixtures, nearest
from ensemble_fer.resample import ResamplingWarning, resample
from ensemble_fer.types import N_CLASSES, FaceSet, Kind
from tests.resample.reference import Recorder, decided_by_reference, our_rows, part_of

SETTINGS = [
    ("ros", {}),
    ("ros", {"classes": ["disgust", "fear"]}),
    ("rus", {}),
    ("hybrid", {"target": 40}),
    ("hybrid", {"target": 7}),
    ("hybrid", {"target": 200}),
    ("smote", {}),
    ("smote", {"classes": ["disgust"]}),
    ("smote", {"classes": ["neutral", "angry", "happy"]}),
    ("borderline_smote", {}),
    ("borderline_smote", {"classes": ["disgust"]}),
    ("borderline_smote", {"classes": ["neutral", "angry", "happy"]}),
    ("adasyn", {}),
    ("adasyn", {"classes": ["disgust"]}),
    ("adasyn", {"classes": ["sad", "angry", "happy"]}),
    ("tomek", {}),
    ("enn", {}),
    ("smote_tomek", {}),
    ("smote_tomek", {"classes": ["surprise", "disgust"]}),
    ("smote_enn", {}),
    ("smote_enn", {"classes": ["disgust"]}),
]
IDS = [method + "".join(f"-{v}" for v in settings.values()) for method, settings in SETTINGS]

pytestmark = pytest.mark.filterwarnings(f"ignore::{ResamplingWarning.__module__}.{ResamplingWarning.__name__}")


def small_faces(seed: int, pixels: int = 12, spread: int = 40) -> FaceSet:
    """Classes of unequal size, overlapping so that every method has something to do; the order is mixed."""
    draw = np.random.default_rng(seed)
    labels = draw.permutation(np.repeat(np.arange(N_CLASSES), [30, 8, 33, 71, 45, 24, 71])).astype(np.uint8)
    centres = draw.integers(60, 190, (N_CLASSES, pixels, pixels))
    images = np.clip(centres[labels] + draw.normal(0, spread, (len(labels), pixels, pixels)), 0, 255).astype(np.uint8)
    return FaceSet(images, labels, np.zeros(len(labels)), "small")


def assert_parity(faces, rows, method, settings, seed, search, monkeypatch):
    ours = resample(faces, part_of(faces, rows), method, seed=seed, neighbors=search, **settings)
    pixels, labels = faces.images[rows], faces.labels[rows]
    answers = None if search is None else search.answers
    theirs, codes = decided_by_reference(
        method, pixels, labels, seed, answers=answers, monkeypatch=monkeypatch, **settings
    )
    assert np.array_equal(ours.labels, codes)
    assert np.array_equal(our_rows(ours, pixels, rows)[:, : theirs.shape[1]], theirs)
    return ours


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
@pytest.mark.parametrize(("method", "settings"), SETTINGS, ids=IDS)
def test_given_any_neighbour_lists_the_decisions_are_the_same(method, settings, seed, monkeypatch):
    """Lists drawn at random: what is compared is the rule, not the search."""
    faces = small_faces(seed % 100)
    rows = np.random.default_rng(1).permutation(len(faces))
    # Part of them, and no second class that is nearly as large as the largest: ADASYN would refuse it.
    rows = np.delete(rows, np.flatnonzero(faces.labels[rows] == 6)[:31])
    search = Recorder(np.random.default_rng(seed))
    assert_parity(faces, rows, method, settings, seed, search, monkeypatch)


@pytest.mark.parametrize(("method", "settings"), SETTINGS, ids=IDS)
def test_without_ties_imbalanced_learns_own_search_decides_the_same(method, settings):
    faces = small_faces(11, pixels=6, spread=90)
    squared = nearest(Mixtures.faces(faces.images), 12).squared
    assert np.diff(squared, axis=1).min() > 0
    ours = assert_parity(faces, np.arange(len(faces)), method, settings, 5, None, None)
    if method in ("tomek", "enn", "smote_tomek", "smote_enn"):
        made = len(resample(faces, part_of(faces, np.arange(len(faces))), "ros", **settings))
        assert len(ours) < (made if method.startswith("smote") else len(faces)), "the case must remove something"


@pytest.mark.real
@pytest.mark.parametrize(("method", "settings"), SETTINGS, ids=IDS)
def test_on_real_rows_of_all_classes_given_our_lists(method, settings, real_faces, monkeypatch):
    rows = np.flatnonzero(real_faces.usage == 0)[:1600]
    assert min(real_faces.counts(rows)) > 10
    assert_parity(real_faces, rows, method, settings, 0, Recorder(), monkeypatch)


def test_two_classes_of_one_size_draw_the_same_numbers_as_an_integer_seed_restarts():
    draw = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [20, 20, 50])
    faces = FaceSet(draw.integers(0, 256, (90, 4, 4)), labels, np.zeros(90))
    made = resample(faces, part_of(faces, np.arange(90)), "smote", seed=3)
    first, second = (np.flatnonzero((made.kind == Kind.SYNTHETIC) & (made.labels == c)) for c in (0, 1))
    assert np.array_equal(made.weight[first], made.weight[second])
    assert np.array_equal(made.parent_a[first] + 20, made.parent_a[second])


@st.composite
def odd_faces(draw: st.DrawFn) -> FaceSet:
    """Few rows with copies, of few grey levels, of one grey level, or all equal; classes of any size from one row."""
    sizes = draw(st.lists(st.integers(1, 14), min_size=2, max_size=4))
    labels = np.repeat(np.arange(len(sizes)), sizes)
    levels = draw(st.sampled_from([1, 2, 5, 256]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    images = random.integers(0, levels, (len(labels), 2, 2))
    if draw(st.booleans()):
        images[:] = images[:, :1, :1]
    order = random.permutation(len(labels))
    copied = random.random(len(labels)) < draw(st.sampled_from([0, 0.4]))
    images[copied] = images[random.integers(0, len(labels), copied.sum())]
    return FaceSet(images, labels[order], np.zeros(len(labels)), "odd")


@settings_of(max_examples=150, deadline=None)
@given(odd_faces(), st.sampled_from(["smote", "tomek", "enn", "smote_tomek", "smote_enn"]), st.integers(0, 3))
def test_what_is_refused_and_what_is_decided_of_odd_faces(faces, method, seed):
    """Given our lists; where imbalanced-learn refuses, so do we, and say what to do."""
    rows = np.arange(len(faces))
    search = Recorder()
    try:
        decided_by_reference(method, faces.images, faces.labels, seed, answers=None, monkeypatch=None)
    except ValueError:
        with pytest.raises(EnsembleFerError, match=r"Use|instead"):
            resample(faces, part_of(faces, rows), method, seed=seed)
        return
    ours = resample(faces, part_of(faces, rows), method, seed=seed, neighbors=search)
    with pytest.MonkeyPatch.context() as patch:
        theirs, codes = decided_by_reference(
            method, faces.images, faces.labels, seed, answers=search.answers, monkeypatch=patch
        )
    assert np.array_equal(ours.labels, codes)
    assert np.array_equal(our_rows(ours, faces.images, rows)[:, : theirs.shape[1]], theirs)
