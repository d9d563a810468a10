"""Looking after a store: listing, removing, checking, cleaning."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import numpy as np
import pytest

from ensemble_fer.errors import EnsembleFerError, StoreError, UsageError
from ensemble_fer.locking import alone
from ensemble_fer.looks import count_look
from ensemble_fer.store import Artifact, Store
from ensemble_fer.upkeep import check_store, clean_store, list_runs, remove_listed, remove_source


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


def test_what_something_was_made_from_is_kept_whole(store: Store, made: dict[str, Artifact]) -> None:
    put(store, "run", "g", [made["data"].id, made["a"].id], "finetuned")
    with pytest.raises(StoreError, match="was used to make run finetuned"):
        remove_source(store, "alpha")
    assert store.ids("predictions") == [made["scored"].id], "nothing may be gone after a refusal"


def searched(store: Store, study: str, trials: int) -> Artifact:
    """The result of a search, and the folders that it works in."""
    (store.root / "tune" / study).mkdir(parents=True, exist_ok=True)
    (store.root / "tune" / study / "study.db").write_text("trials")
    recipe = {"model": "compact", "resampling": "none", "split": "official", "seed": 0}
    metrics = {"name": study, "best": {"value": 0.4}, "trial_seconds": 12.5}
    spec = {"study": study, "tunes": recipe, "trials": trials}
    return store.put("tuning", spec, [], lambda folder: metrics, name=study)


def test_searches_are_listed_and_removed_whole(store: Store, made: dict[str, Artifact]) -> None:
    first = searched(store, "mine", 3)
    with pytest.warns(UserWarning, match="now means"):
        second = searched(store, "mine", 5)
    other = searched(store, "other", 3)
    checkpoints = store.root / "unfinished/tune-mine/7-abc"
    checkpoints.mkdir(parents=True)
    rows = {row["id"]: row for row in list_runs(store)}
    assert rows[second.id] == {
        "id": second.id,
        "name": "mine",
        "kind": "tuning",
        "model": "compact",
        "resampling": "none",
        "split": "official",
        "seed": 0,
        "macro_f1": 0.4,
        "seconds": 12.5,
        "created": second.manifest["created"],
    }
    assert rows[first.id]["name"] == first.id
    gone, folders = remove_listed(store, "mine")
    assert {a.id for a in gone} == {first.id, second.id}
    assert folders == [store.root / "tune/mine", store.root / "unfinished/tune-mine"]
    assert not any(folder.exists() for folder in folders)
    assert store.ids("tuning") == [other.id]
    assert remove_listed(store, "alpha") == ([made["scored"], made["a"]], [])
    with pytest.raises(UsageError, match="run or ensemble or tuning"):
        remove_listed(store, "mine")


def test_a_study_without_a_result_is_listed_and_removed_by_its_name(store: Store, made: dict[str, Artifact]) -> None:
    for name in ("begun", "alpha"):
        (store.root / "tune" / name).mkdir(parents=True)
    studies = [row for row in list_runs(store) if row["kind"] == "study"]
    assert [(row["name"], row["id"], row["macro_f1"]) for row in studies] == [
        ("alpha", None, None),
        ("begun", None, None),
    ]
    assert remove_listed(store, "begun") == ([], [store.root / "tune/begun"])
    remove_listed(store, "alpha")
    assert store.ids("run") == [made["b"].id], "the run of that name"
    assert remove_listed(store, "study:alpha") == ([], [store.root / "tune/alpha"])


def test_a_study_that_is_being_searched_stays(store: Store) -> None:
    from ensemble_fer.tune.storage import Presence

    result = searched(store, "mine", 3)
    with Presence(store.root / "tune/mine/study.db.workers"):
        with pytest.raises(EnsembleFerError, match="mine is being searched"):
            remove_listed(store, "mine")
        assert store.ids("tuning") == [result.id]
        assert (store.root / "tune/mine/study.db").exists()
    assert remove_listed(store, "mine")[0] == [result]


def test_a_manifest_of_somebody_else_removes_nothing_outside(store: Store) -> None:
    victim = store.root.parent / "victim"
    (victim / "kept").mkdir(parents=True)
    for number, study in enumerate(("../../victim", str(victim), "..", "")):
        store.put("tuning", {"study": study}, [], lambda folder: {}, name=f"bad{number}")
        with pytest.raises(UsageError, match="cannot be a name"):
            remove_listed(store, f"bad{number}")
    assert (victim / "kept").is_dir()
    assert (store.root / "tuning").is_dir()


def test_a_search_of_another_version_is_listed(store: Store) -> None:
    store.put("tuning", {"tunes": {"model": "compact"}}, [], lambda folder: {}, name="old")
    (row,) = list_runs(store)
    assert (row["name"], row["model"], row["macro_f1"], row["seconds"]) == ("old", "compact", None, None)


def test_a_run_without_a_select_part_is_listed(store: Store) -> None:
    store.put("run", {"recipe": {"train_on": "train+select"}}, [], lambda folder: {"select": None})
    assert list_runs(store)[0]["macro_f1"] is None


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
    assert clean_store(store) == {"removed": [str(old)], "kept": [], "bytes": 5}
    assert new.exists()
    assert unfinished.exists()
    assert clean_store(store, unfinished=True)["removed"] == [str(unfinished)]
    assert new.exists()


def test_clean_finds_files_half_written_and_links(store: Store, made: dict[str, Artifact], tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").write_text("mine")
    refs = store.root / "refs" / "data"
    old, young, others = refs / ".fer2013.0a1b2c3d", refs / ".fer2013.0a1b2c3e", refs / ".hidden"
    for path in (old, young, others):
        path.write_text("123")
    (store.root / "tmp").mkdir(exist_ok=True)
    link, file = store.root / "tmp" / "link", store.root / "tmp" / "file"
    link.symlink_to(outside)
    file.write_text("1234")
    long_ago = time.time() - 2 * 24 * 3600
    for path in (old, others, link, file):
        os.utime(path, (long_ago, long_ago), follow_symlinks=False)
    found = clean_store(store)
    assert set(found["removed"]) == {str(old), str(link), str(file)}
    assert found["kept"] == []
    assert not any(path.exists() or path.is_symlink() for path in (old, link, file))
    assert all(path.exists() for path in (young, others))
    assert (outside / "mine").read_text() == "mine"
    assert store.get("data", "fer2013").id == made["data"].id


def test_clean_keeps_checkpoints_of_what_is_being_made(store: Store) -> None:
    folders = [store.root / "unfinished" / name for name in ("run-a", "run-b", "tune-held", "tune-left")]
    for folder in folders:
        (folder / "trial-workers").mkdir(parents=True)
        (folder / "trial-workers" / "token").write_text("")
    with alone(store.locks / "run-a"), (folders[2] / "trial-workers" / "token").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        found = clean_store(store, unfinished=True)
    assert set(found["kept"]) == {str(folders[0]), str(folders[2])}
    assert set(found["removed"]) == {str(folders[1]), str(folders[3])}
    assert [folder.exists() for folder in folders] == [True, False, True, False]
    assert clean_store(store, unfinished=True)["kept"] == []
