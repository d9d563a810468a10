"""Evaluating runs and ensembles: the numbers, the looks, and what is answered from disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ensemble_fer import report
from ensemble_fer.config import Recipe
from ensemble_fer.data.importing import store_faces
from ensemble_fer.data.splits import make_split
from ensemble_fer.data.twins import groups_of, twins_of
from ensemble_fer.errors import MissingError, SplitMisuse, UsageError
from ensemble_fer.evaluate.predictions import load_predictions
from ensemble_fer.models import MODELS
from ensemble_fer.report import evaluate
from ensemble_fer.scoring import VERSION, find_source
from ensemble_fer.store import Artifact, Store
from ensemble_fer.train import predict_rows, train
from ensemble_fer.types import FaceSet, TwinMap
from tests.export import making
from tests.export.making import untrained_run


@pytest.fixture
def pair(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[Artifact]:
    monkeypatch.setitem(MODELS, "tiny", making.tiny)
    return [untrained_run(store, name, seed) for seed, name in enumerate(("first", "second"))]


def ensemble_of(store: Store, runs: list[Artifact], name: str = "duo") -> Artifact:
    """An ensemble without a graph: scoring reads predictions only."""

    def write(folder: Path) -> None:
        (folder / "select.npz").write_bytes(runs[0].file("select.npz").read_bytes())

    return store.put("ensemble", {"rule": "mean"}, [run.id for run in runs], write, name=name)


def looks(store: Store) -> list[tuple[str, str]]:
    path = store.root / "looks.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [(line["source"], line["tta"]) for line in lines]


def test_test_part_is_scored_by_the_weights(store: Store, pair: list[Artifact]) -> None:
    done = evaluate(store, "first", quiet=True)
    given = making.face_set()
    rows = np.arange(55, 70)
    np.testing.assert_array_equal(done.predictions.rows, rows)
    np.testing.assert_allclose(done.predictions.logits, predict_rows(making.drawn(0), given.images[rows]), atol=1e-5)
    np.testing.assert_array_equal(done.predictions.labels, given.labels[rows])
    # Row 69 repeats row 0, which is a training row.
    assert done.predictions.twin_in_train.tolist() == [False] * 14 + [True]
    assert done.predictions.groups[-1] == 0
    assert done.report.twin_free["rows"] == 14
    found = done.report.to_dict()
    assert found == done.artifact.metrics
    right = done.predictions.logits.argmax(1) == given.labels[rows]
    assert found["accuracy"] == pytest.approx(right.mean())
    protocol = found["protocol"]
    assert (protocol["role"], protocol["tta"], protocol["looks"], protocol["split"]) == ("test", "none", 1, "official")
    assert done.artifact.file("confusion.png").read_bytes().startswith(b"\x89PNG")
    assert (done.artifact.inputs, done.source.id) == ([pair[0].id], pair[0].id)
    assert done.artifact.spec == {"source": pair[0].id, "role": "test", "tta": "none", "version": VERSION}


def test_the_stamp_counts_test_rows_with_a_twin_in_the_select_part(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODELS, "tiny", making.tiny)
    given = making.face_set()
    images = given.images.copy()
    images[[60, 61]] = images[[45, 45]]  # two test rows repeat a row of the select part
    images[50] = images[0]  # and row 69, whose photograph is in the training part too
    faces = FaceSet(images, given.labels, given.usage, "repeats")
    runs = [untrained_run(store, name, seed, data=faces) for seed, name in enumerate(("first", "second"))]
    duo = ensemble_of(store, runs)
    done = evaluate(store, duo.id, quiet=True)
    member = evaluate(store, "first", quiet=True).report
    for protocol in (done.report.protocol, member.protocol):
        assert protocol.twins_in_select == 3
        assert protocol.line().endswith(" · 3 of its rows have a twin in the select part")
        assert protocol.chosen_on == 0
    # The twin-free score is about the training part: it leaves out row 69 alone.
    assert member.twin_free["rows"] == 14
    select = evaluate(store, "first", role="select", quiet=True).report.protocol
    assert (select.twins_in_select, "have a twin" in select.line()) == (0, False)


def test_a_left_out_injected_row_makes_no_test_row_known(store: Store) -> None:
    """Fold 0 tests row a and trains row b; between them lies an injected print of both, which does not train."""
    n = 120
    usage = np.append(np.zeros(n, np.uint8), [3, 3]).astype(np.uint8)
    labels = (np.arange(n + 2) % 7).astype(np.uint8)
    plain = FaceSet(making.faces(n), labels[:n], usage[:n], "plain")
    nothing = TwinMap(np.arange(n), np.zeros((0, 2)), np.zeros(0), np.zeros(0), np.zeros(0, bool))
    split = make_split(plain, nothing, "kfold:4:0")
    test, select, train_row, other = split.test_rows[3], split.select_rows[3], *split.train_rows[:2]
    pairs = np.sort([[test, n], [train_row, n], [select, n + 1], [other, n + 1]], 1)
    ones = np.ones(len(pairs))
    twins = TwinMap(groups_of(pairs, n + 2), pairs, ones, 0 * ones, np.zeros(len(pairs), bool))
    data = store_faces(store, FaceSet(making.faces(n + 2), labels, usage, "injected"), {})
    twins_of(store, data, known=twins)
    run = train(store, Recipe(epochs=1, batch_size=32, split="kfold:4:0"), name="r", threads=1, quiet=True)
    for role, row in (("test", test), ("select", select)):
        said = evaluate(store, run.id, role=role, quiet=True).predictions
        assert row in said.rows
        assert not said.twin_in_train.any()
        assert np.array_equal(said.groups, said.rows)


def test_a_member_is_found_by_its_id_whatever_is_called_so(store: Store, pair: list[Artifact]) -> None:
    first, second = pair
    duo = ensemble_of(store, [first])
    (store.root / "refs/run" / first.id).write_text(second.id)
    (store.root / "refs/ensemble" / first.id).write_text(duo.id)
    for kind in ("data", "split", "twins"):
        (store.root / "refs" / kind).mkdir(exist_ok=True)
        (other,) = [i for k, i in zip(("data", "split", "twins"), first.inputs, strict=True) if k == kind]
        (store.root / "refs" / kind / other).write_text("0123456789ab")
    said = evaluate(store, "duo", quiet=True).predictions
    np.testing.assert_array_equal(
        said.logits.argmax(1), evaluate(store, "first", quiet=True).predictions.logits.argmax(1)
    )
    assert {source for source, _ in looks(store)} == {first.id, duo.id}
    assert find_source(store, first.id).id == first.id


def test_what_a_run_was_made_from_and_is_gone_is_named(store: Store, pair: list[Artifact]) -> None:
    (store.root / "split" / pair[0].inputs[1]).rename(store.root / "elsewhere")
    with pytest.raises(MissingError, match=f"split {pair[0].inputs[1]} is gone"):
        evaluate(store, "first", quiet=True)
    assert looks(store) == []
    pair[0].path.rename(store.root / "first")
    with pytest.raises(MissingError, match=f"run name 'first' means {pair[0].id}, which is gone"):
        evaluate(store, "first", quiet=True)


def test_each_new_score_of_the_test_part_is_a_look_and_reading_is_none(store: Store, pair: list[Artifact]) -> None:
    first, second = (run.id for run in pair)
    assert not evaluate(store, "first", quiet=True).stored
    again = evaluate(store, first, quiet=True)
    assert again.stored
    assert again.report.protocol.looks == 1
    assert evaluate(store, "first", tta="flip", quiet=True).report.protocol.looks == 2
    assert evaluate(store, "second", quiet=True).report.protocol.looks == 3
    assert looks(store) == [(first, "none"), (first, "flip"), (second, "none")]


def test_select_part_counts_no_look(store: Store, pair: list[Artifact]) -> None:
    done = evaluate(store, "first", role="select", quiet=True)
    kept = load_predictions(pair[0].file("select.npz"))
    np.testing.assert_array_equal(done.predictions.logits, kept.logits)
    assert done.report.protocol.role == "select"
    flipped = evaluate(store, "first", role="select", tta="flip", quiet=True)
    images = making.face_set().images[kept.rows]
    np.testing.assert_allclose(flipped.predictions.logits, predict_rows(making.drawn(0), images, "flip"), atol=1e-5)
    assert (flipped.report.protocol.tta, flipped.report.protocol.looks) == ("flip", 0)
    assert looks(store) == []


def test_ensemble_is_the_mean_of_its_members_and_looks_through_each(store: Store, pair: list[Artifact]) -> None:
    duo = ensemble_of(store, pair)
    evaluate(store, "first", tta="ten_crop", quiet=True)
    done = evaluate(store, "duo", tta="ten_crop", quiet=True)
    assert looks(store) == [(i, "ten_crop") for i in (pair[0].id, pair[1].id, duo.id)]
    members = [evaluate(store, name, tta="ten_crop", quiet=True).predictions for name in ("first", "second")]
    mean = np.mean([p.probabilities() for p in members], axis=0)
    np.testing.assert_allclose(done.predictions.probabilities(), mean, atol=1e-6)
    assert done.predictions.source == duo.id
    assert [p.protocol.looks for p in (*members, done.predictions)] == [1, 2, 3]
    assert len(looks(store)) == 3
    assert evaluate(store, "duo", role="select", quiet=True).predictions.source == duo.id


def test_a_process_that_dies_while_predicting_has_looked(
    store: Store, pair: list[Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ensemble_fer.train.running.predict_rows", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate(store, "first", quiet=True)
    assert looks(store) == [(pair[0].id, "none")]
    assert store.ids("predictions") == []
    monkeypatch.undo()


def test_what_fails_before_predicting_has_not_looked(store: Store, pair: list[Artifact]) -> None:
    (pair[0].path / "weights.safetensors").write_bytes(b"torn")
    with pytest.raises(Exception, match=r"weights\.safetensors is not what was written"):
        evaluate(store, "first", quiet=True)
    assert looks(store) == []


def test_requests_that_make_no_sense(store: Store, pair: list[Artifact]) -> None:
    with pytest.raises(UsageError, match=r"unknown test-time augmentation 'tencrop'.*'ten_crop'"):
        evaluate(store, "first", tta="tencrop")
    with pytest.raises(UsageError, match="unknown part 'tset'"):
        evaluate(store, "first", role="tset")
    with pytest.raises(SplitMisuse, match="measure memory"):
        evaluate(store, "first", role="train")
    with pytest.raises(UsageError, match=r"unknown run or ensemble.*'frist'.*'first'"):
        evaluate(store, "frist")
    assert looks(store) == []
    assert set(report.TTA) == set(__import__("ensemble_fer.train", fromlist=["TTA"]).TTA)


def test_a_name_of_both_kinds_must_say_which(store: Store, pair: list[Artifact]) -> None:
    duo = ensemble_of(store, pair, name="first")
    with pytest.raises(UsageError, match="run:first or ensemble:first"):
        find_source(store, "first")
    assert find_source(store, "run:first").id == pair[0].id
    assert find_source(store, "ensemble:first").id == duo.id
    assert find_source(store, duo.id[:6]).id == duo.id
    assert find_source(store, "second").id == pair[1].id
    with pytest.raises(UsageError, match="unknown kind before the colon 'rum'"):
        find_source(store, "rum:first")
