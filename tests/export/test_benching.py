"""Timings of forms side by side: all rows, the statistics of what was timed, and the same answers from every form."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ensemble_fer.errors import UsageError
from ensemble_fer.export import benching
from ensemble_fer.export.bench_figure import bench_figure
from ensemble_fer.export.benching import VARIANTS, bench, goals
from ensemble_fer.models import MODELS
from ensemble_fer.store import Store
from tests.cli.running import run
from tests.export import making


@pytest.fixture(autouse=True)
def tiny_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "tiny", making.tiny)
    monkeypatch.setattr(benching, "defaults_of", lambda name: {})


def test_every_form_at_every_batch(store: Store, tmp_path: Path) -> None:
    found = bench(store, ["tiny", "tiny"], weights="none", batches=(1, 3), seconds=0.01, threads=1, quiet=True)
    assert [(row["variant"], row["batch"]) for row in found["rows"]] == [(v, b) for v in VARIANTS for b in (1, 3)]
    for row in found["rows"]:
        assert row["calls"] >= 5
        assert 0 < row["min_ms"] <= row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"] <= row["max_ms"]
        assert row["fps"] == pytest.approx(1000 * row["batch"] / row["mean_ms"], rel=0.05)
    assert found["members"] == ["tiny", "tiny"]
    assert found["threads"] == 1
    assert set(found["size_mb"]) == {"fused", "simplified", "int8"}
    assert bench_figure(found, tmp_path / "bench.png") == tmp_path / "bench.png"
    assert Image.open(tmp_path / "bench.png").width > 900
    ratios = goals(found["rows"], 3)
    by = {row["variant"]: row["p50_ms"] for row in found["rows"] if row["batch"] == 3}
    assert ratios["fused_to_sessions"] == pytest.approx(by["fused"] / by["sessions"], abs=0.01)
    assert ratios["int8_speedup"] == pytest.approx(by["fused"] / by["int8"], abs=0.01)
    assert goals([row for row in found["rows"] if row["variant"] == "int8"])["int8_speedup"] is None


@pytest.mark.parametrize("tta", ["none", "ten_crop"])
def test_all_forms_say_the_same(store: Store, tmp_path: Path, tta: str) -> None:
    """What is timed is the same work in each form."""
    modules = benching._modules(store, ["tiny", "tiny"], "none")
    assert list(modules) == ["tiny", "tiny-1"]
    calls, _ = benching._forms(modules, tmp_path, VARIANTS, tta, 1)
    faces = benching._some_faces(9)
    assert (faces.shape, faces.dtype) == ((9, 48, 48), np.uint8)
    expected = calls["torch"](faces)
    for name, call in calls.items():
        np.testing.assert_allclose(call(faces), expected, atol=0.05 if name == "int8" else 1e-5, err_msg=name)


def test_statistics_are_those_of_the_calls() -> None:
    found = benching._statistics([0.001, 0.002, 0.003, 0.010], 10)
    assert found == {
        **{"calls": 4, "mean_ms": 4.0, "min_ms": 1.0, "max_ms": 10.0},
        **{"p50_ms": 2.5, "p95_ms": 8.95, "p99_ms": 9.79, "fps": 2500.0},
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"members": []},
        {"variants": ["fussed"]},
        {"batches": (0,)},
        {"batches": (1, 99_999_999_999)},
        {"seconds": 0},
        {"tta": "five"},
        {"weights": "hub"},
    ],
)
def test_requests_that_make_no_sense(store: Store, wrong: dict) -> None:
    given = {"members": ["tiny"], "weights": "none", "quiet": True, **wrong}
    with pytest.raises(UsageError, match="expected"):
        bench(store, **given)


def test_the_command_gives_rows_and_a_picture(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benching, "BLOCKS", 1)
    given = [
        "bench",
        "--members",
        "tiny,tiny",
        "--weights",
        "none",
        "--batches",
        "1",
        "--seconds",
        0.01,
        "--threads",
        1,
    ]
    done = run(*given, "--json", "--figure", tmp_path / "b.png", "--store", store.root)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [row["variant"] for row in found["rows"]] == list(VARIANTS)
    assert (tmp_path / "b.png").stat().st_size > 10_000
    shown = run(*given, "--variants", "fused,sessions", "--store", store.root).stdout
    assert "batch 1: one graph takes" in shown
    assert run("bench", "--members", "tiny", "--batches", "one", "--store", store.root).exit_code == 2
    assert run("bench", "--members", "nothing", "--store", store.root).exit_code == 2
