"""Augmented rows: each transformation against a naive walk over pixels, what is drawn, and what is kept of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_fer.data.importing import store_faces
from ensemble_fer.errors import BadData, SplitMisuse
from ensemble_fer.resample import check_lineage, load_resampling, make_resampling, resample
from ensemble_fer.resample.augmenting import draw_transforms
from ensemble_fer.resample.sheet import lineage_sheet
from ensemble_fer.types import CLASSES, FaceSet, Kind, Part, Resampling, Role, Split
from ensemble_fer.types.warping import AT_ONCE, TRANSFORM, warped


def naive(face: np.ndarray, angle: float, dx: float, dy: float, zoom: float, flip: float) -> np.ndarray:
    """Pixel by pixel, in double precision."""
    height, width = face.shape[:2]
    out = np.empty(face.shape)
    for y in range(height):
        for x in range(width):
            u, v = x - (width - 1) / 2, y - (height - 1) / 2
            if flip:
                u = -u
            u, v = u / (1 + zoom) - dx * width, v / (1 + zoom) - dy * height
            turn = math.radians(angle)
            u, v = u * math.cos(turn) + v * math.sin(turn), v * math.cos(turn) - u * math.sin(turn)
            u = min(max(u + (width - 1) / 2, 0), width - 1)
            v = min(max(v + (height - 1) / 2, 0), height - 1)
            left, top = min(int(u), width - 2), min(int(v), height - 2)
            a, b = u - left, v - top
            corners = face[top : top + 2, left : left + 2].astype(float)
            out[y, x] = (1 - b) * ((1 - a) * corners[0, 0] + a * corners[0, 1]) + b * (
                (1 - a) * corners[1, 0] + a * corners[1, 1]
            )
    return out


@pytest.mark.parametrize("shape", [(12, 12), (9, 14), (8, 8, 3)])
def test_every_transformation_is_that_of_a_naive_walk(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    faces = rng.integers(0, 256, (25, *shape), np.uint8)
    transform = draw_transforms(25, rng)
    transform[:5] = np.diag([37.0, 0.4, -0.3, -0.6, 1])
    transform[5] = [180, 0.9, -0.9, 2, 1]
    for face, row, made in zip(faces, transform, warped(faces, transform), strict=True):
        expected = naive(face, *row.astype(float))
        assert np.abs(made - expected).max() < 0.52  # rounded from single precision
        assert made.min() >= face.min()
        assert made.max() <= face.max()


def test_each_number_does_what_it_says() -> None:
    face = np.zeros((1, 9, 9), np.uint8)
    face[0, 4, 6] = 200  # right of the middle

    def where(**numbers: float) -> list[int]:
        row = np.array([[numbers.get(name, 0) for name in TRANSFORM]], np.float32)
        made = warped(face, row)[0]
        return [int(place) for place in np.unravel_index(made.argmax(), made.shape)]

    assert where() == [4, 6]
    assert where(angle=90) == [6, 4]  # clockwise: what was right is below
    assert where(dx=1 / 9) == [4, 7]
    assert where(dy=-2 / 9) == [2, 6]
    assert where(zoom=1) == [4, 8]
    assert where(zoom=-0.5) == [4, 5]
    assert where(flip=1) == [4, 2]
    assert where(angle=90, dx=1 / 9, flip=1) == [6, 3]  # turned, then moved, then mirrored
    assert where(dx=1 / 9, zoom=1 / 3) == [4, 8]  # moved before it is enlarged


def test_five_zeros_change_nothing_and_pieces_do_not_show() -> None:
    rng = np.random.default_rng(1)
    faces = rng.integers(0, 256, (AT_ONCE + 3, 5, 6), np.uint8)
    assert np.array_equal(warped(faces, np.zeros((len(faces), 5), np.float32)), faces)
    transform = draw_transforms(len(faces), rng)
    alone = [warped(faces[i : i + 1], transform[i : i + 1])[0] for i in (0, AT_ONCE - 1, AT_ONCE, AT_ONCE + 2)]
    assert np.array_equal(warped(faces, transform)[[0, AT_ONCE - 1, AT_ONCE, AT_ONCE + 2]], alone)
    assert warped(faces[:0], transform[:0]).shape == (0, 5, 6)


def test_mirroring_twice_and_turning_back_give_the_face() -> None:
    faces = np.random.default_rng(2).integers(0, 256, (3, 16, 16), np.uint8)
    flip = np.tile(np.array([[0, 0, 0, 0, 1]], np.float32), (3, 1))
    assert np.array_equal(warped(faces, flip), faces[:, :, ::-1])
    quarter = np.tile(np.array([[90, 0, 0, 0, 0]], np.float32), (3, 1))
    assert np.array_equal(warped(faces, quarter), np.rot90(faces, -1, axes=(1, 2)))


# -- the method ------------------------------------------------------------------------------------


def few(counts: list[int], side: int = 6) -> FaceSet:
    labels = np.repeat(np.arange(len(counts)), counts)
    images = np.random.default_rng(0).integers(0, 256, (len(labels), side, side))
    return FaceSet(images, labels, np.zeros(len(labels)), "few")


def train(faces: FaceSet) -> Part:
    return Part(np.arange(len(faces)), Role.TRAIN)


@given(st.lists(st.integers(0, 30), min_size=7, max_size=7), st.integers(1, 40), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_every_class_with_rows_has_at_least_the_target_and_keeps_what_it_had(counts, target, seed) -> None:
    faces = few(counts)
    if sum(n > 0 for n in counts) < 2:
        return
    made = resample(faces, train(faces), "augment", target=target, seed=seed)
    assert made.counts() == [max(n, target) if n else 0 for n in counts]
    assert np.array_equal(made.parent_a[made.kind == Kind.ORIGINAL], np.arange(len(faces)))
    copies = np.bincount(made.parent_a[made.kind == Kind.AUGMENTED], minlength=len(faces))
    for code in range(7):
        own = copies[faces.labels == code]
        assert not len(own) or own.max() - own.min() <= 1  # they take turns


def test_what_is_drawn_fills_the_ranges_of_system_d() -> None:
    drawn = draw_transforms(20_000, np.random.default_rng(0))
    assert drawn.dtype == np.float32
    for column, most in zip(drawn.T, (15, 0.1, 0.1, 0.1), strict=False):
        assert np.abs(column).max() <= most
        assert abs(column.mean()) < most / 50
        assert abs(column.std() - most / math.sqrt(3)) < most / 50
    assert set(drawn[:, 4].tolist()) == {0, 1}
    assert abs(drawn[:, 4].mean() - 0.5) < 0.02


def test_naming_a_class_leaves_the_others_and_its_own_copies_as_they_are() -> None:
    faces = few([20, 3, 9])
    whole, one = (
        resample(faces, train(faces), "augment", target=12, classes=classes) for classes in (None, ["disgust"])
    )
    assert one.counts()[:3] == [20, 12, 9]
    of_class = whole.labels == CLASSES.index("disgust")
    assert whole.transform is not None
    assert np.array_equal(
        whole.pixels(faces.images, np.flatnonzero(of_class)), one.pixels(faces.images, np.flatnonzero(one.labels == 1))
    )


def test_pixels_of_chosen_rows_are_those_of_all() -> None:
    faces = few([20, 3, 9])
    made = resample(faces, train(faces), "augment", target=12)
    everything = made.pixels(faces.images)
    chosen = np.array([len(made) - 1, 0, 40, 33])
    assert np.array_equal(made.pixels(faces.images, chosen), everything[chosen])
    assert np.array_equal(made.pixels(faces.images, slice(30, 44)), everything[30:44])
    assert made.transform is not None
    row = len(made) - 1
    expected = naive(faces.images[made.parent_a[row]], *made.transform[row].astype(float))
    assert np.abs(everything[row] - expected).max() < 0.52
    assert np.array_equal(made.take(chosen).pixels(faces.images), everything[chosen])
    more = made.with_originals(np.array([2, 5]), faces.labels[[2, 5]])
    assert np.array_equal(more.pixels(faces.images), np.concatenate([everything, faces.images[[2, 5]]]))


def test_a_transformed_test_face_is_found() -> None:
    faces = few([20, 9])
    made = resample(faces, train(faces), "augment", target=30)
    split = Split("any", np.arange(25), np.arange(25, 27), np.arange(27, 29))
    with pytest.raises(SplitMisuse, match=r"this augment resampling .* which is in the (select|test) part"):
        check_lineage(made, split)


# -- what is kept ----------------------------------------------------------------------------------


def test_transformations_are_kept_and_shown(store, monkeypatch) -> None:
    drawn = few([30, 8, 12], side=48)
    faces = FaceSet(drawn.images, drawn.labels, np.repeat([0, 1, 2], [44, 3, 3]), "few")
    data = store_faces(store, faces, {})
    artifact = make_resampling(store, data, method="augment", target=20)
    loaded = load_resampling(artifact)
    made = resample(faces, Part(faces.rows_of("Training"), Role.TRAIN), "augment", target=20)
    assert made.transform is not None
    assert loaded.transform is not None
    assert np.array_equal(loaded.transform, made.transform)
    assert np.array_equal(loaded.pixels(faces.images), made.pixels(faces.images))
    assert loaded.title == "augment 20"
    assert store.get("resampling", "few-augment-20-s0").id == artifact.id
    assert artifact.metrics["augmented"] == (made.kind == Kind.AUGMENTED).sum() > 0
    assert artifact.file("sheet.png").is_file()
    seen: list = []
    monkeypatch.setattr(
        "ensemble_fer.resample.sheet.contact_sheet",
        lambda images, captions, **more: seen.append((images, captions, more)),
    )
    lineage_sheet(faces, loaded)
    images, captions, more = seen[0]
    row = int(captions[0][1].split("\n")[0].removeprefix("row "))
    assert np.array_equal(images[0][0], faces.images[loaded.parent_a[row]])
    assert np.array_equal(images[0][1], loaded.pixels(faces.images, np.array([row]))[0])
    assert more["row_labels"] == ["disgust", "fear"]
    plan = make_resampling(store, data, method="augment", target=20, dry_run=True)
    assert plan.counts_after == loaded.counts()  # pyright: ignore[reportAttributeAccessIssue]


def test_what_was_stored_without_transformations_loads(store) -> None:
    faces = FaceSet(few([30, 8], 48).images, few([30, 8]).labels, np.repeat([0, 1, 2], [34, 2, 2]), "few")
    artifact = make_resampling(store, store_faces(store, faces, {}), method="ros")
    assert sorted(artifact.arrays("rows.npz")) == ["kind", "labels", "parent_a", "parent_b", "weight"]
    assert load_resampling(artifact).transform is None


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (None, "without transformations"),
        (np.zeros((2, 5)), r"shape \(2, 5\); expected \(3, 5\)"),
        (np.zeros((3, 4)), "shape"),
        (np.full((3, 5), np.nan), "not finite"),
        (np.full((3, 5), -1.0), "zoom is -1"),
    ],
)
def test_augmented_rows_need_transformations(transform, message: str) -> None:
    rows = np.zeros(3)
    with pytest.raises(BadData, match=message):
        Resampling("augment", np.full(3, Kind.AUGMENTED), rows, rows, rows, rows, transform=transform)


@pytest.mark.real
def test_the_whole_training_part_is_a_few_hundred_kilobytes(store, real_faces: FaceSet) -> None:
    data = store_faces(store, real_faces, {})
    artifact = make_resampling(store, data, method="augment", target=4500)
    assert artifact.metrics["counts_after"] == [4500, 4500, 4500, 7215, 4830, 4500, 4965]
    assert artifact.metrics["augmented"] == 6301
    assert artifact.manifest["files"]["rows.npz"]["size"] < 400_000
