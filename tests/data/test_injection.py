"""Faces of another set: they come behind, train only, show no test photograph, and can be traced."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ensemble_fer.data.audit import audit
from ensemble_fer.data.importing import load_faces, store_faces
from ensemble_fer.data.injection import automatic_name, inject_data, injected_text, provenance_of
from ensemble_fer.data.planting import twin_of, watermarks
from ensemble_fer.data.showing import show_faces
from ensemble_fer.data.splits import split_of
from ensemble_fer.data.synthetic import draw_faces
from ensemble_fer.data.twins import THRESHOLDS as TWINS_THRESHOLDS
from ensemble_fer.data.twins import VERSION as TWINS_VERSION
from ensemble_fer.data.twins import find_twins, twins_of
from ensemble_fer.data.warped import THRESHOLDS as WARPED_THRESHOLDS
from ensemble_fer.errors import BadData, UsageError
from ensemble_fer.looks import Look, count_look
from ensemble_fer.resample import check_lineage, load_resampling, make_resampling
from ensemble_fer.store import Artifact, Store
from ensemble_fer.types import CLASSES, INJECTED, USAGES, FaceSet, Kind, Protocol

NAMES = ("official", "official-clean", "official-swapped", "stratified:0.8,0.1,0.1", "kfold:4:1")
WANTED = ("angry", "disgust", "surprise")


@pytest.fixture(scope="module")
def base_faces() -> FaceSet:
    return draw_faces(300, 1).faces("base")


@pytest.fixture(scope="module")
def other_faces(base_faces: FaceSet) -> FaceSet:
    """Own faces, then prints of others: of a row of each usage of the base, made in another way, and one flat."""
    drawn = draw_faces(200, 2)
    fresh = np.delete(np.arange(200), drawn.planted["constant"])
    rng, stamps = np.random.default_rng(0), watermarks()
    kinds = ("identical", "jpeg", "mirrored")
    known = [int(row) for usage in range(3) for row in textured(base_faces, usage)[: len(kinds)]]
    prints = [twin_of(base_faces.images[row], kinds[k % 3], rng, stamps) for k, row in enumerate(known)]
    images = np.concatenate([drawn.images[fresh], prints, np.full((1, 48, 48), 90, np.uint8)])
    labels = np.concatenate([drawn.labels[fresh], np.full(10, 5)])
    return FaceSet(images, labels, np.arange(len(images)) % 3, "other")


def textured(faces: FaceSet, usage: int) -> np.ndarray:
    """Rows of a usage whose photograph is nowhere else."""
    groups = find_twins(faces.images, quiet=True).groups
    return np.flatnonzero((faces.usage == usage) & (np.bincount(groups)[groups] == 1))


@pytest.fixture(scope="module")
def shared(tmp_path_factory, base_faces, other_faces) -> tuple[Store, Artifact, Artifact, Artifact]:
    store = Store(tmp_path_factory.mktemp("injected"))
    base, other = (store_faces(store, faces, {}) for faces in (base_faces, other_faces))
    return store, base, other, inject_data(store, base, other, classes=["surprise", "angry", "disgust"], quiet=True)


def test_the_base_comes_first_as_it_was_and_the_others_train_only(shared, base_faces, other_faces) -> None:
    store, base, other, made = shared
    faces = load_faces(made)
    n = len(base_faces)
    for key in ("images", "labels", "usage"):
        assert np.array_equal(getattr(faces, key)[:n], getattr(base_faces, key))
    assert (faces.usage[n:] == USAGES.index(INJECTED)).all()
    came = provenance_of(made)
    assert came is not None
    assert came.sets == [base.id, other.id]
    for row in range(len(faces)):
        origin = (base_faces, other_faces)[came.set[row]]
        assert np.array_equal(faces.images[row], origin.images[came.row[row]])
        assert faces.labels[row] == origin.labels[came.row[row]]
    assert np.array_equal(came.row[:n], np.arange(n))
    assert (np.diff(came.row[n:]) > 0).all()
    assert {CLASSES[code] for code in faces.labels[n:]} == set(WANTED)
    assert made.inputs == [base.id, other.id]
    assert made.metrics["usage"] == faces.usage_counts()
    assert json.loads(json.dumps(made.metrics)) == made.metrics
    assert store.get("data", "base+other-angry+disgust+surprise").id == made.id == store.get("data", made.id).id
    assert load_faces(base).fingerprint == base_faces.fingerprint
    assert provenance_of(base) is None


def test_prints_of_test_rows_are_left_out_and_counted(shared, base_faces, other_faces) -> None:
    *_, made = shared
    (step,) = made.metrics["injected"]
    assert step["left_out"] == {"rows": 7, "flat": 1, "twins_of_PublicTest": 3, "twins_of_PrivateTest": 3, "warped": 0}
    assert step["twins_of_training"] == 3
    assert step["copies"] == 0  # within a grey level, but not the same bytes
    came = provenance_of(made)
    assert came is not None
    own = [row for row in range(len(other_faces)) if CLASSES[other_faces.labels[row]] in WANTED]
    gone = set(own) - set(came.row[len(base_faces) :].tolist())
    # The first three prints are of Training, the six after them of the test parts, the last picture is flat.
    assert gone == set(range(len(other_faces) - 7, len(other_faces)))
    assert sum(step["offered"]) == len(own) == sum(step["added"]) + 7
    # What is kept is what a new search finds.
    kept, found = twins_of(shared[0], made)[1], find_twins(load_faces(made).images, quiet=True)
    for key in ("groups", "pairs", "correlation", "rms", "mirrored"):
        np.testing.assert_array_equal(getattr(kept, key), getattr(found, key))


@pytest.mark.parametrize("name", NAMES)
def test_no_split_lets_an_injected_row_select_or_test(shared, base_faces, name: str) -> None:
    store, base, _, made = shared
    n = len(base_faces)
    plain, split = split_of(store, base, name, quiet=True)[1], split_of(store, made, name, quiet=True)[1]
    assert np.array_equal(split.select_rows, plain.select_rows)
    assert np.array_equal(split.test_rows, plain.test_rows)
    assert np.array_equal(split.train_rows[split.train_rows < n], plain.train_rows)
    twins = twins_of(store, made)[1]
    tested = np.concatenate([split.select_rows, split.test_rows])
    training = split.train_rows[split.train_rows >= n]
    assert len(training)
    assert not np.isin(twins.groups[training], twins.groups[tested]).any()
    rest = np.setdiff1d(np.arange(n, len(load_faces(made))), training)
    assert np.isin(twins.groups[rest], twins.groups[tested]).all()
    if ":" in name:
        assert split.removed == {"train: injected, twin in select or test": len(rest)}


def test_folds_leave_out_the_injected_print_of_a_row_they_test(shared, base_faces, other_faces) -> None:
    """Three prints of Training rows were added; each trains in the folds where its row does."""
    store, _, _, made = shared
    twins, n = twins_of(store, made)[1], len(base_faces)
    prints = [row for row in range(n, len(twins.groups)) if twins.groups[row] < n]
    assert len(prints) == 3
    trained = 0
    for fold in range(4):
        split = split_of(store, made, f"kfold:4:{fold}", quiet=True)[1]
        for row in prints:
            assert (row in split.train_rows) == (twins.groups[row] in split.train_rows)
            trained += row in split.train_rows
    assert trained == 3 * 2


def test_the_same_request_is_answered_from_disk_and_another_is_not(shared, monkeypatch) -> None:
    store, base, other, made = shared
    asked = [{"limit": 4}, {"limit": 4, "seed": 1}, {"limit": 5}, {"classes": ["angry"]}, {"classes": WANTED[:2]}]
    others = [inject_data(store, base, other, **{"classes": WANTED, **more}, quiet=True) for more in asked]
    assert len({made.id, *(one.id for one in others)}) == 6
    assert made.spec["twins"] == {"version": TWINS_VERSION, **TWINS_THRESHOLDS}
    assert made.spec["warped"]["detail"] == WARPED_THRESHOLDS["detail"]
    monkeypatch.setitem(WARPED_THRESHOLDS, "detail", 0.99)
    assert inject_data(store, base, other, classes=WANTED, name="stricter", quiet=True).id != made.id
    monkeypatch.undo()
    monkeypatch.setattr("ensemble_fer.data.injection.admitted", lambda *a, **k: pytest.fail("searched again"))
    assert inject_data(store, base, other, classes=WANTED, seed=9, quiet=True).id == made.id
    assert inject_data(store, base, other, classes=[*WANTED, "angry"], quiet=True).id == made.id


def test_a_limit_draws_of_each_class_by_the_seed(shared, other_faces) -> None:
    store, base, other, _ = shared
    first = inject_data(store, base, other, classes=WANTED, limit=4, quiet=True)
    (step,) = first.metrics["injected"]
    there = dict(zip(CLASSES, other_faces.counts(), strict=True))
    assert step["offered"] == [min(4, there[name]) if name in WANTED else 0 for name in CLASSES]
    assert store.refs("data")["base+other-angry+disgust+surprise-4-s0"] == first.id
    # Whatever else is named: a class draws by itself.
    alone = load_faces(inject_data(store, base, other, classes=["angry"], limit=4, quiet=True))
    both = load_faces(first)
    angry = [faces.images[(faces.usage == 3) & (faces.labels == 0)] for faces in (alone, both)]
    assert np.array_equal(*angry)
    assert len(angry[0]) == step["added"][0]


def test_a_set_injected_into_itself_keeps_no_test_photograph(shared, base_faces) -> None:
    store, base, *_ = shared
    made = inject_data(store, base, base, classes=CLASSES, quiet=True)
    twins = find_twins(base_faces.images, quiet=True)
    tested = np.flatnonzero(base_faces.usage > 0)
    honest = ~np.isin(twins.groups, twins.groups[tested]) & (base_faces.images.std(axis=(1, 2)) >= 1)
    came = provenance_of(made)
    assert came is not None
    assert np.array_equal(came.row[len(base_faces) :], np.flatnonzero(honest))
    (step,) = made.metrics["injected"]
    assert step["copies"] == step["twins_of_training"] == honest.sum()
    assert came.sets == [base.id, base.id]


def test_a_third_set_is_added_to_what_has_one(shared, base_faces) -> None:
    store, base, other, made = shared
    third = store_faces(store, draw_faces(200, 3).faces("third"), {})
    both = inject_data(store, made, third, classes=["fear"], limit=3, name="both", quiet=True)
    came, before = provenance_of(both), load_faces(made)
    assert came is not None
    assert came.sets == [base.id, other.id, third.id]
    assert np.array_equal(load_faces(both).images[: len(before)], before.images)
    assert np.bincount(came.set).tolist() == [len(base_faces), len(before) - len(base_faces), 3]
    assert [step["name"] for step in both.metrics["injected"]] == ["other", "third"]
    added = sum(made.metrics["injected"][0]["added"])
    assert injected_text(store, both) == f"{added} angry, disgust, surprise faces of other + 3 fear faces of third"
    assert injected_text(store, base) == injected_text(store, base, 0) == ""
    assert injected_text(store, both, added + 3) == injected_text(store, both)
    assert injected_text(store, both, 2).endswith("3 fear faces of third, 2 of them in training")
    stamp = Protocol("both", "official", "test", injected=injected_text(store, both)).line()
    assert f"data both (with {injected_text(store, both)}) · split official" in stamp
    assert "data base · split" in Protocol("base", "official", "test").line()
    split = split_of(store, both, quiet=True)[1]
    assert len(split.train_rows) == len(base_faces.rows_of("Training")) + added + 3


def test_bad_rows_of_the_base_stay_counted(store: Store, base_faces, other_faces) -> None:
    lost = {"left_out": {"Training": 0, "PublicTest": 0, "PrivateTest": 2, "unknown": 0}}
    base = store_faces(store, base_faces, lost, skipped=["line 3: bad", "line 9: bad"])
    made = inject_data(store, base, store_faces(store, other_faces, {}), classes=["fear"], quiet=True)
    assert made.metrics["left_out"] == lost["left_out"]


def test_long_names_of_different_injections_differ(store: Store, base_faces, other_faces) -> None:
    base = store_faces(store, base_faces, {})
    kinds = [
        FaceSet(other_faces.images[k:], other_faces.labels[k:], other_faces.usage[k:], "long" * 24 + "ab"[k])
        for k in (0, 1)
    ]
    first, second = (store_faces(store, faces, {}) for faces in kinds)
    asked = [(first, 4, 0), (second, 4, 0), (first, 5, 0), (first, 4, 1), (first, None, 0)]
    names = [automatic_name(store, base, one, WANTED, limit, seed) for one, limit, seed in asked]
    assert len(set(names)) == 5
    assert all(len(name) == 100 and name.startswith("base+longlong") for name in names)
    assert names[0] == automatic_name(store, base, first, WANTED, 4, 0)
    made = inject_data(store, base, first, classes=WANTED, limit=4, quiet=True)
    assert store.refs("data")[names[0]] == made.id


def test_looks_at_test_faces_count_across_both_sets(shared) -> None:
    store, base, _, made = shared
    for number, data in enumerate((base, made, base), start=1):
        faces, split = load_faces(data), split_of(store, data, quiet=True)[1]
        looked = count_look(store, faces.images[split.test_rows], faces.images[split.select_rows], f"run{number}")
        assert looked == Look(number, 0)


def test_injected_rows_have_a_kind_of_their_own(shared, base_faces) -> None:
    store, _, _, made = shared
    added = sum(made.metrics["injected"][0]["added"])
    artifact = make_resampling(store, made, method="ros")
    rows, split = load_resampling(artifact), split_of(store, made)[1]
    check_lineage(rows, split)
    assert artifact.metrics["injected"] == (rows.kind == Kind.INJECTED).sum() == added
    assert (rows.parent_a[rows.kind == Kind.INJECTED] >= len(base_faces)).all()
    assert (rows.parent_a[rows.kind == Kind.ORIGINAL] < len(base_faces)).all()
    assert artifact.file("sheet.png").is_file()


def test_audit_and_show_know_injected_rows(shared) -> None:
    store, base, _, made = shared
    said = audit(store, made, quiet=True)
    assert said["twins"][INJECTED] == {"rows": 3, "identical": 1}
    plain = audit(store, base, quiet=True)
    for part in ("PublicTest", "PrivateTest", "within_training"):
        assert said["twins"][part] == plain["twins"][part]
    assert INJECTED not in plain["twins"]
    show_faces(load_faces(made), usage=INJECTED)
    with pytest.raises(UsageError, match="nothing to show"):
        show_faces(load_faces(base), usage=INJECTED)


def test_faces_are_added_before_aligning(shared) -> None:
    store, base, other, made = shared

    def aligned(data: Artifact) -> Artifact:
        """As ``align`` leaves a set, as far as this matters here."""
        faces = load_faces(data)

        def write(folder: Path) -> dict:
            np.savez(folder / "faces.npz", images=faces.images, labels=faces.labels, usage=faces.usage)
            return {"name": "aligned", "rows": len(faces)}

        return store.put("data", {"align": {}, "drop_faceless": None}, [data.id], write)

    for one, two in ((aligned(base), other), (base, aligned(other))):
        with pytest.raises(UsageError, match=r"is aligned, and faces are added before that: name (base|other)"):
            inject_data(store, one, two, classes=["fear"], quiet=True)
    assert injected_text(store, aligned(made)) == injected_text(store, made) != ""


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"classes": ["disgus"]}, "unknown class 'disgus'. Did you mean 'disgust'"),
        ({"classes": []}, "no class was named"),
        ({"classes": ["fear"], "limit": 0}, "limit is 0"),
        ({"classes": ["fear"], "seed": -1}, "seed is -1"),
        ({"classes": ["fear"], "name": "../x"}, "cannot be a name"),
        ({"classes": ["fear"], "name": "other"}, "a name of its own"),
    ],
)
def test_what_makes_no_sense_says_what_would(shared, asked: dict, message: str) -> None:
    store, base, other, _ = shared
    before = store.ids("data")
    with pytest.raises(UsageError, match=message):
        inject_data(store, base, other, **asked, quiet=True)
    assert store.ids("data") == before


def test_nothing_to_add_makes_nothing(store: Store, base_faces) -> None:
    base = store_faces(store, base_faces, {})
    tests = base_faces.rows_of("PrivateTest")
    few = FaceSet(base_faces.images[tests], np.full(len(tests), 1), np.zeros(len(tests)), "few")
    other = store_faces(store, few, {})
    with pytest.raises(UsageError, match="few has no face of class 'happy'"):
        inject_data(store, base, other, classes=["disgust", "happy"], quiet=True)
    with pytest.raises(BadData, match=rf"none of {len(tests)} faces may be added: .* of PrivateTest"):
        inject_data(store, base, other, classes=["disgust"], quiet=True)
    assert len(store.ids("data")) == 2
