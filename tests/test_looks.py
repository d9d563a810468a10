"""Looks: which faces have been scored and chosen on, whatever split or import they came through."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ensemble_fer.config import Recipe
from ensemble_fer.looks import Look, count_look, damage, faces_of, note_choosing
from ensemble_fer.models import MODELS
from ensemble_fer.report import evaluate
from ensemble_fer.store import Store
from ensemble_fer.train import train
from ensemble_fer.types import FaceSet
from tests.export import making
from tests.export.making import untrained_run

FACES = np.random.default_rng(5).integers(0, 256, (40, 6, 6), np.uint8)
PUBLIC, PRIVATE = FACES[:10], FACES[10:20]


def test_the_same_faces_in_another_order_are_the_same_part(store: Store) -> None:
    assert count_look(store, PRIVATE, PUBLIC, "a") == Look(1, 0)
    assert count_look(store, PRIVATE[::-1], PUBLIC[::-1], "a", "flip") == Look(2, 0)
    assert len(list((store.root / "seen").iterdir())) == 1


def test_one_shared_face_makes_it_a_look_and_none_does_not(store: Store) -> None:
    count_look(store, PRIVATE, PUBLIC, "a")
    assert count_look(store, FACES[19:25], FACES[30:], "b") == Look(2, 0)
    assert count_look(store, FACES[25:30], FACES[30:], "b") == Look(1, 0)


def test_choosing_on_test_faces_through_another_split_is_counted_in_faces(store: Store) -> None:
    note_choosing(store, PUBLIC, "official")
    note_choosing(store, PRIVATE[:7], "swapped")
    note_choosing(store, PRIVATE[5:9], "stratified")
    assert count_look(store, PRIVATE, PUBLIC, "official") == Look(1, 9)
    assert count_look(store, FACES[20:30], PUBLIC, "official") == Look(1, 0)


def test_a_face_of_both_parts_is_a_twin_and_no_choosing(store: Store) -> None:
    select = np.concatenate([PUBLIC, PRIVATE[:3]])
    note_choosing(store, select, "official")
    assert count_look(store, PRIVATE, select, "official") == Look(1, 0)
    assert count_look(store, PUBLIC[:4], PRIVATE, "swapped") == Look(1, 4)


def test_empty_pictures_do_not_tie_parts_together(store: Store) -> None:
    black = np.zeros((1, 6, 6), np.uint8)
    count_look(store, np.concatenate([FACES[20:25], black]), PUBLIC, "a")
    assert count_look(store, np.concatenate([PRIVATE, black]), PUBLIC, "a") == Look(1, 0)
    assert len(faces_of(np.concatenate([black, black + 9]))) == 0


def test_a_training_chooses_once_however_often_it_goes_on(store: Store) -> None:
    for _ in range(3):
        note_choosing(store, PUBLIC, "run")
    note_choosing(store, PUBLIC, "other")
    lines = [json.loads(line) for line in (store.root / "looks.jsonl").read_text().splitlines()]
    assert [(line["role"], line["source"]) for line in lines] == [("select", "run"), ("select", "other")]


@pytest.mark.parametrize("torn", [b'{"part": "12', b"\xff\xfe\n", b'{"part": "0123456789abcdef", "role": "test"}\n'])
def test_what_cannot_be_read_counts_as_a_look(store: Store, torn: bytes) -> None:
    store.root.mkdir(parents=True, exist_ok=True)
    (store.root / "looks.jsonl").write_bytes(torn)
    assert count_look(store, PRIVATE, PUBLIC, "a") == Look(2, 0)
    assert count_look(store, PRIVATE, PUBLIC, "a") == Look(3, 0)


@pytest.mark.parametrize("odd", [b"[1]", b'{"part": "0123456789abcdef", "role": "sElect"}', b'{"pa]rt": "012"}'])
def test_what_may_have_been_a_choice_counts_as_one_too(store: Store, odd: bytes) -> None:
    store.root.mkdir(parents=True, exist_ok=True)
    (store.root / "looks.jsonl").write_bytes(odd + b"\n")
    assert count_look(store, PRIVATE, PUBLIC, "a") == Look(2, 10)
    assert "damaged" in "".join(damage(store))


def test_lost_faces_of_a_choosing_count_as_all(store: Store) -> None:
    note_choosing(store, FACES[20:30], "a")
    (next((store.root / "seen").iterdir())).write_bytes(b"torn")
    assert count_look(store, PRIVATE, PUBLIC, "a") == Look(1, 10)


def test_training_on_the_swapped_split_shows_in_the_official_score(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODELS, "tiny", making.tiny)
    official = untrained_run(store, "official", 0)
    recipe = Recipe(split="official-swapped", epochs=1, batch_size=8)
    train(store, recipe, data="blocks0", quiet=True)
    protocol = evaluate(store, official.id, quiet=True).report.protocol
    # 15 faces of PrivateTest chose the checkpoint of the swapped training.
    assert (protocol.looks, protocol.chosen_on) == (1, 15)
    assert "15 OF ITS FACES HAVE CHOSEN CHECKPOINTS" in protocol.line()


def test_another_import_of_the_same_faces_is_the_same_test_part(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "tiny", making.tiny)
    given = making.face_set()
    order = np.random.default_rng(1).permutation(len(given))
    other = FaceSet(given.images[order], given.labels[order], given.usage[order], "shuffled")
    first = untrained_run(store, "first", 0, data=given)
    second = untrained_run(store, "second", 1, data=other)
    assert evaluate(store, first.id, quiet=True).report.protocol.looks == 1
    assert evaluate(store, second.id, quiet=True).report.protocol.looks == 2
