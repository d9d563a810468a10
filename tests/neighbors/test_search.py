"""The search against integers and plain loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ensemble_fer.errors import UsageError
from ensemble_fer.neighbors import (
    Mixtures,
    Search,
    count_ties,
    nearest,
    pruned,
    search,
    shadows,
)
from ensemble_fer.neighbors.dense import Dense
from tests.neighbors.reference import integer_distances, photographs, plain_lists, random_mixtures

ROOT = Path(__file__).parents[2]


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 6)), elements=st.integers(0, 3)),
    st.data(),
)
def test_neighbours_of_faces_are_the_plain_ones_with_all_their_ties(pixels, data):
    k = data.draw(st.integers(1, len(pixels)))
    squared = integer_distances(pixels, pixels)
    found = nearest(Mixtures.faces(pixels), k)
    expected = plain_lists(squared, k)
    assert np.array_equal(found.rows, expected)
    assert np.array_equal(found.squared, np.take_along_axis(squared, expected, 1))


@pytest.mark.parametrize("case", ["all equal", "constant", "two values"])
def test_sets_that_are_nothing_but_ties(case):
    pixels = np.full((90, 9), 255, np.uint8)
    if case == "constant":
        pixels = np.repeat(np.arange(90, dtype=np.uint8)[:, None], 9, axis=1)
    if case == "two values":
        pixels[::2] = 0
    squared = integer_distances(pixels, pixels)
    assert np.array_equal(nearest(Mixtures.faces(pixels), 7).rows, plain_lists(squared, 7))


@pytest.fixture(params=["products", "shadows"])
def way(request, monkeypatch):
    """Both ways of the search: every distance, and what shadows leave, also of sets that are small."""
    monkeypatch.setattr(search, "SMALL", 10**9 if request.param == "products" else 0)
    for module in (search, pruned):
        monkeypatch.setattr(module, "SHARE", 2)
    monkeypatch.setattr(pruned, "GIVE_UP", 2)
    taken, candidates = [], pruned.Pruned.candidates
    monkeypatch.setattr(pruned.Pruned, "candidates", lambda self, ids: taken.append(1) or candidates(self, ids))
    yield request.param
    assert bool(taken) == (request.param == "shadows")


@pytest.mark.parametrize("seed", range(4))
def test_mixtures_have_the_neighbours_of_their_float64_pixels(seed, way):
    points, pixels = random_mixtures(seed, faces=70, mixed=60, pixels=50)
    squared = ((pixels[:, None] - pixels[None]) ** 2).sum(axis=2)
    found = nearest(points, 6)
    assert np.allclose(found.squared, np.sort(squared, axis=1)[:, :6], rtol=1e-11, atol=1e-6)
    clear = ~search.same(found.squared[:, :-1], found.squared[:, 1:], np.dtype(np.uint8)).any(axis=1)
    assert clear.sum() > 40, "the case must not be all ties"
    assert np.array_equal(found.rows[clear, :5], np.argsort(squared, axis=1)[clear, :5])


def test_mixtures_of_copies_tie_with_the_copies_and_go_by_row(way):
    draw = np.random.default_rng(1)
    pixels = draw.integers(0, 256, (40, 300)).astype(np.uint8)
    pixels[20:] = pixels[:20]
    a, w = np.arange(20), draw.random(20)
    points = Mixtures(pixels, np.append(np.arange(40), a), np.append(np.arange(40), a + 20), np.append(np.zeros(40), w))
    found = nearest(points, 3)
    # Faces i and i + 20 and their mixture 40 + i are one and the same picture.
    assert np.array_equal(found.rows, np.tile(np.arange(20)[:, None] + [0, 20, 40], (3, 1)))
    assert not found.squared.any()


def test_many_more_columns_than_a_chunk_and_several_tiles():
    points, pixels = random_mixtures(9, faces=700, mixed=900, pixels=30)
    products = pixels @ pixels.T
    norms = np.diag(products)
    squared = norms[:, None] + norms - 2 * products
    found = nearest(points, 4)
    assert np.allclose(found.squared, np.sort(squared, axis=1)[:, :4], atol=1e-6)


def test_queries_other_than_the_points():
    points, pixels = random_mixtures(2, faces=50, mixed=30, pixels=20)
    asked, asked_pixels = random_mixtures(5, faces=33, mixed=10, pixels=20)
    squared = ((asked_pixels[:, None] - pixels[None]) ** 2).sum(axis=2)
    found = nearest(points, 4, queries=asked)
    assert np.allclose(found.squared, np.sort(squared, axis=1)[:, :4], atol=1e-6)
    assert np.array_equal(found.rows[:, 0], squared.argmin(axis=1))


@pytest.mark.parametrize("k", [0, 11])
def test_a_number_of_neighbours_that_cannot_be(k):
    with pytest.raises(UsageError, match=rf"{k} neighbours were asked for among 10 points"):
        nearest(Mixtures.faces(np.zeros((10, 4), np.uint8)), k)


def test_ties_are_counted_by_row():
    assert count_ties(np.array([[0.0, 4.0, 4.0], [0.0, 4.0, 5.0], [0.0, 0.0, 9.0]])) == 2
    assert count_ties(np.array([[0.0, 1e7, 1e7 + 1e-3], [0.0, 1e7, 1e7 + 1.0]])) == 1


@pytest.mark.real
def test_real_faces_have_scikit_learns_neighbours_but_for_ties(real_faces):
    from sklearn.neighbors import NearestNeighbors

    pixels = real_faces.images[:2500].reshape(2500, -1)
    found = nearest(Mixtures.faces(pixels), 7)
    distance, rows = NearestNeighbors(n_neighbors=7).fit(pixels.astype(float)).kneighbors(pixels.astype(float))
    assert np.allclose(np.sqrt(found.squared), distance, rtol=1e-9, atol=1e-3)
    other = (found.rows != rows).any(axis=1)
    gaps = np.diff(nearest(Mixtures.faces(pixels), 8).squared, axis=1)
    assert (gaps[other] == 0).any(axis=1).all()
    assert other.sum() < 500


@pytest.mark.parametrize("k", [1, 2, 7])
@pytest.mark.parametrize("memory", [1_000_000_000, 51_000_000])
def test_shadows_and_products_find_the_same_of_many(k, memory, monkeypatch):
    pixels = photographs(k, 1500)
    draw = np.random.default_rng(0)
    a, b = draw.integers(0, 1500, (2, 900))
    every = np.arange(1500)
    points = Mixtures(pixels, np.append(every, a), np.append(every, b), np.append(np.zeros(1500), draw.random(900)))
    measured, candidates = [], pruned.Pruned.candidates

    def counted(self, ids):
        found = candidates(self, ids)
        measured.append(len(found[0]))
        return found

    monkeypatch.setattr(pruned.Pruned, "candidates", counted)
    found = nearest(points, k, memory=memory)
    assert 0 < sum(measured) < 0.1 * len(points) ** 2, "the shadows must have ruled out nearly all"
    monkeypatch.setattr(search, "SMALL", 10**9)
    every_distance = nearest(points, k)
    assert np.array_equal(found.rows, every_distance.rows)
    np.testing.assert_allclose(found.squared, every_distance.squared, rtol=1e-12, atol=1e-6)


def test_noise_is_given_up_on_and_still_right(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (1300, 700)).astype(np.uint8)
    asked, dense = [], Dense.candidates
    monkeypatch.setattr(search.Dense, "candidates", lambda self, ids: asked.append(len(ids)) or dense(self, ids))
    found = nearest(Mixtures.faces(pixels), 3)
    assert sum(asked) == 1300
    wide = pixels.astype(np.int64)
    norms = (wide**2).sum(axis=1)
    squared = norms[:, None] + norms - 2 * (wide @ wide.T)
    assert np.array_equal(found.rows, plain_lists(squared, 3))


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(9, 40), st.integers(1, 80)), elements=st.sampled_from([0, 1, 7, 255])),
    st.integers(1, 4),
)
def test_shadows_of_small_sets_with_copies_and_constants(pixels, k):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "SMALL", 0)
        patch.setattr(pruned, "SHARE", 1)
        patch.setattr(search, "SHARE", 1)
        patch.setattr(pruned, "GIVE_UP", 2)
        patch.setattr(shadows, "LEVELS", (3, 64))
        found = nearest(Mixtures.faces(pixels), min(k, (len(pixels) - 1) // 4))
    squared = integer_distances(pixels, pixels)
    expected = plain_lists(squared, found.rows.shape[1])
    assert np.array_equal(found.rows, expected)
    assert np.array_equal(found.squared, np.take_along_axis(squared, expected, 1))


@pytest.mark.parametrize("where", ["products", "shadows"])
def test_other_queries_in_another_table(where, monkeypatch):
    pixels, other = photographs(1, 1200), photographs(2, 300)
    monkeypatch.setattr(search, "SMALL", 10**9 if where == "products" else 0)
    found = nearest(Mixtures.faces(pixels), 5, queries=Mixtures.faces(other))
    squared = integer_distances(other, pixels)
    assert np.array_equal(found.rows, plain_lists(squared, 5))


def assert_nearest(table: np.ndarray, asked: np.ndarray, k: int) -> None:
    squared = np.array([((table.astype(float) - row) ** 2).sum(axis=1) for row in asked])
    found = nearest(Mixtures.faces(table), k, queries=Mixtures.faces(asked))
    np.testing.assert_allclose(found.squared, np.sort(squared, axis=1)[:, :k], rtol=1e-7)


def test_queries_that_are_no_bytes_among_bytes(monkeypatch):
    """Of little contrast, so that no slack hides it if a fraction is lost."""
    monkeypatch.setattr(search, "SMALL", 0)
    draw = np.random.default_rng(0)
    blocks = 5 + draw.normal(size=(1500, 1, 1)) + draw.normal(0, 0.5, (1500, 4, 4))
    table = np.clip(np.rint(blocks.repeat(10, 1).repeat(10, 2)), 0, 10).reshape(1500, 1600).astype(np.uint8)
    assert_nearest(table, table[:200] + draw.uniform(-1, 1, (200, 1600)), 3)
    assert_nearest(table, table[:9] - 70000.0, 3)


def test_queries_of_bytes_among_numbers_that_are_none():
    draw = np.random.default_rng(0)
    for step in draw.uniform(2e-4, 2e-3, 12):
        side = np.where(np.arange(1500) % 4, step, -step) * draw.uniform(1, 1.5, 1500)
        table = 200 + side[:, None] / 8 + draw.normal(0, step / 1000, (1500, 64))
        assert_nearest(table, np.full((2, 64), 200, np.uint8), 1)


@pytest.mark.real
def test_the_training_part_has_the_ties_that_are_known_of_it(real_faces):
    """1,222 rows copy another one; 6,356 have a tie among their first seven of the same class."""
    rows = real_faces.rows_of("Training")
    pixels, labels = real_faces.images[rows].reshape(len(rows), -1), real_faces.labels[rows]
    assert len(rows) - len(np.unique(pixels, axis=0)) == 1222
    found = Search(pixels)
    of_class = [np.flatnonzero(labels == code) for code in range(7)]
    ties = [count_ties(found.nearest(Mixtures.faces(pixels, chosen), 7).squared) for chosen in of_class]
    assert sum(ties) == 6356


@pytest.mark.parametrize("asked", ["points", "queries"])
def test_mixtures_that_are_much_shorter_than_their_parents(asked, monkeypatch):
    """Half-way points of opposite faces lie all but at the middle: their rounding is that of their long parents."""
    draw = np.random.default_rng(0)
    faces = draw.integers(0, 256, (1100, 90)).astype(np.uint8)
    pixels = np.concatenate([faces, 255 - faces])
    a, b = np.arange(1100), np.arange(1100) + 1100
    middles = Mixtures(pixels, a, b, 0.5 + draw.normal(0, 1e-5, 1100))
    monkeypatch.setattr(pruned, "GIVE_UP", 2)
    if asked == "points":
        found = nearest(middles, 3)
        there, here = middles.values(np.arange(1100)), middles.values(np.arange(1100))
    else:
        found = nearest(Mixtures.faces(pixels), 3, queries=middles)
        there, here = pixels.astype(float), middles.values(np.arange(1100))
    for i in range(0, 1100, 7):
        squared = ((there - here[i]) ** 2).sum(axis=1)
        np.testing.assert_allclose(found.squared[i], np.sort(squared)[:3], rtol=1e-6, atol=2e-7)


def test_equal_means_equal_to_the_first_and_small_steps_do_not_add_up():
    values = np.sqrt(1 + 4e-10 * np.arange(3000))[::-1, None]
    found = nearest(Mixtures.faces(values), 2, queries=Mixtures.faces(np.zeros((1, 1))))
    # Equal to the nearest (the last row) within 1e-9 are the last three; the first of them comes first.
    assert found.rows.tolist() == [[2997, 2998]]


@pytest.mark.parametrize("rows", [200, 1400])  # every distance is made, and most points are ruled out
def test_of_every_query_its_own_number_of_neighbours(rows):
    pixels = np.concatenate([photographs(2, rows // 2)] * 2)
    every, queries = Mixtures.faces(pixels), Mixtures.faces(pixels, np.arange(0, rows, 3))
    wanted = np.random.default_rng(0).integers(1, 8, len(queries))
    found, whole = nearest(every, wanted, queries=queries), nearest(every, 9, queries=queries)
    assert found.rows.shape == (len(queries), 7)
    for row, number in enumerate(wanted):
        assert found.rows[row].tolist() == whole.rows[row, :number].tolist() + [-1] * (7 - number)
        assert found.squared[row].tolist() == whole.squared[row, :number].tolist() + [np.inf] * (7 - number)
    for wrong in (wanted[1:], np.where(wanted == 1, 0, wanted), np.where(wanted == 1, rows + 1, wanted)):
        with pytest.raises(UsageError, match=r"queries|Expected 1 to"):
            nearest(every, wrong, queries=queries)
