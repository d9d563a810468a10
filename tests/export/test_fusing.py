"""Fusing untrained runs: what is stored, what is refused, and that nothing is stored when parity fails."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from ensemble_fer.errors import ParityError, SplitMisuse, StoreError, UsageError
from ensemble_fer.evaluate.predictions import load_predictions, save_predictions
from ensemble_fer.export import fusing
from ensemble_fer.export.fusing import fuse
from ensemble_fer.store import Artifact, Store
from ensemble_fer.types import CLASSES
from tests.export import making
from tests.export.making import untrained_run

pytestmark = pytest.mark.usefixtures("tiny_model")


@pytest.fixture
def quick_export(monkeypatch: pytest.MonkeyPatch) -> list:
    """The graph of ``making.members()`` in place of a new export; the list gets what was asked for."""
    asked = []

    def copied(members: dict, path: Path, metadata: dict, **asked_for: object) -> None:
        asked.append((list(members), metadata))
        path.write_bytes(making.graph_file().read_bytes())

    monkeypatch.setattr(fusing, "export_onnx", copied)
    return asked


@pytest.fixture
def trio(store: Store) -> list[str]:
    for seed, name in enumerate(making.NAMES):
        untrained_run(store, name, seed)
    return list(making.NAMES)


def test_ensemble_is_stored_checked_and_described(store: Store, trio: list[str]) -> None:
    made = fuse(store, trio[:2], name="duo", quiet=True)
    assert store.get("ensemble", "duo").id == made.id
    assert made.inputs == [store.get("run", name).id for name in trio[:2]]
    files = ["card.json", "ensemble.onnx", "manifest.json", "reliability.png", "select.npz"]
    assert sorted(p.name for p in made.path.iterdir()) == files
    metrics = made.metrics
    assert metrics["members"] == trio[:2]
    assert (metrics["rows_checked"], metrics["flips"]) == (15, 0)
    assert metrics["max_abs_diff"] <= 1e-5
    assert metrics["parameters"] == 2 * sum(p.numel() for p in making.tiny().parameters())
    assert metrics["latency"]["engine"] == "onnxruntime"
    assert metrics["latency"]["batch"] == 1
    assert metrics["size_mb"] == pytest.approx((made.path / "ensemble.onnx").stat().st_size / 1e6, abs=0.01)

    said = load_predictions(made.file("select.npz"))
    members = [load_predictions(store.get("run", name).file("select.npz")) for name in trio[:2]]
    mean = np.mean([p.probabilities() for p in members], axis=0)
    np.testing.assert_allclose(said.probabilities(), mean, atol=1e-6)
    assert said.source == made.id
    assert metrics["select"]["accuracy"] == pytest.approx((mean.argmax(1) == said.labels).mean())

    session = onnxruntime.InferenceSession(str(made.file("ensemble.onnx")))
    images = making.face_set().images[said.rows]
    np.testing.assert_allclose(session.run(["probabilities"], {"faces": images})[0], mean, atol=1e-5)
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["stamp"])["split"] == "official"
    assert about["ensemble"] == made.id
    for entry, name in zip(json.loads(about["members"]), trio, strict=False):
        run = store.get("run", name)
        assert (entry["name"], entry["run"]) == (name, run.id)
        assert entry["weights_sha256"] == run.manifest["files"]["weights.safetensors"]["sha256"]
    card = json.loads(made.file("card.json").read_text())
    assert card["labels"] == list(CLASSES)
    assert card["parity"]["rows_checked"] == 15


def test_same_runs_are_answered_from_disk(store: Store, trio: list[str], quick_export: list) -> None:
    made = fuse(store, trio, quiet=True)
    assert store.refs("ensemble") == {"ensemble": made.id}
    by_id = [store.get("run", name).id for name in trio]
    assert fuse(store, by_id, name="again", quiet=True).id == made.id
    assert len(quick_export) == 1
    assert quick_export[0][0] == trio
    assert store.refs("ensemble") == {"ensemble": made.id, "again": made.id}


def test_runs_given_by_id_are_those_and_bear_their_own_names(store: Store, trio: list[str], quick_export: list) -> None:
    ids = [store.get("run", name).id for name in trio]
    (store.root / "refs/run" / ids[0]).write_text(ids[1])
    made = fuse(store, ids, quiet=True)
    assert made.inputs == ids
    assert made.metrics["members"] == trio


def test_graph_of_other_weights_is_not_stored(store: Store, quick_export: list) -> None:
    for seed, name in enumerate(making.NAMES):
        untrained_run(store, name, seed + (name == "ros-s0") * 10)
    with pytest.raises(ParityError, match="probabilities_ros_s0: largest difference"):
        fuse(store, making.NAMES, quiet=True)
    assert store.ids("ensemble") == []
    assert store.refs("ensemble") == {}
    assert not list((store.root / "tmp").iterdir())


def test_predictions_of_other_weights_are_refused(store: Store, quick_export: list) -> None:
    for seed, name in enumerate(making.NAMES):
        untrained_run(store, name, seed, select_shift=0.1 if name == "plain" else 0)
    with pytest.raises(StoreError, match=r"\(plain\) are not those of its weights"):
        fuse(store, making.NAMES, quiet=True)
    assert store.ids("ensemble") == []


def test_runs_that_do_not_belong_together_are_refused(store: Store, trio: list[str]) -> None:
    untrained_run(store, "swapped", 7, split="official-swapped")
    untrained_run(store, "others", 8, data=making.face_set(seed=1))
    with pytest.raises(SplitMisuse, match=r"different splits \(official .* and official-swapped"):
        fuse(store, [trio[0], "swapped"], quiet=True)
    with pytest.raises(UsageError, match="different data sets"):
        fuse(store, [trio[0], "others"], quiet=True)
    first = store.get("run", trio[0])
    store.put("run", {**first.spec, "turned": True}, first.inputs, lambda f: turned_copy(first, f), name="turned")
    with pytest.raises(SplitMisuse, match="different select rows"):
        fuse(store, [trio[0], "turned"], quiet=True)
    assert store.ids("ensemble") == []


def turned_copy(run: Artifact, folder: Path) -> None:
    """The files of a run, the select rows turned round."""
    p = load_predictions(run.file("select.npz"))
    turned = {k: getattr(p, k)[::-1] for k in ("logits", "labels", "rows", "groups", "twin_in_train")}
    save_predictions(folder / "select.npz", replace(p, **turned))
    (folder / "weights.safetensors").write_bytes(run.file("weights.safetensors").read_bytes())


def test_requests_that_make_no_sense(store: Store, trio: list[str]) -> None:
    with pytest.raises(UsageError, match="no run to fuse"):
        fuse(store, [])
    with pytest.raises(UsageError, match="more than once"):
        fuse(store, [trio[0], trio[1], store.get("run", trio[0]).id])
    with pytest.raises(UsageError, match=r"unknown rule of fusion 'maen'.*mean"):
        fuse(store, trio, rule="maen")
    with pytest.raises(UsageError, match=r"unknown choice of temperatures 'bth'.*both"):
        fuse(store, trio, calibrate="bth")
    with pytest.raises(UsageError, match=r"unknown test-time augmentation 'tencrop'.*ten_crop"):
        fuse(store, trio, tta="tencrop")
    with pytest.raises(UsageError, match=r"selects none.*weights or greedy"):
        fuse(store, trio, rule="vote", select_from=True)
    with pytest.raises(UsageError, match="rows without a twin in training; expected 100"):
        fuse(store, trio, rule="weights")
    with pytest.raises(UsageError, match=r"unknown run.*'plane'.*'plain'"):
        fuse(store, ["plane"])
    with pytest.raises(UsageError, match="cannot be a name"):
        fuse(store, trio, name="no/name")
    assert store.ids("ensemble") == []


def test_a_heading_has_room_for_its_words() -> None:
    from ensemble_fer.export.fusing import _called

    assert _called("mean", ["a", "b"]) == "mean of a, b"
    assert (
        _called("mean", ["a-long-name-of-a-run-s0", "a-long-name-of-a-run-s1", "a-long-name-of-a-run-s2"])
        == "mean of 3 members"
    )
