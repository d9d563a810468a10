"""Looking after a store: listing, removing, checking, cleaning."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from ensemble_fer.errors import StoreError
from ensemble_fer.looks import count_look
from ensemble_fer.store import Artifact, Store
from ensemble_fer.upkeep import check_store, clean_store, list_runs, remove_source


def put(store: Store, kind: str, tag: str, inputs: list[str], name: str | None = None) -> Artifact:
    def write(folder: Path) -> dict:
        (folder / "file.txt").write_text(tag * 10)
        return {"select": {"macro_f1": 0.5}}

    recipe = {"model": "compact", "resampling": "ros", "split": "official", "seed": 0}
    return store.put(kind, {"tag": tag, "recipe": recipe}, inputs, write, name=name)


@pytest.fixture
def made(store: Store) -> dict[str, Artifact]:
    data = put(store, "data", "d", [], "fer2013")
    a, b = (put(store, "run", tag, [data.id], tag) for tag in ("alpha", "beta"))
    scored = put(store, "predictions", "p", [a.id])
    return {"data": data, "a": a, "b": b, "scored": scored}


def test_list_names_runs_and_ensembles(store: Store, made: dict[str, Artifact]) -> None:
    put(store, "ensemble", "e", [made["a"].id, made["b"].id], "duo")
    rows = list_runs(store)
    assert {(r["name"], r["kind"]) for r in rows} == {("alpha", "run"), ("beta", "run"), ("duo", "ensemble")}
    assert rows[0]["macro_f1"] == 0.5
    assert rows[0]["model"] == "compact"
    assert list_runs(Store(store.root / "nothing")) == []


def test_remove_takes_the_predictions_with_it(store: Store, made: dict[str, Artifact]) -> None:
    faces = np.random.default_rng(0).integers(0, 256, (6, 8, 8), np.uint8)
    assert count_look(store, faces[:4], faces[4:], made["a"].id).looks == 1
    gone = remove_source(store, "alpha")
    assert {a.id for a in gone} == {made["a"].id, made["scored"].id}
    assert store.ids("run") == [made["b"].id]
    assert store.ids("predictions") == []
    assert "alpha" not in store.refs("run")
    assert count_look(store, faces[:4], faces[4:], made["b"].id).looks == 2, (
        "removing a run must not hide that the test part was looked at"
    )


def test_remove_refuses_a_member_of_an_ensemble(store: Store, made: dict[str, Artifact]) -> None:
    put(store, "ensemble", "e", [made["a"].id, made["b"].id], "duo")
    with pytest.raises(StoreError, match="duo"):
        remove_source(store, "alpha")
    assert store.ids("predictions") == [made["scored"].id], "nothing may be gone after a refusal"
    remove_source(store, "duo")
    remove_source(store, "alpha")


def test_check_finds_changed_files_lost_inputs_and_names(store: Store, made: dict[str, Artifact]) -> None:
    found = check_store(store)
    assert found["problems"] == []
    assert found["artifacts"] == 4
    assert found["bytes"] == sum(10 * len(tag) for tag in ("d", "alpha", "beta", "p"))
    (made["a"].path / "file.txt").write_text("other")
    made["data"].path.rename(store.root / "elsewhere")
    problems = "\n".join(check_store(store)["problems"])
    assert "file.txt is not what was written" in problems
    assert f"run {made['b'].id} was made from {made['data'].id}" in problems
    assert "name 'fer2013' means data" in problems


def test_clean_leaves_what_another_process_may_be_writing(store: Store) -> None:
    old, new, unfinished = (store.root / p for p in ("tmp/old", "tmp/new", "unfinished/run-1"))
    for folder in (old, new, unfinished):
        folder.mkdir(parents=True)
        (folder / "file").write_text("12345")
    long_ago = time.time() - 2 * 24 * 3600
    os.utime(old, (long_ago, long_ago))
    assert clean_store(store) == {"removed": [str(old)], "bytes": 5}
    assert new.exists()
    assert unfinished.exists()
    assert clean_store(store, unfinished=True)["removed"] == [str(unfinished)]
    assert new.exists()
