"""The training benchmark on a few drawn faces: it runs, both sides see equally many crops, the page shows what is kept.

Nothing here depends on how long anything takes.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ensemble_fer.benchmarks import training
from ensemble_fer.data.synthetic import synth_data
from ensemble_fer.store import Store

ROOT = Path(__file__).parents[2]


def test_both_sides_see_equally_many_crops(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torchvision", reason="the published pipeline's transforms are torchvision's")
    store = Store(tmp_path / "store")
    synth_data(store, rows=200, seed=0, name="drawn")
    page = tmp_path / "page.md"
    page.write_text(f"before\n{training.BEGIN}\nold\n{training.END}\nafter\n")
    arguments = ["--store", str(store.root), "--data", "drawn", "--batch", "4", "--steps", "2", "--turns", "2"]
    arguments += ["--threads", "1", "--device", "cpu", "--workers", "0,1"]
    assert training.main([*arguments, "--out", str(tmp_path / "a/out.json"), "--page", str(page)]) == 0

    found = json.loads((tmp_path / "a/out.json").read_text())
    ours, theirs = found["ours"], found["published"]
    assert ours["crops"] == theirs["crops"] == 4 * 2 * 2
    assert (found["device"], found["threads"], found["batch"], found["turns"]) == ("cpu", 1, 4, 2)
    assert found["ratio"] == pytest.approx(ours["crops_per_s"] / theirs["crops_per_s"], rel=0.01)
    assert len(ours["crops_per_s_of_turns"]) == len(theirs["crops_per_s_of_turns"]) == 2
    assert 0 < ours["input_share"] < 1
    assert set(theirs["workers_tried"]) == {"0", "1"}
    assert theirs["workers"] == int(max(theirs["workers_tried"], key=theirs["workers_tried"].__getitem__))
    assert len(theirs["worker_mb"]) == theirs["workers"]
    # Weights, gradients and momentum of 29.9 million parameters are in both.
    assert min(ours["peak_mb"], theirs["peak_mb"]) > 3 * 29.9 * 4
    # 350 million products forward, twice that backward, less what no picture needs; two operations each.
    assert 1.9e9 < found["flops_a_crop"] < 2.2e9
    assert found["chip_share"] is None
    assert {"processor", "cores"} <= set(found["machine"])
    assert found["torch"]

    shown = page.read_text()
    assert shown == f"before\n{training.BEGIN}\n{training.page_table(found)}{training.END}\nafter\n"
    assert "old" not in shown
    assert "crops a second" in capsys.readouterr().out


def test_a_side_that_fails_says_so(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ours side ended"):
        training.measure(tmp_path / "nothing", "fer2013", batch=4, steps=1, turns=1, device="cpu")


def test_the_page_shows_what_was_measured() -> None:
    out, page = ROOT / training.OUT, (ROOT / training.PAGE).read_text()
    if not out.is_file():
        pytest.skip("training has not been measured yet: make bench-train")
    shown = page.partition(training.BEGIN)[2].partition(training.END)[0]
    assert shown.strip() == training.page_table(json.loads(out.read_text())).strip()
