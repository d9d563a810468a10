"""The search against integers and plain loops."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ensemble_fer.errors import MissingError, UsageError
from ensemble_fer.neighbors import (
    Mixtures,
    Search,
    count_ties,
    exact_products,
    nearest,
    on_device,
    products,
    pruned,
    search,
    shadows,
)
from ensemble_fer.neighbors.dense import Dense
from ensemble_fer.neighbors.estimator import PixelNeighbors
from ensemble_fer.neighbors.on_device import OnDevice
from ensemble_fer.neighbors.points import squared_distances
from ensemble_fer.neighbors.shadows import Axes, Shadows, slack


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
    points = Mixtures(base, a, b, w)
    return points, base[a] + w[:, None] * (base[b].astype(float) - base[a])


class TestProducts:
    """Exact on any processor; which engine is taken is decided by a self-test."""

    @pytest.fixture(params=["float32", "int8"])
    def engine(self, request):
        if request.param == "int8" and not products.is_exact("int8"):
            pytest.skip("this processor does not multiply bytes exactly (no VNNI); the self-test says so")
        return request.param

    @pytest.mark.parametrize("pixels", [1, 1023, 1024, 1025, 2304, 6912])
    def test_products_are_those_of_integers_even_of_extreme_pixels(self, pixels, engine):
        draw = np.random.default_rng(pixels)
        x = draw.choice(np.array([0, 1, 127, 254, 255], np.uint8), (23, pixels))
        x[0], x[1] = 0, 255  # the largest products there are
        y = draw.integers(0, 256, (37, pixels)).astype(np.uint8)
        as_integers = [rows.astype(np.int64) - 128 for rows in (x, y)]
        assert np.array_equal(exact_products(x, y, engine=engine), as_integers[0] @ as_integers[1].T)

    def test_products_over_several_blocks_of_rows(self, engine):
        x = np.random.default_rng(3).integers(0, 256, (1100, 40)).astype(np.uint8)
        wide = x.astype(np.int64) - 128
        assert np.array_equal(exact_products(x, x, engine=engine), wide @ wide.T)

    def test_what_cannot_be_asked(self):
        with pytest.raises(UsageError, match="exact products hold for at most 131071"):
            exact_products(np.zeros((1, 131072), np.uint8), np.zeros((1, 131072), np.uint8))
        with pytest.raises(UsageError, match="unknown engine of products 'int4'"):
            exact_products(np.zeros((1, 2), np.uint8), np.zeros((1, 2), np.uint8), engine="int4")

    def test_an_engine_that_saturates_is_found_out(self, monkeypatch):
        right = products.ENGINES["float32"]
        assert products.is_exact("float32")
        monkeypatch.setitem(products.ENGINES, "int8", right)
        assert products.is_exact("int8")
        monkeypatch.setitem(products.ENGINES, "int8", lambda x, y: right(x, y) - (right(x, y) > 3e7))
        assert not products.is_exact("int8")
        monkeypatch.setitem(products.ENGINES, "int8", lambda x, y: import_module("no_such_torch"))
        assert not products.is_exact("int8")

    @pytest.mark.parametrize("limit", ["AVX2", "AVX512_CORE", "ALL"])
    def test_whatever_instructions_there_are_the_engine_taken_is_exact(self, limit):
        """With fewer instructions, by the library's own switch, int8 may saturate or be slow."""
        said = subprocess.run(
            [
                *(sys.executable, "-c"),
                "from ensemble_fer.neighbors import products as p\np._claims_int8 = lambda: True\n"
                "print(p.best_engine(), p.is_exact(p.best_engine()), p.is_exact('int8'))",
            ],
            env={**os.environ, "ONEDNN_MAX_CPU_ISA": limit, "ATEN_CPU_CAPABILITY": "avx2"},
            capture_output=True,
            text=True,
            check=True,
            stdin=subprocess.DEVNULL,
        ).stdout.split()
        assert said[1] == "True"
        assert said[0] in products.ENGINES
        assert said[0] == "float32" or said[2] == "True"


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
    monkeypatch.setattr(pruned, "SHARE", 2)
    return request.param


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

    def test_other_numbers_are_searched_as_they_are(self, rows):
        from sklearn.neighbors import NearestNeighbors

        for values in (rows / 7, rows.astype(int) + 1, rows * 1e-200, rows * 1e9 - 3e11):
            distance, found = PixelNeighbors(4).fit(values).kneighbors()
            expected = NearestNeighbors(n_neighbors=4, algorithm="kd_tree").fit(values).kneighbors()
            if values.max() > 1e-190:  # the squares of smaller numbers are 0
                assert np.array_equal(found, expected[1])
            np.testing.assert_allclose(distance, expected[0], rtol=1e-7)

    def test_queries_of_another_order_of_magnitude(self):
        from sklearn.neighbors import NearestNeighbors

        draw = np.random.default_rng(0)
        fitted, asked = draw.normal(0, 1, (700, 5)), draw.normal(0, 1e25, (9, 5))
        distance, found = PixelNeighbors(3).fit(fitted).kneighbors(asked)
        assert np.isfinite(distance).all()
        near = fitted / 1e3
        found = PixelNeighbors(3).fit(near).kneighbors(near[:9] + 1e4)[1]
        assert np.array_equal(found, NearestNeighbors(n_neighbors=3).fit(near).kneighbors(near[:9] + 1e4)[1])

    def test_refuses_what_is_no_table_of_numbers(self, rows):
        with pytest.raises(ValueError, match="NaN"):
            PixelNeighbors().fit(np.where(rows > 250, np.nan, rows))
        with pytest.raises(ValueError, match="2D array"):
            PixelNeighbors().fit(rows[0])


def dense_checks():
    """Pairs (sampler, check) of imbalanced-learn's own battery for samplers, those of sparse matrices left out."""
    from imblearn.over_sampling import ADASYN, SMOTE, BorderlineSMOTE
    from imblearn.under_sampling import EditedNearestNeighbours
    from imblearn.utils.estimator_checks import parametrize_with_checks

    samplers = [
        SMOTE(random_state=0, k_neighbors=PixelNeighbors(6)),
        BorderlineSMOTE(random_state=0, k_neighbors=PixelNeighbors(6), m_neighbors=PixelNeighbors(11)),
        ADASYN(random_state=0, n_neighbors=PixelNeighbors(6)),
        EditedNearestNeighbours(n_neighbors=PixelNeighbors(4)),
    ]
    marks = parametrize_with_checks(samplers).args[1]
    for sampler, check in marks:
        name = getattr(check, "func", check).__name__
        if "sampler" in name and "sparse" not in name:
            yield pytest.param(sampler, check, id=f"{type(sampler).__name__}-{name}")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("sampler", "check"), list(dense_checks()))
def test_imbalanced_learns_own_checks_pass_with_our_search_inside(sampler, check):
    check(sampler)


class TestShadows:
    """No two points may be further apart in their shadows than they are, or a neighbour would be lost."""

    def cast(self, points: Mixtures, most: int) -> tuple[Shadows, float]:
        with ThreadPoolExecutor(1) as pool:
            axes = Axes.principal(points.pixels, most, pool)
            return Shadows.of(points, axes.coordinates(points.pixels, pool), axes.scale, pool), axes.scale

    @pytest.mark.parametrize("kind", ["noise", "near the mean", "one axis", "outliers", "floats"])
    def test_shadows_are_never_further_apart_than_the_points(self, kind):
        draw = np.random.default_rng(4)
        points, _ = random_mixtures(4, faces=120, mixed=120, pixels=400)
        pixels = points.pixels.astype(float)
        if kind == "near the mean":
            pixels = np.rint(128 + draw.normal(0, 0.6, pixels.shape))
        if kind == "one axis":
            pixels = np.rint(np.linspace(0, 255, 120)[:, None] * np.linspace(0, 1, 400))
        if kind == "outliers":
            pixels = np.where(np.arange(120)[:, None] < 3, pixels, 100 + pixels // 100)
        table = pixels * 1e-3 if kind == "floats" else pixels.astype(np.uint8)
        points = Mixtures(table, points.a, points.b, points.w)
        values = points.values(np.arange(len(points)))
        true = ((values[:, None] - values[None]) ** 2).sum(axis=2)
        cast, scale = self.cast(points, 300)
        assert cast.levels == (64, 128, 300)
        apart = np.zeros_like(true)
        for number, level in enumerate(cast.levels):
            own, rest = cast.coordinates[number].astype(float), cast.rests[number].astype(float)
            apart += ((own[:, None] - own[None]) ** 2).sum(axis=2)
            shadow = apart + (rest[:, None] - rest[None]) ** 2
            over = shadow / scale**2 - true
            assert over.max() <= slack(level, cast.squared.max()) / scale**2
        if kind != "noise":
            # And they say something: at the last level most of a distance is seen.
            far = true > 0
            assert np.median(shadow[far] / scale**2 / true[far]) > 0.5

    def test_axes_are_orthonormal_even_of_constant_faces(self):
        for pixels in (np.full((50, 90), 7, np.uint8), random_mixtures(1, 60, 1, 90)[0].pixels):
            axes = Axes.principal(pixels, 512, ThreadPoolExecutor(1))
            np.testing.assert_allclose(axes.directions.T @ axes.directions, np.eye(90), atol=1e-12)


def photographs(seed: int, n: int) -> np.ndarray:
    """Smooth pictures with noise, some many times over, some far from all others, some of one grey: uint8 [n, 256]."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[0:16, 0:16] / 16
    waves = np.stack([np.cos(np.pi * (i * y + j * x)) for i in range(6) for j in range(6)]).reshape(36, -1)
    pixels = 128 + draw.normal(0, 18, (n, 36)) @ waves + draw.normal(0, 4, (n, 256))
    pixels[: n // 50] = draw.choice([0, 255], (n // 50, 256))  # outliers
    pixels[n // 50 : n // 20] = draw.integers(0, 256, (n // 20 - n // 50, 1))
    copies = draw.integers(0, n, n // 10)
    pixels[draw.integers(0, n, n // 10)] = pixels[copies]
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("k", [1, 2, 7])
@pytest.mark.parametrize("memory", [1_000_000_000, 51_000_000])
def test_shadows_and_products_find_the_same_of_many(k, memory, monkeypatch):
    pixels = photographs(k, 1500)
    draw = np.random.default_rng(0)
    a, b = draw.integers(0, 1500, (2, 900))
    every = np.arange(1500)
    points = Mixtures(pixels, np.append(every, a), np.append(every, b), np.append(np.zeros(1500), draw.random(900)))
    measured = []
    monkeypatch.setattr(pruned, "squared_distances", lambda *q: measured.append(len(q[2])) or squared_distances(*q))
    found = nearest(points, k, memory=memory)
    assert sum(measured) < 0.1 * len(points) ** 2, "the shadows must have ruled out nearly all"
    monkeypatch.setattr(search, "SMALL", 10**9)
    every_distance = nearest(points, k)
    assert np.array_equal(found.rows, every_distance.rows)
    np.testing.assert_allclose(found.squared, every_distance.squared, rtol=1e-12, atol=1e-6)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("k", [1, 4])
def test_on_a_device_of_torch_it_finds_the_same(k, device, monkeypatch):
    torch = pytest.importorskip("torch")
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA GPU here")
    pixels = photographs(k, 1400)
    draw = np.random.default_rng(0)
    a, b = draw.integers(0, 1400, (2, 800))
    every = np.arange(1400)
    points = Mixtures(pixels, np.append(every, a), np.append(every, b), np.append(np.zeros(1400), draw.random(800)))
    others = Mixtures.faces(photographs(9, 100))
    by_numpy = nearest(points, k), nearest(points, k, queries=others)
    tiles = []
    candidates = OnDevice.candidates
    monkeypatch.setattr(OnDevice, "candidates", lambda self, ids: tiles.append(len(ids)) or candidates(self, ids))
    monkeypatch.setattr(search, "torch_device", lambda name: torch.device(name))
    with_torch = Search(pixels, device=device)
    for ours, asked in zip(by_numpy, (None, others), strict=True):
        found = with_torch.nearest(points, k, queries=asked)
        assert np.array_equal(found.rows, ours.rows)
        np.testing.assert_allclose(found.squared, ours.squared, rtol=1e-12)
    assert sum(tiles) == 2300


def test_which_device_searches(monkeypatch):
    assert on_device.torch_device("cpu") is None
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert on_device.torch_device("auto") is None
    with pytest.raises(MissingError, match="--device cpu"):
        on_device.torch_device("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert on_device.torch_device("cuda:1") == torch.device("cuda:1")


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
        patch.setattr(shadows, "LEVELS", (3, 5, 64))
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
