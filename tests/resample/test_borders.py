"""Borderline-SMOTE and ADASYN on byte images full of copies and ties, against imbalanced-learn with a naive search."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from imblearn.over_sampling import ADASYN, BorderlineSMOTE
from sklearn.base import BaseEstimator

from ensemble_fer.errors import EnsembleFerError
from ensemble_fer.neighbors import Mixtures, Search, nearest
from ensemble_fer.resample import METHODS, ResamplingWarning, planning, resample, run
from ensemble_fer.resample.adasyn import shares
from ensemble_fer.resample.borderline import in_danger
from ensemble_fer.types import CLASSES, FaceSet, Kind, Part, Role
from tests.resample.reference import Listed, our_rows, with_positions
from tests.resample.test_parity import small_faces


class Naive(BaseEstimator):
    """All distances by definition, ties by row; blind to the two columns of positions."""

    def __init__(self, n_neighbors: int = 5):
        self.n_neighbors = n_neighbors

    def fit(self, X, y=None):
        self.rows_ = X[:, :-2]
        return self

    def kneighbors(self, X, return_distance=False):
        if self.n_neighbors > len(self.rows_):
            raise ValueError(f"Expected n_neighbors <= n_samples_fit, but n_samples_fit = {len(self.rows_)}")
        squared = ((X[:, None, :-2] - self.rows_[None]) ** 2).sum(axis=2)
        return np.argsort(squared, axis=1, kind="stable")[:, : self.n_neighbors]

    def kneighbors_graph(self, X):
        raise NotImplementedError


def samplers(method: str, seed: int, over):
    if method == "adasyn":
        return ADASYN(sampling_strategy=over, random_state=seed, n_neighbors=Naive(6))
    return BorderlineSMOTE(sampling_strategy=over, random_state=seed, k_neighbors=Naive(6), m_neighbors=Naive(11))


def train(faces: FaceSet) -> Part:
    return Part(np.arange(len(faces)), Role.TRAIN)


@st.composite
def crowds(draw) -> FaceSet:
    """A few classes, some smaller than six, of faces of which many are copies; or all the same face."""
    # Most classes are large enough for a search, some are not, so that answers and refusals both come up.
    sizes = draw(st.lists(st.one_of(st.integers(6, 30), st.integers(1, 30)), min_size=2, max_size=4))
    levels = draw(st.sampled_from([[7], [0, 255], [0, 1, 2, 3], list(range(256))]))
    pixels = draw(st.integers(1, 4))
    pool = draw(st.integers(1, 60))
    apart = draw(st.sampled_from([0, 0, 1, 40]))
    chance = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = chance.permutation(np.repeat(np.arange(len(sizes)), sizes))
    images = chance.choice(levels, (pool, 1, pixels))[chance.integers(0, pool, len(labels))]
    images = np.minimum(images + apart * labels[:, None, None], 255)
    return FaceSet(images.astype(np.uint8), labels, np.zeros(len(labels)), "crowd")


@given(crowds(), st.sampled_from(["borderline_smote", "adasyn"]), st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=250, deadline=None)
def test_rows_and_refusals_are_the_references(faces, method, seed, one_class):
    named = [CLASSES[int(faces.labels.min())]] if one_class else None
    largest = max(faces.counts())
    over = "auto" if named is None else {CLASSES.index(c): largest for c in named}
    sampler = samplers(method, seed, over)
    rows, codes = with_positions(faces.images), faces.labels.astype(np.int64)
    try:
        theirs, wanted = sampler.fit_resample(rows, codes)
    except (ValueError, RuntimeError) as refusal:
        event(f"{method} refuses: {str(refusal)[:30]}")
        with pytest.raises(EnsembleFerError, match=r"(Use smote|Copy (its )?rows instead|another split)"):
            resample(faces, train(faces), method, seed=seed, classes=named)
        return
    event(f"{method} makes {'rows' if len(theirs) > len(rows) else 'nothing'}")
    outcome = run(faces, train(faces), method, seed=seed, classes=named)
    assert np.array_equal(outcome.resampling.labels, wanted)
    assert np.array_equal(our_rows(outcome.resampling, faces.images, np.arange(len(faces))), theirs)
    if method == "borderline_smote":
        filled = {c for c, n in sampler.sampling_strategy_.items() if n}
        alone = sorted(filled - set(sampler.in_danger_indices))
        texts = [text for text in outcome.account["warnings"] if "as they are" in text]
        assert [CLASSES.index(text.split(" faces")[0].split()[-1]) for text in texts] == alone


def test_danger_is_half_or_more_but_not_all():
    assert np.flatnonzero(in_danger(np.arange(11), 10)).tolist() == [5, 6, 7, 8, 9]
    assert np.flatnonzero(in_danger(np.arange(6), 5)).tolist() == [3, 4]


def test_shares_round_as_the_reference_does_in_float64():
    assert shares(np.array([1, 1, 2]), 5, 2).tolist() == [0, 0, 1]  # halves to the even number: one row for two
    assert shares(np.array([5, 0, 5]), 5, 5).tolist() == [2, 0, 2]
    # 3/4 of 50 is 37.5, whose even neighbour is 38; the reference's float64 falls just short of it.
    assert shares(np.array([3, 1, 0, 0, 0, 0]), 5, 50).tolist() == [37, 12, 0, 0, 0, 0]
    own = np.array([np.roll(np.arange(6), -i) for i in range(6)])
    among_all = own.copy()
    among_all[0, 1:4] = among_all[1, 1] = 20
    theirs = ADASYN(random_state=0, n_neighbors=Listed([among_all, own], 6))
    labels = theirs.fit_resample(np.arange(62.0)[:, None], np.repeat([0, 1], [6, 56]))[1]
    assert np.bincount(labels).tolist() == [6 + 37 + 12, 56]


def test_a_line_of_faces_grows_at_its_border_alone():
    """Grey levels 0 to 19 of one class beside 20 to 59 of another."""
    levels = np.arange(60)
    faces = FaceSet(levels.reshape(60, 1, 1), np.repeat([1, 3], [20, 40]), np.zeros(60))
    made = resample(faces, train(faces), "borderline_smote")
    new = made.kind == Kind.SYNTHETIC
    # The ten nearest of 19 are 14 to 18 and 20 to 24; those of 18 hold four of the other class.
    assert np.unique(made.parent_a[new]).tolist() == [19]
    assert np.unique(made.parent_b[new]).tolist() == [14, 15, 16, 17, 18]
    assert made.counts()[1] == 40
    made = resample(faces, train(faces), "adasyn")
    starts = np.bincount(made.parent_a[made.kind == Kind.SYNTHETIC], minlength=20)
    # Of five neighbours 19 has 20 and 21 (22 is as far as 16, which comes first), 18 has 20: shares 2/3 and 1/3 of 20.
    assert starts[:18].sum() == 0
    assert starts[18:].tolist() == [7, 13]


def test_only_the_rows_of_the_class_are_asked_for():
    faces = small_faces(0, spread=120)
    asked = []

    def search(points: Mixtures, k: int | np.ndarray, queries: Mixtures | None = None) -> np.ndarray:
        asked.append((len(points), int(np.max(k)), len(points if queries is None else queries)))
        found = nearest(points, k, queries=queries).rows
        if queries is not None:  # the same as asking for everyone
            place = np.searchsorted(points.a, queries.a)
            every = nearest(points, int(np.max(k))).rows[place]
            assert np.array_equal(found, np.where(np.arange(every.shape[1]) < np.reshape(k, (-1, 1)), every, -1))
        return found

    resample(faces, train(faces), "adasyn", classes=["disgust"], neighbors=search)
    assert asked == [(len(faces), 6, 8), (8, 6, 8)]
    counts, filled = np.array(faces.counts()), np.array([1])
    assert planning._searches(METHODS["adasyn"], counts, counts, filled) == [(8, len(faces)), (8, 8)]
    assert planning._searches(METHODS["smote"], counts, counts, filled) == [(8, 8)]
    bare = counts * (np.arange(7) != 6)
    assert planning._searches(METHODS["smote"], bare, bare, np.array([1, 6])) == [(8, 8), (0, 0)]
    asked.clear()
    resample(faces, train(faces), "borderline_smote", classes=["sad"], neighbors=search)
    (everyone, sad), danger = asked[:2], asked[1][2]
    assert (everyone, sad) == ((len(faces), 11, 45), (45, 6, danger))
    assert 0 < danger < 45


@pytest.mark.real
def test_lists_of_a_class_among_all_real_rows_are_the_nearest_by_definition(real_faces):
    """One search answers all questions, as in ``run``; enough rows that shadows rule most of them out."""
    rows = np.flatnonzero(real_faces.usage == 0)[:1600]
    pixels, labels = real_faces.images[rows].reshape(1600, -1), real_faces.labels[rows]
    values = pixels.astype(np.float64)  # sums of products stay below 2^53: exact
    lengths = (values**2).sum(axis=1)
    search = Search(pixels)
    for code in range(7):
        of_class = np.flatnonzero(labels == code)
        found = search.nearest(Mixtures.faces(pixels), 11, queries=Mixtures.faces(pixels, of_class)).rows
        squared = lengths[of_class, None] + lengths - 2 * values[of_class] @ values.T
        assert np.array_equal(found, np.argsort(squared, axis=1, kind="stable")[:, :11])


def test_one_generator_serves_all_classes_in_adasyn_and_each_has_its_own_in_borderline_smote():
    draw = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [20, 20, 60])
    faces = FaceSet(draw.integers(0, 256, (100, 4, 4)), labels, np.zeros(100))
    for method, restarts in (("borderline_smote", True), ("adasyn", False)):
        made = resample(faces, train(faces), method, seed=3)
        first, second = (made.weight[(made.kind == Kind.SYNTHETIC) & (made.labels == c)] for c in (0, 1))
        n = min(len(first), len(second))
        assert n > 30
        assert np.array_equal(first[:n], second[:n]) == restarts


def islands(sizes: list[int]) -> FaceSet:
    """Classes so far from each other that no face has a foreign neighbour, where they are large enough."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    near = np.random.default_rng(0).integers(0, 20, (len(labels), 3, 3))
    return FaceSet(near + 100 * labels[:, None, None], labels, np.zeros(len(labels)))


def test_a_class_without_a_border_is_left_alone_loudly_and_refused_by_adasyn():
    faces = islands([15, 40])
    text = (
        "Borderline-SMOTE leaves the 15 angry faces as they are, 25 short of the largest class: none of them has half "
        "or more of its neighbours in other classes, but not all. Use smote for this class."
    )
    with pytest.warns(ResamplingWarning, match=text):
        assert resample(faces, train(faces), "borderline_smote").counts()[:2] == [15, 40]
    with pytest.raises(EnsembleFerError, match=r"no angry face has a neighbour of another class.*Use smote"):
        resample(faces, train(faces), "adasyn")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resample(faces, train(faces), "smote")


def test_faces_with_foreign_neighbours_only_are_noise_even_in_a_class_too_small_to_mix():
    """Three faces, each among eleven grey levels of another class: no border, so no search in a class of three."""
    levels = np.concatenate([np.arange(12), 100 + np.arange(12), 200 + np.arange(12)])
    faces = FaceSet(levels.reshape(-1, 1, 1), np.where(levels % 100 == 5, 0, 1), np.zeros(36))
    with pytest.warns(ResamplingWarning, match="leaves the 3 angry faces as they are, 30 short"):
        assert resample(faces, train(faces), "borderline_smote").counts()[:2] == [3, 33]


def test_what_is_too_small_is_refused_with_what_to_do():
    draw = np.random.default_rng(0)

    def mixed(*sizes: int) -> FaceSet:
        labels = np.repeat(np.arange(len(sizes)), sizes)
        return FaceSet(draw.integers(0, 2, (len(labels), 2, 2)), labels, np.zeros(len(labels)))

    few = mixed(5, 20)
    with pytest.raises(EnsembleFerError, match=r"angry has 5 rows to train on; Borderline-SMOTE needs at least 6"):
        resample(few, train(few), "borderline_smote")
    with pytest.raises(EnsembleFerError, match=r"class angry has 5 rows to train on; ADASYN needs at least 6"):
        resample(few, train(few), "adasyn")
    tiny = mixed(4, 6)
    with pytest.raises(EnsembleFerError, match=r"training part has 10 rows .* needs at least 11 .*\(ros\)"):
        resample(tiny, train(tiny), "borderline_smote")
    near = mixed(39, 40)
    with pytest.raises(EnsembleFerError, match=r"angry: it misses 1 of 40 rows.* 39 faces rounds to 0. Use smote"):
        resample(near, train(near), "adasyn")
    even = mixed(3, 3)
    assert resample(even, train(even), "adasyn").counts()[:2] == [3, 3]
    assert resample(even, train(even), "borderline_smote").counts()[:2] == [3, 3]
