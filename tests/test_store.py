"""Names, ids and manifests of a store: what means what, and what is said of what is gone or damaged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ensemble_fer.errors import MissingError, StoreError, UsageError
from ensemble_fer.leaderboard import leaderboard
from ensemble_fer.store import Artifact, DamagedArtifact, NameMoved, Store
from ensemble_fer.types import Role
from ensemble_fer.upkeep import check_store, list_runs


def put(
    store: Store, tag: str, *, kind: str = "run", inputs: tuple[str, ...] = (), name: str | None = None
) -> Artifact:
    def write(folder: Path) -> dict:
        (folder / "file.txt").write_text(tag)
        return {}

    return store.put(kind, {"tag": tag}, inputs, write, name=name)


def force_name(store: Store, kind: str, name: str, content: str | bytes) -> Path:
    """A reference as another program or an older version may have left it."""
    path = store.root / "refs" / kind / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_an_exact_id_is_never_taken_for_a_name(store: Store) -> None:
    own, other = put(store, "own"), put(store, "other")
    force_name(store, "run", own.id, other.id)
    assert store.get("run", own.id).id == own.id
    assert store.by_id("run", own.id).id == own.id
    force_name(store, "run", "plain", other.id)
    assert store.get("run", "plain").id == other.id
    assert store.get("run", own.id[:6]).id == own.id
    for not_an_id in ("plain", own.id[:6]):
        with pytest.raises(MissingError):
            store.by_id("run", not_an_id)


def test_what_looks_like_an_id_cannot_become_a_name(store: Store) -> None:
    made = put(store, "own")
    for name in (made.id, "0123456789ab", "ABCDEF012345"):
        with pytest.raises(UsageError, match="12 hexadecimal digits"):
            store.set_ref("run", name, made.id)
        with pytest.raises(UsageError, match="12 hexadecimal digits"):
            put(store, "another", name=name)
    assert store.ids("run") == [made.id]
    store.set_ref("run", "0123456789abc", made.id)


def test_a_name_whose_artifact_is_gone_is_missing_and_not_unknown(store: Store) -> None:
    made = put(store, "faces", kind="data", name="synthetic")
    made.path.rename(store.root / "elsewhere")
    with pytest.raises(MissingError, match=f"data name 'synthetic' means {made.id}, which is gone") as caught:
        store.get("data", "synthetic")
    assert "Did you mean" not in str(caught.value)
    assert str(store.root / "refs/data/synthetic") in str(caught.value)
    with pytest.raises(MissingError, match=f"data {made.id} is gone from store"):
        store.by_id("data", made.id)
    with pytest.raises(UsageError, match="unknown data"):
        store.get("data", "other")
    with pytest.warns(NameMoved) as warned:
        put(store, "other faces", kind="data", name="synthetic")
    assert "still there" not in str(warned[0].message)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"", b"two words\n", b"../../etc"])
def test_a_damaged_reference_is_named_with_its_path(store: Store, content: bytes) -> None:
    path = force_name(store, "run", "mine", content)
    with pytest.raises(StoreError, match="damaged reference") as caught:
        store.get("run", "mine")
    assert str(path) in str(caught.value)


DAMAGE = {
    "cut off": lambda m: json.dumps(m)[:40],
    "empty": lambda m: "",
    "a list": lambda m: "[1]",
    "nested too deep": lambda m: "[" * 100_000,
    "no files": lambda m: json.dumps({k: v for k, v in m.items() if k != "files"}),
    "files a list": lambda m: json.dumps({**m, "files": ["file.txt"]}),
    "file without size": lambda m: json.dumps({**m, "files": {"file.txt": {"sha256": ""}}}),
    "inputs a text": lambda m: json.dumps({**m, "inputs": "abc"}),
    "created a number": lambda m: json.dumps({**m, "created": 7}),
    "seconds a text": lambda m: json.dumps({**m, "seconds": "7"}),
    "of another spec": lambda m: json.dumps({**m, "spec": {"tag": "forged"}}),
    "of another kind": lambda m: json.dumps({**m, "kind": "data"}),
    "another id": lambda m: json.dumps({**m, "id": "0123456789ab"}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_manifest_is_named_and_stops_only_what_needs_it(store: Store, damage: str) -> None:
    data = put(store, "faces", kind="data", name="fer2013")
    good = put(store, "good", inputs=(data.id,), name="good")
    bad = put(store, "bad", inputs=(data.id,), name="bad")
    file = bad.path / "manifest.json"
    file.write_text(DAMAGE[damage](bad.manifest))
    for ask in (lambda: store.get("run", "bad"), lambda: store.find("run", {"tag": "bad"}, [data.id])):
        with pytest.raises(StoreError, match=r"manifest\.json is no manifest of this run.*Remove") as caught:
            ask()
        assert str(file) in str(caught.value)
    assert store.get("run", "good").id == good.id
    with pytest.warns(DamagedArtifact, match=bad.id):
        assert [row["id"] for row in list_runs(store)] == [good.id]
    with pytest.warns(DamagedArtifact) as warned:
        assert [row["id"] for row in leaderboard(store)["rows"]] == [good.id]
    assert len(warned) == 1
    with pytest.raises(StoreError, match=bad.id):
        store.remove("data", "fer2013")
    assert store.ids("data") == [data.id]


def test_check_reports_every_damage_and_goes_on(store: Store) -> None:
    whole = put(store, "whole", name="whole")
    lost = put(store, "lost")
    bad = [put(store, damage) for damage in DAMAGE]
    for artifact, damage in zip(bad, DAMAGE.values(), strict=True):
        (artifact.path / "manifest.json").write_text(damage(artifact.manifest))
    (lost.path / "manifest.json").unlink()
    force_name(store, "run", "bytes", b"\xff\xfe")
    force_name(store, "run", "stale", "0123456789ab\n")
    (store.root / "refs/run/folder").mkdir()
    (whole.path / "file.txt").unlink()
    (store.root / "data/copied-by-hand").mkdir(parents=True)
    problems = check_store(store)["problems"]
    for said in (*(str(a.path) for a in (*bad, lost, whole)[:-1]), "no file 'file.txt'", "'bytes'", "'stale'"):
        assert sum(said in line for line in problems) == 1, said
    for said in (str(store.root / "refs/run/folder"), "copied-by-hand"):
        assert sum(said in line for line in problems) == 1, said
    assert len(problems) == len(DAMAGE) + 6


def test_names_in_messages_are_words() -> None:
    from ensemble_fer.errors import unknown_name

    said = str(unknown_name("part", "tset", Role))
    assert said == "unknown part 'tset'. Did you mean 'test' or 'select'? Known: select, test, train."


MANY = """
import sys, time
from pathlib import Path
from ensemble_fer.store import Store

store, log = Store(sys.argv[1]), Path(sys.argv[2])
for tag in ("same", "other", sys.argv[3]):
    def write(folder: Path) -> dict:
        with log.open("a") as file:
            file.write(tag + "\\n")
        time.sleep(0.2)
        (folder / "file.txt").write_text(tag)
        return {}
    store.put("run", {"tag": tag}, [], write, name=tag)
"""


def test_eight_processes_make_each_thing_once(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log"
    each = [[sys.executable, "-W", "ignore", "-c", MANY, str(store.root), str(log), f"own-{i}"] for i in range(8)]
    processes = [subprocess.Popen(command) for command in each]
    assert [process.wait(timeout=60) for process in processes] == [0] * 8
    tags = sorted(["same", "other", *(f"own-{i}" for i in range(8))])
    assert sorted(log.read_text().split()) == tags
    assert sorted(store.refs("run")) == tags
    assert check_store(store)["problems"] == []
    assert not list(store.locks.iterdir())
    assert not list((store.root / "tmp").iterdir())
