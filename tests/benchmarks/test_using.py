"""The benchmark of graphs and video runs, and the page shows what is kept. Nothing depends on how long it takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ensemble_fer.benchmarks import using
from ensemble_fer.export import benching

ROOT = Path(__file__).parents[2]


def test_it_runs_and_renews_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(using, "MEMBERS", ("compact", "compact"))
    monkeypatch.setattr(using, "TURNS", 2)
    monkeypatch.setattr(benching, "BLOCKS", 1)
    page, out = tmp_path / "page.md", tmp_path / "a/out.json"
    page.write_text(f"before\n{using.BEGIN}\nold\n{using.END}\nafter\n")
    arguments = ["--seconds", "0.01", "--frames", "12", "--threads", "1", "--out", str(out), "--page", str(page)]
    assert using.main(arguments) == 0
    found = json.loads(out.read_text())
    assert {(row["variant"], row["batch"]) for row in found["forms"]["rows"]} == {
        (form, batch) for form in ("torch", "sessions", "fused", "simplified", "int8") for batch in (1, 10, 64)
    }
    assert [row["variant"] for row in found["ten_crop"]["rows"]] == ["fused", "int8"]
    assert found["ten_crop"]["tta"] == "ten_crop"
    shipped = found["shipped"]
    assert len(shipped["video_fps"]) == 2
    assert shipped["frames_with_face"] == 12, "the drawn face is found and followed"
    assert page.read_text() == f"before\n{using.BEGIN}\n{using.page_tables(found)}{using.END}\nafter\n"


def test_the_page_shows_what_was_measured() -> None:
    out, page = ROOT / using.OUT, (ROOT / using.PAGE).read_text()
    found = json.loads(out.read_text())
    assert f"{using.BEGIN}\n{using.page_tables(found)}{using.END}\n" in page
