"""The benchmark on 4,000 drawn faces: it measures, agrees with imbalanced-learn, and goes on where it was stopped.

Nothing here depends on how long anything takes.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ensemble_fer.benchmarks import resampling
from ensemble_fer.data.synthetic import synth_data
from ensemble_fer.store import Store

ROOT = Path(__file__).parents[2]


def test_four_thousand_faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "METHODS", ("smote_tomek", "enn"))
    store = Store(tmp_path / "store")
    synth_data(store, rows=4000, seed=0, name="drawn")
    out = tmp_path / "out.json"
    kept = resampling.measure(out, store.root, "drawn", seeds=(0,), sizes=(4000,))
    assert kept == json.loads(out.read_text())
    jobs = kept["jobs"]
    assert set(jobs) == {
        *("smote_tomek/0/ours", "smote_tomek/0/imblearn", "enn/0/ours", "enn/0/imblearn", "growth/4000")
    }
    for method in ("smote_tomek", "enn"):
        ours, theirs = jobs[f"{method}/0/ours"], jobs[f"{method}/0/imblearn"]
        # These faces have no ties that decide: what is kept and made is the same to the row.
        assert (ours["rows"], theirs["only_ours"], theirs["only_theirs"]) == (theirs["rows"], 0, 0)
        for job in (ours, theirs):
            assert 0 < job["search"] <= job["seconds"] <= job["wall"]
            assert job["peak_mb"] > 50
    assert jobs["growth/4000"]["faces_mb"] == 4000 * 2304 / 1e6
    assert store.ids("resampling") == [], "the store that is measured stays as it was"

    # What is there is not measured again.
    kept["jobs"]["enn/0/ours"]["rows"] = -1
    out.write_text(json.dumps(kept))
    monkeypatch.setattr(resampling.subprocess, "run", lambda *a, **k: pytest.fail("measured again"))
    assert resampling.measure(out, store.root, "drawn", seeds=(0,), sizes=(4000,)) == kept
    table = resampling.tables(kept)
    assert "| smote_tomek |" in table
    assert "| 4,000 |" in table


def test_the_page_shows_what_was_measured() -> None:
    kept = json.loads((ROOT / resampling.DEFAULTS[0]).read_text())
    page = (ROOT / resampling.DEFAULTS[1]).read_text()
    shown = page.partition(resampling.BEGIN)[2].partition(resampling.END)[0]
    assert shown.strip() == resampling.tables(kept).strip()
