"""imbalanced-learn deciding on float64 pixels with neighbour lists that it is given.

Two columns are added to the pixels: the position of the row and its square. A synthetic row mixes them with
its weight as it does the pixels, so that equal rows of the reference have equal parents, although SMOTE
throws them away.
"""

from __future__ import annotations

import numpy as np
from imblearn.combine import SMOTEENN, SMOTETomek
from imblearn.over_sampling import ADASYN, SMOTE, BorderlineSMOTE, RandomOverSampler
from imblearn.under_sampling import EditedNearestNeighbours, RandomUnderSampler, TomekLinks
from imblearn.under_sampling._prototype_selection import _tomek_links
from sklearn.base import BaseEstimator

from ensemble_fer.neighbors import Mixtures, Search
from ensemble_fer.resample.rows import SMOTE_NEIGHBORS
from ensemble_fer.types import CLASSES, FaceSet, Part, Resampling, Role

NEVER_ASKED = 2**40  # no row has this position


class Listed(BaseEstimator):
    """A neighbour search that answers with prepared lists in turn: of these rows, or of all by position."""

    def __init__(self, lists=(), n_neighbors=None, n_jobs=None):
        self.lists = lists
        self.n_neighbors = n_neighbors
        self.n_jobs = n_jobs

    def fit(self, X, y=None):
        return self

    def kneighbors(self, X, n_neighbors=None, return_distance=False):
        answers = self.__dict__.setdefault("_left", list(self.lists))
        answer = answers.pop(0)
        if len(answer) != len(X):
            answer = answer[X[:, -2].astype(int)]  # the first of the two columns
        assert len(answer) == len(X)
        return answer

    def kneighbors_graph(self, X):
        raise NotImplementedError


class Recorder:
    """Our exact search, remembering what it answered; or lists drawn at random, where parity must hold as well."""

    def __init__(self, draw: np.random.Generator | None = None):
        self.draw, self.answers = draw, []
        self.search: Search | None = None

    def __call__(self, points: Mixtures, k: int | np.ndarray, queries: Mixtures | None = None) -> np.ndarray:
        if self.draw is None:
            self.search = self.search or Search(points.pixels)
            answer = self.search.nearest(points, k, queries=queries).rows
        else:
            rows = len(points if queries is None else queries)
            answer = self.draw.integers(0, len(points), (rows, int(np.max(k))))
        if queries is None:
            self.answers.append(answer)
        else:  # the reference asks for more rows, and more neighbours of each, than we do; none of them may matter
            assert not queries.w.any()
            wide = k if isinstance(k, int) else SMOTE_NEIGHBORS + 1
            self.answers.append(np.full((len(queries.pixels), wide), NEVER_ASKED))
            row, column = np.nonzero(np.arange(answer.shape[1]) < np.broadcast_to(k, len(queries))[:, None])
            self.answers[-1][queries.a[row], column] = answer[row, column]
        return answer


def with_positions(pixels: np.ndarray) -> np.ndarray:
    """Float64 rows with the two columns."""
    position = np.arange(len(pixels), dtype=np.float64)
    return np.column_stack([pixels.reshape(len(pixels), -1).astype(np.float64), position, position**2])


def sampler(method: str, labels: np.ndarray, seed: int, classes, target, lists, monkeypatch):
    """The sampler of imbalanced-learn, its searches answered from ``lists`` (its own searches where None)."""
    counts = {int(c): int(n) for c, n in zip(*np.unique(labels, return_counts=True), strict=True)}
    over = "auto" if classes is None else {CLASSES.index(c): max(counts.values()) for c in classes}
    smotes, cleaner = lists if lists is not None else (None, None)
    smote = SMOTE(
        sampling_strategy=over, random_state=seed, **({} if smotes is None else {"k_neighbors": Listed(smotes)})
    )
    if method == "borderline_smote":
        # It asks among all rows for 10 besides the first, then within the class for 5.
        wide, narrow = (Listed([a for a in smotes or () if a.shape[1] == k], k) for k in (11, 6))
        given = {} if smotes is None else {"m_neighbors": wide, "k_neighbors": narrow}
        return [BorderlineSMOTE(sampling_strategy=over, random_state=seed, **given)]
    if method == "adasyn":
        given = {} if smotes is None else {"n_neighbors": Listed(smotes, 6)}
        return [ADASYN(sampling_strategy=over, random_state=seed, **given)]
    if cleaner is not None:
        monkeypatch.setattr(_tomek_links, "NearestNeighbors", lambda **asked: Listed([cleaner[0]]))

    def enn(strategy, cleaned):
        """ENN asks class by class, only for the classes it cleans."""
        if cleaner is None:
            return EditedNearestNeighbours(sampling_strategy=strategy)
        return EditedNearestNeighbours(sampling_strategy=strategy, n_neighbors=Listed(cleaned))

    if method == "hybrid":
        above = {c: target for c, n in counts.items() if n > target}
        under = RandomUnderSampler(sampling_strategy=above, random_state=seed)
        below = {c: target for c, n in counts.items() if n < target}
        return [under, RandomOverSampler(sampling_strategy=below, random_state=seed)]
    if method == "enn":
        rarest = min(counts, key=counts.get)
        return [enn("auto", cleaner and [cleaner[0][labels == c] for c in sorted(counts) if c != rarest])]
    if method == "smote_enn":
        return [SMOTEENN(smote=smote, enn=enn("all", cleaner and cleaner[1]))]
    return {
        "ros": lambda: [RandomOverSampler(sampling_strategy=over, random_state=seed)],
        "rus": lambda: [RandomUnderSampler(random_state=seed)],
        "smote": lambda: [smote],
        "tomek": lambda: [TomekLinks()],
        "smote_tomek": lambda: [SMOTETomek(smote=smote, tomek=TomekLinks(sampling_strategy="all"))],
    }[method]()


def decided_by_reference(
    method: str, pixels, labels, seed, *, classes=None, target=None, answers=None, monkeypatch=None
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and labels of imbalanced-learn, the rows with the two columns if it is given its neighbours."""
    lists = None
    if answers is not None:
        mixes, cleans = method.startswith("smote"), method in ("tomek", "enn", "smote_tomek", "smote_enn")
        before = answers[:-1] if cleans else answers
        cleaner = None
        if cleans and answers:
            everything = answers[-1]
            smoted = labels_after_smote(labels, classes) if mixes else labels
            cleaner = (everything, [everything[smoted == c] for c in np.unique(smoted)])
        lists = (before, cleaner)
    rows, codes = with_positions(pixels), labels.astype(np.int64)
    if answers is None:  # it searches by itself, and must not see the positions
        rows = rows[:, :-2]
    for step in sampler(method, labels, seed, classes, target, lists, monkeypatch):
        rows, codes = step.fit_resample(rows, codes)
    return rows, codes


def labels_after_smote(labels: np.ndarray, classes) -> np.ndarray:
    counts = np.bincount(labels)
    named = [c for c in np.flatnonzero(counts) if classes is None or CLASSES[c] in classes]
    return np.concatenate([labels, *(np.full(counts.max() - counts[c], c, labels.dtype) for c in named)])


def our_rows(resampling: Resampling, pixels: np.ndarray, part_rows: np.ndarray) -> np.ndarray:
    """Our rows unrounded, with the same two columns."""
    position = np.full(part_rows.max() + 1, -1)
    position[part_rows] = np.arange(len(part_rows))
    full = with_positions(pixels)
    a, b = full[position[resampling.parent_a]], full[position[resampling.parent_b]]
    return a + resampling.weight[:, None] * (b - a)


def part_of(faces: FaceSet, rows: np.ndarray) -> Part:
    return Part(rows, Role.TRAIN)
