"""The search against integers and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ensemble_fer.errors import BadData, UsageError
from ensemble_fer.neighbors import Mixtures, centred, count_ties, exact_products, nearest, search
from ensemble_fer.neighbors.estimator import PixelNeighbors


def plain_lists(squared: np.ndarray, k: int) -> np.ndarray:
    """The k nearest of each row of a matrix of distances, by plain sorting on (distance, row)."""
    rows = np.broadcast_to(np.arange(squared.shape[1]), squared.shape)
    return np.lexsort((rows, squared), axis=1)[:, :k]


def integer_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return ((x[:, None].astype(np.int64) - y[None].astype(np.int64)) ** 2).sum(axis=2)


def random_mixtures(seed: int, faces: int, mixed: int, pixels: int, levels: int = 256) -> tuple[Mixtures, np.ndarray]:
    """Faces, some of them twice, and mixtures of two of one group; with their float64 pixels."""
    draw = np.random.default_rng(seed)
    base = draw.integers(0, levels, (faces, pixels)).astype(np.uint8)
    base[draw.integers(0, faces, faces // 5)] = base[draw.integers(0, faces, faces // 5)]
    group = draw.integers(0, 3, faces)
    a = draw.integers(0, faces, mixed)
    b = np.array([draw.choice(np.flatnonzero(group == group[i])) for i in a], dtype=int)
    a, b = np.append(np.arange(faces), a), np.append(np.arange(faces), b)
    w = np.append(np.zeros(faces), draw.random(mixed))
    points = Mixtures(base, a, b, w, group=group[a])
    return points, base[a] + w[:, None] * (base[b].astype(float) - base[a])


@pytest.mark.parametrize("pixels", [1, 1023, 1024, 1025, 2304, 6912])
def test_products_are_those_of_integers_even_of_extreme_pixels(pixels):
    draw = np.random.default_rng(pixels)
    x = draw.choice(np.array([0, 1, 127, 254, 255], np.uint8), (23, pixels))
    x[0], x[1] = 0, 255  # the largest products there are
    y = draw.integers(0, 256, (37, pixels)).astype(np.uint8)
    as_integers = [rows.astype(np.int64) - 128 for rows in (x, y)]
    assert np.array_equal(exact_products(centred(x), centred(y)), as_integers[0] @ as_integers[1].T)
    both = centred(x)
    assert np.array_equal(exact_products(both, both), as_integers[0] @ as_integers[0].T)


def test_products_over_several_blocks_of_rows_mirror_rightly():
    x = np.random.default_rng(3).integers(0, 256, (1100, 40)).astype(np.uint8)
    floats, wide = centred(x), x.astype(np.int64) - 128
    assert np.array_equal(exact_products(floats, floats), wide @ wide.T)


def test_more_pixels_than_int32_can_sum_are_refused():
    with pytest.raises(UsageError, match="exact products hold for at most 131071"):
        centred(np.zeros((1, 131072), np.uint8))


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


@pytest.mark.parametrize("panel", [5, 40, 8192])
@pytest.mark.parametrize("seed", range(4))
def test_mixtures_have_the_neighbours_of_their_float64_pixels(seed, panel, monkeypatch):
    monkeypatch.setattr(search, "PANEL_ROWS", panel)
    points, pixels = random_mixtures(seed, faces=70, mixed=60, pixels=50)
    squared = ((pixels[:, None] - pixels[None]) ** 2).sum(axis=2)
    found = nearest(points, 6)
    assert np.allclose(found.squared, np.sort(squared, axis=1)[:, :6], rtol=1e-11, atol=1e-6)
    clear = ~search._same(found.squared[:, :-1], found.squared[:, 1:]).any(axis=1)
    assert clear.sum() > 40, "the case must not be all ties"
    assert np.array_equal(found.rows[clear, :5], np.argsort(squared, axis=1)[clear, :5])


@pytest.mark.parametrize("panel", [16, 8192])
def test_mixtures_of_copies_tie_with_the_copies_and_go_by_row(panel, monkeypatch):
    monkeypatch.setattr(search, "PANEL_ROWS", panel)
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


class TestEstimator:
    """``PixelNeighbors`` beside scikit-learn's ``NearestNeighbors`` on rows without ties."""

    @pytest.fixture
    def rows(self):
        return np.random.default_rng(0).integers(0, 256, (80, 60)).astype(np.uint8)

    def test_is_clonable_and_answers_like_scikit_learn(self, rows):
        from sklearn.base import clone
        from sklearn.neighbors import NearestNeighbors

        ours = clone(PixelNeighbors(n_neighbors=4)).fit(rows)
        theirs = NearestNeighbors(n_neighbors=4, algorithm="brute").fit(rows.astype(float))
        for asked in (None, rows, rows[::3]):
            distance, found = ours.kneighbors(asked)
            expected = theirs.kneighbors(None if asked is None else asked.astype(float))
            assert np.array_equal(found, expected[1])
            assert np.allclose(distance, expected[0], atol=1e-4)
            for mode in ("connectivity", "distance"):
                graph = ours.kneighbors_graph(asked, 3, mode=mode)
                reference = theirs.kneighbors_graph(None if asked is None else asked.astype(float), 3, mode=mode)
                assert np.allclose(graph.toarray(), reference.toarray(), atol=1e-4)

    def test_without_queries_no_row_is_its_own_neighbour_even_among_copies(self):
        rows = np.zeros((6, 4), np.uint8)
        found = PixelNeighbors(2).fit(rows).kneighbors(return_distance=False)
        assert found.tolist() == [[1, 2], [0, 2], [0, 1], [0, 1], [0, 1], [0, 1]]

    def test_goes_into_samplers(self, rows):
        from imblearn.over_sampling import SMOTE

        labels = np.repeat([0, 1], [60, 20])
        ours = SMOTE(random_state=3, k_neighbors=PixelNeighbors(6)).fit_resample(rows.astype(float), labels)[0]
        theirs = SMOTE(random_state=3).fit_resample(rows.astype(float), labels)[0]
        assert np.array_equal(ours, theirs)

    def test_refuses_what_is_not_bytes(self, rows):
        with pytest.raises(BadData, match="not whole numbers from 0 to 255"):
            PixelNeighbors().fit(rows + 0.5)
        with pytest.raises(BadData, match="not whole numbers"):
            PixelNeighbors().fit(rows.astype(int) + 1)
        with pytest.raises(BadData, match="expected rows"):
            PixelNeighbors().fit(rows[0])


@pytest.mark.real
def test_the_training_part_has_the_ties_that_are_known_of_it(real_faces):
    """1,222 rows copy another one; 6,356 have a tie among their first seven of the same class."""
    rows = real_faces.rows_of("Training")
    pixels, labels = real_faces.images[rows].reshape(len(rows), -1), real_faces.labels[rows]
    assert len(rows) - len(np.unique(pixels, axis=0)) == 1222
    ties = [count_ties(nearest(Mixtures.faces(pixels[labels == code]), 7).squared) for code in range(7)]
    assert sum(ties) == 6356
