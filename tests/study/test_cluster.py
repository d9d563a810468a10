"""On a Ray cluster of two nodes, of which one is lost, a study ends with what it gives in one process."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from ensemble_fer.errors import MissingError
from ensemble_fer.store import Store
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
        deadline = time.monotonic() + 60
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


def test_no_cluster_is_said(tmp_path: Path) -> None:
    (tmp_path / "little.toml").write_text(FILE)
    with pytest.raises(MissingError, match=r"no Ray cluster at 127\.0\.0\.1:1"):
        run_study(Store(tmp_path / "s"), read_study(tmp_path / "little.toml"), ray="127.0.0.1:1", quiet=True)
