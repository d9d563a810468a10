"""On a Ray cluster of two nodes, of which one is lost, a study ends with what it gives in one process."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from ensemble_fer.errors import MissingError
from ensemble_fer.store import Store
from ensemble_fer.study.cluster import NoRoom, _check_room
from ensemble_fer.study.reading import read_study
from ensemble_fer.study.running import run_study
from tests.study.test_running import FILE

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'ensemble-fer[cluster]'")


@pytest.fixture
def two_nodes():
    """The address of a cluster with a head that does nothing and two nodes with a processor each, and the cluster."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    memory = 100 << 20
    # Not 127.0.0.1, for which Ray takes the address by which others see this machine.
    settings = {"node_ip_address": "127.0.0.2", "object_store_memory": memory, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **settings})
    nodes = [cluster.add_node(num_cpus=1, **settings) for _ in range(2)]
    yield cluster, nodes
    ray.shutdown()
    cluster.shutdown()


def said(found: dict) -> list:
    return [
        (row["name"], row.get("id"), row.get("select"), (row.get("test") or {}).get("accuracy"))
        for row in found["rows"]
    ]


def test_a_node_that_is_lost_changes_nothing(tmp_path: Path, two_nodes) -> None:
    (tmp_path / "little.toml").write_text(FILE.replace("epochs = 1", "epochs = 3"))
    study = read_study(tmp_path / "little.toml")
    alone = run_study(Store(tmp_path / "alone"), study, threads=1, quiet=True)
    cluster, nodes = two_nodes
    store = Store(tmp_path / "shared")
    lost: list[float] = []

    def lose_one() -> None:
        """When both nodes are training."""
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            if len(list((store.root / "unfinished").glob("run-*/history.jsonl"))) >= 2:
                cluster.remove_node(nodes[1], allow_graceful=False)
                lost.append(time.monotonic())
                return
            time.sleep(0.02)

    killer = threading.Thread(target=lose_one, daemon=True)
    killer.start()
    found = run_study(store, study, ray=cluster.address, threads=1, quiet=True)
    killer.join()
    assert lost, "no node was lost while it trained"
    assert said(found) == said(alone)
    assert not list((store.root / "unfinished").glob("run-*/checkpoint*")), "nothing is left unfinished"


SEARCH = """
title = "Searched"
asks = "Is a search shared?"
[recipe]
epochs = 1
epoch_rows = 64
[[stage]]
name = "search"
search = { space = ["khaireddin_schedules"], trials = 6, workers = 2 }
recipe = { model = "compact", batch_size = 32, augmentation = "light" }
[[stage]]
name = "searched"
tuned = "search"
[scale.smoke]
data = "drawn:300"
seeds = [0]
"""


def test_two_nodes_share_the_trials_of_a_search(tmp_path: Path, two_nodes) -> None:
    (tmp_path / "found.toml").write_text(SEARCH)
    study = read_study(tmp_path / "found.toml")
    alone = run_study(Store(tmp_path / "alone"), study, threads=1, quiet=True)
    cluster, _ = two_nodes
    store = Store(tmp_path / "shared")
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    found = run_study(store, study, ray=cluster.address, storage=url, threads=1, quiet=True)
    assert (tmp_path / "shared.db").is_file()
    for one, other in zip(alone["rows"], found["rows"], strict=True):
        assert "problem" not in one
        assert "problem" not in other
        assert one.get("chosen") == other.get("chosen")
        assert one.get("trials") == other.get("trials")
        assert one["select"] == other["select"]
    searched = store.by_id("tuning", found["rows"][0]["id"])
    trials = json.loads(searched.file("trials.json").read_text())
    assert [trial["state"] for trial in trials].count("complete") == 6


def test_a_share_that_no_node_has_is_said() -> None:
    nodes = [{"Alive": True, "Resources": {"CPU": 2.0}}, {"Alive": False, "Resources": {"CPU": 8.0, "GPU": 1.0}}]
    known = SimpleNamespace(nodes=lambda: nodes)
    _check_room(known, 2, 0, local=True)
    with pytest.raises(MissingError, match=r"no node has 1 processors and 1 GPUs.*there are: 2 and 0"):
        _check_room(known, 1, 1, local=True)
    with pytest.warns(NoRoom, match="It waits until one joins"):
        _check_room(known, 4, 0, local=False)


def test_no_cluster_is_said(tmp_path: Path) -> None:
    (tmp_path / "little.toml").write_text(FILE)
    with pytest.raises(MissingError, match=r"no Ray cluster at 127\.0\.0\.1:1"):
        run_study(Store(tmp_path / "s"), read_study(tmp_path / "little.toml"), ray="127.0.0.1:1", quiet=True)
