"""Cropped, cut out and turned copies are found, other faces are not, and no copy of a test face gets into training."""

from __future__ import annotations

import io
import shutil
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import ensemble_fer.data.views as views_module
from ensemble_fer.data.importing import load_faces, store_faces
from ensemble_fer.data.injection import inject_data, provenance_of
from ensemble_fer.data.registration import band, sample
from ensemble_fer.data.splits import split_of
from ensemble_fer.data.synthetic import draw_faces
from ensemble_fer.data.twins import find_twins, twins_of
from ensemble_fer.data.views import Views, map_of, view_maps
from ensemble_fer.data.warped import NONE, Warped, find_warped, inside_both, joined, refine, warped_of
from ensemble_fer.store import Artifact, Store
from ensemble_fer.types import FaceSet, TwinMap

KINDS = ("crop", "box", "turned", "turned and cropped")


def copied(face: NDArray[np.uint8], kind: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The face in another cut, resampled and through JPEG, as it comes back from elsewhere."""
    picture, how = Image.fromarray(face), [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC][rng.integers(2)]
    if kind.startswith("turned"):
        picture = picture.rotate(rng.choice([-1, 1]) * rng.uniform(8, 15), how)  # with black corners
    if kind == "box":
        high = rng.uniform(34, 46)
        wide = high * rng.uniform(0.75, 1)
        left, top = rng.uniform(0, 48 - wide), rng.uniform(0, 48 - high)
        picture = picture.resize((48, 48), how, box=(left, top, left + wide, top + high))
    elif kind != "turned":
        edge = rng.uniform(4, 8)
        picture = picture.resize((48, 48), how, box=(edge, edge, 48 - edge, 48 - edge))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=int(rng.integers(75, 92)))
    return np.asarray(Image.open(file))


def alone(faces: FaceSet) -> NDArray[np.int64]:
    """Rows whose photograph is nowhere else and that show something."""
    groups = find_twins(faces.images, quiet=True).groups
    return np.flatnonzero((np.bincount(groups)[groups] == 1) & (faces.images.std(axis=(1, 2)) > 5))


@pytest.fixture(scope="module")
def base_faces() -> FaceSet:
    return draw_faces(300, 1).faces("base")


@pytest.mark.parametrize("kind", KINDS)
def test_copies_are_found_where_they_are_both_ways_round(base_faces: FaceSet, kind: str) -> None:
    rng = np.random.default_rng(0)
    rows = rng.choice(alone(base_faces), 40, replace=False)
    copies = np.stack([copied(base_faces.images[row], kind, rng) for row in rows])
    copies[::2] = copies[::2, :, ::-1]
    found = find_warped(base_faces.images, copies, quiet=True)
    own = found.pairs[:, 0] == rows[found.pairs[:, 1]]
    assert len(np.unique(found.pairs[own, 1])) >= 39
    assert (~own).sum() <= 1
    assert (found.mirrored[own] == (found.pairs[own, 1] % 2 == 0)).all()
    assert found.correlation[own].min() > 0.9


def test_faces_that_show_more_than_the_seen_ones_are_found(base_faces: FaceSet) -> None:
    rows = alone(base_faces)[:40]
    seen = base_faces.images.copy()
    for row in rows:
        picture = Image.fromarray(seen[row]).resize((48, 48), Image.Resampling.BICUBIC, box=(5, 5, 43, 43))
        seen[row] = np.asarray(picture)
    others = base_faces.images[rows]
    others[::2] = others[::2, :, ::-1]
    found = find_warped(seen, others, quiet=True)
    own = found.pairs[:, 0] == rows[found.pairs[:, 1]]
    assert len(np.unique(found.pairs[own, 1])) >= 39
    assert (found.mirrored[own] == (found.pairs[own, 1] % 2 == 0)).all()


def test_other_faces_are_not_found(base_faces: FaceSet) -> None:
    strange = draw_faces(400, 2).images
    assert len(find_warped(base_faces.images, strange, quiet=True).pairs) <= 2
    flat = np.full((3, 48, 48), 90, np.uint8)
    assert not len(find_warped(flat, strange[:20], quiet=True).pairs)
    assert not len(find_warped(base_faces.images, flat, quiet=True).pairs)
    assert not len(find_warped(base_faces.images, flat[:0], quiet=True).pairs)
    assert not len(find_warped(flat[:0], strange[:5], quiet=True).pairs)


def test_candidates_are_the_best_of_all_views_whatever_the_blocks(base_faces: FaceSet, monkeypatch) -> None:
    """Against every view of every face compared one by one."""
    seen, others = base_faces.images[:150], draw_faces(200, 3).images[:30]
    monkeypatch.setattr(views_module, "WIDE", 40)
    monkeypatch.setattr(views_module, "TALL", 7)
    search = Views(seen, others, gate=0.6, most=5)
    found, scores = views_module.best_of([search.block(start) for start in search.starts], 5)
    even = views_module._basis()[1]
    numbers = np.stack([views_module._numbers(views_module.shrunk(seen), op) for op in views_module._operators()])
    for row in range(len(others)):
        best = np.full(len(seen), -1.0)
        for place, allowed in ((row, np.ones(len(numbers), bool)), (row + len(others), search.meets_middles)):
            asked = search.asked[place]
            for sign in (1, -1):
                turned = np.append(asked[:even], sign * asked[even:])
                best = np.maximum(best, (numbers[allowed] @ turned).max(0))
        wanted = np.flatnonzero(best >= 0.6)
        wanted = wanted[np.argsort(-best[wanted])][:5]
        own = found[:, 0] == row
        np.testing.assert_allclose(np.sort(scores[own]), np.sort(best[wanted]), atol=1e-5)
        assert set(found[own, 1]) == set(wanted)
    assert found[:, 4].any()
    assert found[:, 3].any()


def test_a_crop_has_the_numbers_of_the_view_it_was_cut_from(base_faces: FaceSet) -> None:
    view = next(k for k, m in enumerate(view_maps()) if np.allclose(m, [[0.82, 0, 0], [0, 0.82, 0]]))
    edge = 48 * (1 - 0.82) / 2
    faces = base_faces.images[alone(base_faces)[:30]]
    box = (edge, edge, 48 - edge, 48 - edge)
    pictures = [Image.fromarray(face).resize((48, 48), Image.Resampling.BICUBIC, box=box) for face in faces]
    crops = np.stack([np.asarray(picture) for picture in pictures])
    search = Views(faces, crops, gate=0.9, most=1)
    numbers = views_module._numbers(views_module.shrunk(faces), views_module._operators()[view])
    assert np.einsum("ij,ij->i", numbers, search.asked[: len(faces)]).min() > 0.98
    assert np.array_equal(map_of(np.array([view, view]), np.array([False, True]))[:, 0, 0].round(6), [0.82, 1.171429])


def test_refine_finds_a_far_map() -> None:
    rng = np.random.default_rng(4)
    from scipy.ndimage import gaussian_filter

    picture = np.stack([gaussian_filter(rng.standard_normal((48, 48)), 2) for _ in range(6)]).astype(np.float32)
    picture *= 40 / picture.std()
    cos, sin = 0.75 * np.cos(0.2), 0.75 * np.sin(0.2)
    true = np.tile([[cos, sin, 2.0], [-sin, cos, -3.0]], (6, 1, 1))
    second = 0.7 * sample(picture, true)[0] + 20
    start = true + np.array([[0.04, -0.03, 1.2], [0.03, 0.04, -1.1]])
    prepared = partial(band, fine=0.8, coarse=4.0)
    score, maps = refine(picture, second, start, prepared=prepared, steps=8, edge=2)
    assert score.min() > 0.995
    assert np.abs(maps - true)[:, :, :2].max() < 0.01
    assert np.abs(maps - true)[:, :, 2].max() < 0.15
    # Maps that no crop makes are not accepted, however well they fit.
    flip = np.tile([[1.0, 0, 0], [0, -1, 0]], (6, 1, 1))
    score, maps = refine(picture, picture[:, :, ::-1].copy(), flip, prepared=prepared, steps=0, edge=2)
    assert (score == -1).all()


def test_what_both_pictures_show_point_by_point() -> None:
    rng = np.random.default_rng(5)
    maps = np.tile(np.eye(2, 3), (4, 1, 1)) + rng.uniform(-0.3, 0.3, (4, 2, 3)) * [1, 1, 10]
    inside = inside_both(maps, 8, 1)
    for k in range(4):
        for row in range(8):
            for column in range(8):
                y, x = maps[k] @ [row - 3.5, column - 3.5, 1]
                shows = max(abs(y), abs(x)) <= 2.51 and max(abs(row - 3.5), abs(column - 3.5)) <= 2.51
                assert inside[k, row, column] == shows


def test_pairs_join_a_twin_map_once(base_faces: FaceSet) -> None:
    images = base_faces.images[:8]
    pairs = np.array([[0, 3], [1, 2]], np.int32)
    twins = TwinMap(
        np.array([0, 1, 1, 0, 4, 5, 6, 7]), pairs, np.array([0.5, 0.6]), np.array([1.0, 2.0]), np.zeros(2, bool)
    )
    mirrored = np.array([True, True, False, True])
    more = Warped(np.array([[1, 2], [3, 5], [7, 1], [3, 5]]), np.array([0.9, 0.8, 0.7, 0.8], np.float32), mirrored)
    both = joined(twins, images, more)
    assert both.pairs.tolist() == [[0, 3], [1, 2], [1, 7], [3, 5]]
    np.testing.assert_allclose(both.correlation, [0.5, 0.6, 0.7, 0.8])
    assert both.mirrored.tolist() == [False, False, False, True]
    assert both.groups.tolist() == [0, 1, 1, 0, 4, 0, 6, 1]
    difference = images[3].astype(float) - images[5][:, ::-1]
    assert both.rms[3] == pytest.approx(np.sqrt(np.square(difference).mean()), rel=1e-4)
    assert joined(twins, images, NONE).pairs.tolist() == pairs.tolist()
    kept = more.among(np.array([1, 3, 5, 6]), 8)
    assert kept.pairs.tolist() == [[1, 2], [1, 2]]


@pytest.fixture(scope="module")
def shared(tmp_path_factory, base_faces: FaceSet) -> tuple[Store, Artifact, Artifact, dict[str, NDArray[np.int64]]]:
    """A base; and 40 strange faces, then copies of 36 test and of 12 training faces of the base."""
    rng = np.random.default_rng(6)
    rows = alone(base_faces)
    tests, training = (rng.permutation(rows[(base_faces.usage[rows] > 0) == tested]) for tested in (True, False))
    known = np.concatenate([tests[:36], training[:12]])
    copies = np.stack([copied(base_faces.images[row], KINDS[k % 4], rng) for k, row in enumerate(known)])
    copies[::3] = copies[::3, :, ::-1]
    drawn = draw_faces(200, 7)
    strange = drawn.images[alone(drawn.faces("strange"))[:40]]
    other = FaceSet(np.concatenate([strange, copies]), np.full(88, 2, np.uint8), np.zeros(88, np.uint8), "other")
    store = Store(tmp_path_factory.mktemp("warped"))
    base, source = (store_faces(store, faces, {}) for faces in (base_faces, other))
    return store, base, source, {"tests": tests[:36], "training": training[:12]}


def test_no_copy_of_a_test_face_is_added(shared, base_faces: FaceSet) -> None:
    store, base, other, _ = shared
    made = inject_data(store, base, other, classes=["fear"], name="made", quiet=True)
    came = provenance_of(made)
    assert came is not None
    added = came.row[len(base_faces) :]
    assert added.tolist() == [*range(40), *range(76, 88)]
    (step,) = made.metrics["injected"]
    out = step["left_out"]
    assert out["rows"] == out["twins_of_PublicTest"] + out["twins_of_PrivateTest"] == 36
    # What the search for twins sees for itself is the smaller part.
    assert 18 < out["warped"] <= 36
    assert step["twins_of_training"] == 12
    assert step["copies"] == 0


def test_without_the_wider_search_they_would_be(shared, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("ensemble_fer.data.admission.find_warped", lambda *a, **k: NONE)
    store = Store(tmp_path)
    base, other = (store_faces(store, load_faces(one), {}) for one in shared[1:3])
    made = inject_data(store, base, other, classes=["fear"], quiet=True)
    assert made.metrics["injected"][0]["left_out"]["rows"] < 18


def test_a_cropped_copy_trains_only_where_its_photograph_does(shared, base_faces: FaceSet) -> None:
    store, base, other, rows = shared
    made = inject_data(store, base, other, classes=["fear"], name="made", quiet=True)
    n = len(base_faces)
    assert warped_of(made).pairs.max() < len(load_faces(made))
    assert not len(warped_of(base).pairs)
    # A set that is added later does not make what was found before forgotten.
    third = store_faces(store, draw_faces(200, 8).faces("third"), {})
    later = inject_data(store, made, third, classes=["happy"], name="later", quiet=True)
    for data in (made, later):
        groups = twins_of(store, data)[1].groups
        assert np.array_equal(groups[n + 40 : n + 52], groups[rows["training"]])
        trained = 0
        for fold in range(3):
            split = split_of(store, data, f"kfold:3:{fold}", quiet=True)[1]
            for copy, row in zip(range(n + 40, n + 52), rows["training"], strict=True):
                assert (copy in split.train_rows) == (row in split.train_rows)
                trained += copy in split.train_rows
        assert trained == 12


def test_twins_that_are_looked_for_again_keep_what_the_wider_search_found(shared) -> None:
    store, base, other, _ = shared
    made = inject_data(store, base, other, classes=["fear"], name="again", quiet=True)
    artifact, before = twins_of(store, made)
    again = Store(store.root.parent / "again")
    shutil.copytree(made.path, again.root / "data" / made.id)
    after = twins_of(again, again.by_id("data", made.id), quiet=True)[1]
    assert artifact.id in again.ids("twins")
    for key in ("groups", "pairs", "mirrored"):
        np.testing.assert_array_equal(getattr(before, key), getattr(after, key))


@pytest.mark.real
def test_real_copies_are_found_among_real_test_faces(real_faces: FaceSet) -> None:
    rng = np.random.default_rng(8)
    seen = real_faces.images[real_faces.rows_of("PrivateTest")]
    rows = rng.choice(np.flatnonzero(seen.std(axis=(1, 2)) > 5), 100, replace=False)
    copies = np.stack([copied(seen[row], KINDS[k % 4], rng) for k, row in enumerate(rows)])
    copies[::2] = copies[::2, :, ::-1]
    found = find_warped(seen, copies, quiet=True)
    own = found.pairs[:, 0] == rows[found.pairs[:, 1]]
    assert len(np.unique(found.pairs[own, 1])) >= 98
    # Detail decides: without it many faces that look alike would pass.
    training = real_faces.images[rng.choice(real_faces.rows_of("Training"), 150, replace=False)]
    ordinary = find_twins(np.concatenate([seen, training]), quiet=True)
    new = np.arange(len(seen), len(seen) + 150)
    strange = training[~ordinary.have_twin_in(new, np.arange(len(seen)))]
    # One in forty or so is a crop of a test photograph that is too tight for the search for twins.
    assert len(np.unique(find_warped(seen, strange, quiet=True).pairs[:, 1])) <= 8
