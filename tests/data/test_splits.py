"""Splits: parts are disjoint, twins stay on one side where we divide, classes keep their shares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_fer.data.importing import store_faces
from ensemble_fer.data.splits import deal, make_split, parse_split, split_of, twins_in
from ensemble_fer.data.twins import groups_of
from ensemble_fer.errors import BadData, UsageError
from ensemble_fer.store import Store
from ensemble_fer.types import N_CLASSES, FaceSet, Role, Split, TwinMap


def twins_from(groups: np.ndarray) -> TwinMap:
    """A twin map with these groups, named by their smallest rows."""
    first: dict[int, int] = {}
    pairs = [(first.setdefault(int(g), row), row) for row, g in enumerate(groups)]
    pairs = np.array([p for p in pairs if p[0] != p[1]], np.int32).reshape(-1, 2)
    ones = np.ones(len(pairs), np.float32)
    return TwinMap(groups_of(pairs, len(groups)), pairs, ones, 0 * ones, np.zeros(len(pairs), bool))


def faces_from(labels: np.ndarray, usage: np.ndarray | None = None) -> FaceSet:
    n = len(labels)
    images = np.random.default_rng(n).integers(0, 256, (n, 48, 48), np.uint8)
    return FaceSet(images, labels, np.zeros(n, np.uint8) if usage is None else usage, "some")


def some_faces(n: int = 700, seed: int = 0) -> tuple[FaceSet, TwinMap]:
    rng = np.random.default_rng(seed)
    shares = np.array([40, 4, 41, 72, 48, 32, 50]) / 287
    usage = rng.permutation(np.repeat([0, 1, 2], [n - 2 * (n // 10), n // 10, n // 10])).astype(np.uint8)
    groups = np.arange(n)
    groups[rng.permutation(n)[: n // 5]] = rng.integers(0, n // 10, n // 5)
    return faces_from(rng.choice(N_CLASSES, n, p=shares).astype(np.uint8), usage), twins_from(groups)


def test_official_roles():
    faces, _ = some_faces()
    split = make_split(faces, None, "official")
    assert split.train.role == Role.TRAIN
    np.testing.assert_array_equal(split.train_rows, np.flatnonzero(faces.usage == 0))
    np.testing.assert_array_equal(split.select_rows, np.flatnonzero(faces.usage == 1))
    np.testing.assert_array_equal(split.test_rows, np.flatnonzero(faces.usage == 2))
    swapped = make_split(faces, None, "official-swapped")
    np.testing.assert_array_equal(swapped.select_rows, split.test_rows)
    np.testing.assert_array_equal(swapped.test_rows, split.select_rows)
    assert not split.removed


def test_official_clean_against_a_naive_walk():
    faces, twins = some_faces()
    split = make_split(faces, twins, "official-clean")
    train, select = [], []
    for row in range(len(faces)):
        others = {int(faces.usage[o]) for o in range(len(faces)) if o != row and twins.groups[o] == twins.groups[row]}
        if faces.usage[row] == 0 and not others & {1, 2}:
            train.append(row)
        if faces.usage[row] == 1 and 2 not in others:
            select.append(row)
    assert split.train_rows.tolist() == train
    assert split.select_rows.tolist() == select
    np.testing.assert_array_equal(split.test_rows, np.flatnonzero(faces.usage == 2))
    assert split.removed == {
        "train: twin in select or test": int((faces.usage == 0).sum()) - len(train),
        "select: twin in test": int((faces.usage == 1).sum()) - len(select),
    }
    assert all(n > 0 for n in split.removed.values()), "the example has nothing to remove"


@pytest.mark.parametrize("absent", [1, 2])
def test_official_needs_all_usages(absent):
    faces, _ = some_faces()
    usage = np.where(faces.usage == absent, 0, faces.usage)
    with pytest.raises(BadData, match=r"none of P.*\n.*stratified"):
        make_split(FaceSet(faces.images, faces.labels, usage), None, "official")


@pytest.mark.parametrize("name", ["official-clean", "stratified:0.8,0.1,0.1", "kfold:5:0"])
def test_twins_are_asked_for(name):
    with pytest.raises(UsageError, match="find_twins"):
        make_split(some_faces()[0], None, name)


@pytest.mark.parametrize(
    "name",
    ["stratified", "stratified:0.8,0.2", "stratified:0.8,0.1,0.2", "stratified:1,0,0", "stratified:a,b,c",
     "stratified:nan,0.5,0.5", "kfold:5", "kfold:2:0", "kfold:1001:0", "kfold:5:5", "kfold:5:-1", "kfold:x:0",
     "kfold:5:0:1"],
)  # fmt: skip
def test_ill_formed_names(name):
    with pytest.raises(UsageError, match="expected"):
        parse_split(name)


@pytest.mark.parametrize(
    ("name", "near"),
    [("oficial", "official"), ("offical-clean", "official-clean"), ("kfolds:5:0", "kfold:5:0")],
)
def test_unknown_names_get_the_near_match(name, near):
    with pytest.raises(UsageError, match=f"Did you mean '{near}'"):
        parse_split(name)


def test_one_spelling():
    assert parse_split("stratified:.80,1e-1,0.10").text == "stratified:0.8,0.1,0.1"
    assert parse_split(" kfold:05:00").text == "kfold:5:0"


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    n=st.integers(30, 200),
    fractions=st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.2,) * 5, (1 / 3,) * 3]),
)
def test_deal(data, n, fractions):
    labels = np.array(data.draw(st.lists(st.integers(0, 6), min_size=n, max_size=n)), np.uint8)
    groups = np.array(data.draw(st.lists(st.integers(0, n), min_size=n, max_size=n)))
    parts = deal(labels, groups, fractions, seed=data.draw(st.integers(0, 3)))
    assert sorted(np.concatenate(parts).tolist()) == list(range(n))
    assert all((np.diff(p) > 0).all() for p in parts)
    sides = [set(groups[p].tolist()) for p in parts]
    assert sum(map(len, sides)) == len(set(groups.tolist())), "a group lies in two parts"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=7, max_size=300), st.integers(3, 6))
def test_classes_keep_their_shares_without_twins(labels, folds):
    labels = np.array(labels, np.uint8)
    parts = deal(labels, np.arange(len(labels)), (1 / folds,) * folds, seed=1)
    counts = np.array([np.bincount(labels[p], minlength=7) for p in parts])
    exact = np.bincount(labels, minlength=7) / folds
    assert (np.abs(counts - exact) < 1).all()
    assert np.ptp(counts.sum(1)) <= 1, "remainders of the classes pile up in one part"


def test_classes_keep_their_shares_with_twins():
    faces, twins = some_faces(3000)
    split = make_split(faces, twins, "stratified:0.7,0.1,0.2", seed=5)
    whole = np.array(faces.counts())
    for part, share in ((split.train, 0.7), (split.select, 0.1), (split.test, 0.2)):
        np.testing.assert_allclose(faces.counts(part.rows), share * whole, atol=3)


def test_folds_test_each_row_once_and_keep_twins_together():
    faces, twins = some_faces()
    splits = [make_split(faces, twins, f"kfold:4:{i}", seed=2) for i in range(4)]
    assert sorted(np.concatenate([s.test_rows for s in splits])) == list(range(len(faces)))
    for i, split in enumerate(splits):
        assert len(split.train) + len(split.select) + len(split.test) == len(faces)
        np.testing.assert_array_equal(split.select_rows, splits[(i + 1) % 4].test_rows)
        held_out = np.concatenate([split.select_rows, split.test_rows])
        assert not twins.have_twin_in(split.train_rows, held_out).any()
        assert not twins.have_twin_in(split.select_rows, split.test_rows).any()


def test_seed_draws_and_repeats():
    faces, twins = some_faces()
    name = "stratified:0.8,0.1,0.1"
    one, again, other = (make_split(faces, twins, name, seed=s).test_rows for s in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert set(one) != set(other)


def test_a_part_that_stays_empty():
    faces = faces_from(np.zeros(6, np.uint8))
    with pytest.raises(UsageError, match="no row for select and test"):
        make_split(faces, twins_from(np.zeros(6, int)), "stratified:0.8,0.1,0.1")


def test_stored_once_and_named_by_what_matters(store: Store):
    faces, _ = some_faces(200)
    data = store_faces(store, faces, {})
    first, split = split_of(store, data, "official", seed=0)
    assert split_of(store, data, "official", seed=9)[0].id == first.id
    assert first.inputs == [data.id]
    assert "seed" not in first.spec
    assert not store.ids("twins"), "the official split needs no twins"
    np.testing.assert_array_equal(split.train_rows, make_split(faces, None, "official").train_rows)

    drawn, kept = split_of(store, data, "stratified:.8,.1,.1", seed=3)
    assert drawn.inputs == [data.id, *store.ids("twins")]
    assert drawn.metrics["rows"] == {"train": len(kept.train), "select": len(kept.select), "test": len(kept.test)}
    same, loaded = split_of(store, data, "stratified:0.8,0.1,0.1", seed=3)
    assert same.id == drawn.id
    assert loaded.name == "stratified:0.8,0.1,0.1"
    np.testing.assert_array_equal(loaded.test_rows, kept.test_rows)
    assert split_of(store, data, "stratified:0.8,0.1,0.1", seed=4)[0].id != drawn.id


def test_removed_rows_are_remembered(store: Store):
    faces, _ = some_faces(100)
    images = faces.images.copy()
    train, test = np.flatnonzero(faces.usage == 0)[3], np.flatnonzero(faces.usage == 2)[1]
    images[test] = images[train]
    data = store_faces(store, FaceSet(images, faces.labels, faces.usage, "some"), {})
    split_of(store, data, "official-clean")
    split = split_of(store, data, "official-clean")[1]
    assert split.removed == {"train: twin in select or test": 1, "select: twin in test": 0}
    assert train not in split.train_rows


# -- injected rows ---------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(60, 160),
    more=st.integers(1, 60),
    seed=st.integers(0, 10_000),
    name=st.sampled_from(
        ["official", "official-clean", "official-swapped", "stratified:0.5,0.25,0.25", "kfold:3:1", "kfold:4:0"]
    ),
)
def test_injected_rows_train_or_are_out_and_change_no_other_part(n, more, seed, name):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 7, n + more).astype(np.uint8)
    usage = np.append(rng.permutation(np.resize([0, 0, 1, 2], n)), np.full(more, 3)).astype(np.uint8)
    faces = faces_from(labels, usage)
    pairs = np.sort(rng.integers(0, n + more, ((n + more) // 3, 2)), 1)
    pairs = np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)
    groups = groups_of(pairs, n + more)
    if "official" in name:  # as injection leaves them
        tested = np.flatnonzero((usage == 1) | (usage == 2))
        bad = (usage == 3) & np.isin(groups, groups[tested])
        pairs = pairs[~bad[pairs].any(1)]
        groups = groups_of(pairs, n + more)
    ones = np.ones(len(pairs), np.float32)
    twins = TwinMap(groups, pairs, ones, 0 * ones, np.zeros(len(pairs), bool))
    own = pairs[(pairs < n).all(1)]
    base_twins = TwinMap(groups_of(own, n), own, ones[: len(own)], ones[: len(own)], np.zeros(len(own), bool))
    base = FaceSet(faces.images[:n], labels[:n], usage[:n], "base")
    split, plain = make_split(faces, twins, name, seed), make_split(base, base_twins, name, seed)
    assert np.array_equal(split.select_rows, plain.select_rows)
    assert np.array_equal(split.test_rows, plain.test_rows)
    assert np.array_equal(split.train_rows[split.train_rows < n], plain.train_rows)
    assert (np.diff(split.train_rows) > 0).all()
    tested = np.concatenate([split.select_rows, split.test_rows])
    added = split.train_rows[split.train_rows >= n]
    assert not np.isin(groups[added], groups[tested]).any()
    expected = [row for row in range(n, n + more) if groups[row] not in groups[tested]]
    assert added.tolist() == expected
    # A row that this split leaves out links no test row to training: the set without any says the same of each row,
    # as far as its own faces go.
    own_twins, part = twins_in(split, faces, twins), split.test_rows
    if not name.startswith("official"):
        assert not own_twins.have_twin_in(part, split.train_rows).any()
    known = base_twins.have_twin_in(part, plain.train_rows)
    assert np.array_equal(own_twins.have_twin_in(part, split.train_rows), known)
    together = own_twins.groups[part][:, None] == own_twins.groups[part]
    assert np.array_equal(together, base_twins.groups[part][:, None] == base_twins.groups[part])
    assert twins_in(plain, base, base_twins) is base_twins


def test_a_row_between_a_test_row_and_training_counts_only_while_it_trains():
    faces = faces_from(np.zeros(4, np.uint8), np.array([0, 0, 3, 3], np.uint8))
    pairs = np.array([[0, 2], [1, 2], [1, 3]])
    ones = np.ones(3, np.float32)
    twins = TwinMap(groups_of(pairs, 4), pairs, ones, ones, np.zeros(3, bool))
    none = np.zeros(0, np.int64)
    assert twins.have_twin_in(np.array([0]), np.array([1])).all()
    without = twins_in(Split("kfold:3:0", np.array([1, 3]), none, np.array([0])), faces, twins)
    assert not without.have_twin_in(np.array([0]), np.array([1, 3])).any()
    assert without.groups.tolist() == [0, 1, 2, 1]
    assert without.pairs.tolist() == [[1, 3]]
