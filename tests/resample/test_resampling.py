"""Requests that are refused, warnings, pixels, lineage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_fer.errors import EnsembleFerError, SplitMisuse, UsageError
from ensemble_fer.resample import ResamplingWarning, check_lineage, resample, run
from ensemble_fer.types import CLASSES, FaceSet, Kind, Part, Resampling, Role, Split
from tests.resample.test_parity import small_faces


def train(faces: FaceSet) -> Part:
    return Part(np.arange(len(faces)), Role.TRAIN)


@pytest.mark.parametrize("role", [Role.SELECT, Role.TEST])
def test_only_training_rows_are_accepted(role):
    faces = small_faces(0)
    with pytest.raises(SplitMisuse, match=rf"resampling with ros needs rows with role 'train'.*role '{role}'"):
        resample(faces, Part(np.arange(9), role), "ros")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"method": "smot"}, "unknown resampling method 'smot'. Did you mean 'smote'"),
        ({"method": "smote", "classes": ["hapy"]}, "unknown class 'hapy'. Did you mean 'happy'"),
        ({"method": "smote", "classes": []}, "no class was named"),
        ({"method": "rus", "classes": ["happy"]}, "'rus' adds no rows. Methods that do: ros, hybrid, augment, smote"),
        ({"method": "hybrid"}, "needs a target"),
        ({"method": "augment"}, "needs a target"),
        ({"method": "hybrid", "target": 0}, "target is 0; expected at least 1"),
        ({"method": "ros", "target": 5}, "'ros' has no target .found 5.. Leave it out, or use 'hybrid'"),
        ({"method": "ros", "seed": -1}, "seed is -1; expected 0 to 4294967295"),
    ],
)
def test_what_makes_no_sense_says_what_would(asked, message):
    faces = small_faces(0)
    with pytest.raises(UsageError, match=message):
        resample(faces, train(faces), **asked)


def few(counts: list[int]) -> FaceSet:
    labels = np.repeat(np.arange(len(counts)), counts)
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 4, 4))
    return FaceSet(images, labels, np.zeros(len(labels)))


def test_a_class_without_five_neighbours_is_refused_as_imbalanced_learn_refuses_it():
    from imblearn.over_sampling import SMOTE

    faces = few([20, 5, 20])
    with pytest.raises(ValueError, match="n_neighbors"):
        SMOTE().fit_resample(faces.images.reshape(len(faces), -1).astype(float), faces.labels)
    with pytest.raises(EnsembleFerError, match=r"class disgust has 5 rows to train on; SMOTE needs at least 6 .*ros"):
        resample(faces, train(faces), "smote")
    assert resample(few([20, 6, 20]), train(few([20, 6, 20])), "smote").counts()[:3] == [20, 20, 20]
    assert resample(faces, train(faces), "smote", classes=["fear"]).counts()[:3] == [20, 5, 20]


def test_too_little_for_a_rule_is_refused():
    with pytest.raises(EnsembleFerError, match="edited nearest neighbours needs at least 4"):
        resample(few([2, 1]), train(few([2, 1])), "enn")
    with pytest.raises(EnsembleFerError, match="holds only class 'angry'; ROS needs two classes"):
        resample(few([9]), train(few([9])), "ros")
    with pytest.raises(EnsembleFerError, match="the training part is empty"):
        resample(few([9, 9]), Part(np.empty(0), Role.TRAIN), "ros")
    with pytest.raises(UsageError, match="class 'sad' has no training row"):
        resample(few([9, 9]), train(few([9, 9])), "ros", classes=["sad"])


@given(st.integers(1, 120), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
@pytest.mark.filterwarnings("ignore")
def test_hybrid_brings_every_class_to_exactly_the_target(target, seed):
    faces = few([30, 4, 12, 60])
    made = resample(faces, train(faces), "hybrid", target=target, seed=seed)
    assert made.counts() == [target] * 4 + [0] * 3
    for code, own in enumerate([30, 4, 12, 60]):
        of_class = made.labels == code
        originals = made.parent_a[of_class & (made.kind == Kind.ORIGINAL)]
        assert len(np.unique(originals)) == len(originals) == min(own, target)


@given(st.integers(0, 2**31), st.sampled_from(["random", "extreme"]))
@settings(max_examples=40, deadline=None)
def test_synthetic_pixels_lie_between_those_of_their_parents(seed, case):
    draw = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [30, 8])
    values = [0, 1, 254, 255] if case == "extreme" else np.arange(256)
    faces = FaceSet(draw.choice(values, (38, 5, 5)), labels, np.zeros(38))
    made = resample(faces, train(faces), "smote", seed=seed)
    pixels = made.pixels(faces.images)
    a, b = faces.images[made.parent_a], faces.images[made.parent_b]
    assert (pixels >= np.minimum(a, b)).all()
    assert (pixels <= np.maximum(a, b)).all()
    exact = a + made.weight[:, None, None] * (b.astype(float) - a)
    assert np.abs(pixels - exact).max() <= 0.5 + 1e-3
    assert np.array_equal(pixels[made.kind == Kind.ORIGINAL], faces.images)


def test_imbalanced_learns_uint8_path_wraps_around_where_ours_does_not():
    from imblearn.over_sampling import SMOTE

    draw = np.random.default_rng(0)
    images = draw.integers(100, 201, (40, 1, 30)).astype(np.uint8)
    faces = FaceSet(images, np.repeat([0, 1], [30, 10]), np.zeros(40))
    theirs = SMOTE(random_state=0).fit_resample(images.reshape(40, -1), faces.labels)[0][40:]
    ours = resample(faces, train(faces), "smote").pixels(images)[40:]
    assert theirs.dtype == np.uint8
    assert theirs.min() < 100, "the fault of the reference that we do not share"
    assert ours.min() >= 100
    assert ours.max() <= 200


def surrounded() -> FaceSet:
    """Happy faces scattered among sad ones that lie close together: ENN takes nearly all of them."""
    draw = np.random.default_rng(0)
    happy = draw.integers(90, 160, (40, 6, 6))
    sad = draw.integers(120, 130, (60, 6, 6))
    return FaceSet(np.concatenate([happy, sad]), np.repeat([3, 4], [40, 60]), np.zeros(100))


def test_a_class_that_loses_most_of_its_rows_is_said_loudly():
    faces = surrounded()
    outcome = run(faces, train(faces), "smote_enn")
    kept = outcome.account["counts_after"][3]
    assert kept < 30
    expected = f"SMOTE-ENN keeps {kept} of 60 happy faces"
    assert any(text.startswith(expected) for text in outcome.account["warnings"])
    with pytest.warns(ResamplingWarning, match=expected):
        resample(faces, train(faces), "smote_enn")


def test_the_account_adds_up():
    faces = surrounded()
    account = run(faces, train(faces), "smote_enn").account
    assert account["counts_before"] == [0, 0, 0, 40, 60, 0, 0]
    assert account["rows"] == sum(account["counts_after"]) == 120 - account["removed"]
    assert account["synthetic"] <= 20
    assert account["duplicates"] == 0
    assert run(faces, train(faces), "ros").account["duplicates"] == 20
    assert run(faces, train(faces), "rus").account["removed"] == 20
    half = run(faces, train(faces), "hybrid", target=50).account
    assert (half["removed"], half["duplicates"], half["warnings"]) == (10, 10, [])
    assert account["seconds"] >= 0
    assert account["peak_mb"] > 10


def test_losing_exactly_half_is_not_more_than_half():
    faces = few([20, 10])
    assert run(faces, train(faces), "rus").account["warnings"] == []
    assert run(few([21, 10]), train(few([21, 10])), "rus").account["warnings"] == [
        "RUS keeps 10 of 21 angry faces: the class loses more than half of its rows."
    ]


def test_lineage_finds_a_parent_outside_the_training_part():
    split = Split("official", np.arange(10), np.arange(10, 20), np.arange(20, 30))

    def made(a, b):
        n = len(a)
        return Resampling("smote", np.full(n, Kind.SYNTHETIC), a, b, np.full(n, 0.5), np.zeros(n))

    check_lineage(made([1, 2, 9], [3, 4, 0]), split)
    with pytest.raises(SplitMisuse, match=r"1 rows of this smote .* row 1 shows face 25, which is in the test part"):
        check_lineage(made([1, 2, 9], [3, 25, 0]), split)
    with pytest.raises(SplitMisuse, match=r"2 rows .* row 0 shows face 10, which is in the select part"):
        check_lineage(made([10, 2, 31], [3, 4, 0]), split)


def test_classes_limit_which_ones_grow():
    faces = small_faces(0)
    before = faces.counts()
    for method in ("ros", "smote"):
        after = resample(faces, train(faces), method, classes=["disgust"]).counts()
        assert after == [max(before) if c == 1 else n for c, n in enumerate(before)]
    assert CLASSES[1] == "disgust"
    faces = small_faces(0, spread=120)  # so that disgust has a border
    for method in ("borderline_smote", "adasyn"):
        after = resample(faces, train(faces), method, classes=["disgust"]).counts()
        assert abs(after[1] - max(before)) <= (method == "adasyn") * before[1] / 2
        assert after[:1] + after[2:] == before[:1] + before[2:]
