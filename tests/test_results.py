"""The tables on results pages are what the kept logits give."""

from __future__ import annotations

from pathlib import Path

import pytest

from ensemble_fer.ensemble import combine
from ensemble_fer.evaluate.predictions import load_predictions
from ensemble_fer.evaluate.tables import main

RESULTS = Path(__file__).parents[1] / "docs/results"
PAGES = sorted(folder.name for folder in (RESULTS / "data").iterdir() if any(folder.glob("*.npz")))


@pytest.mark.parametrize("name", PAGES)
def test_tables_are_what_the_logits_give(name: str) -> None:
    assert main([str(RESULTS / "data" / name), "--check", str(RESULTS / f"{name}.md")]) == 0
    assert "@" not in (RESULTS / f"{name}.md").read_text()


def test_the_front_page_says_which_look_the_first_score_was() -> None:
    looks = load_predictions(RESULTS / "data/first/ensemble-test.npz").protocol.looks
    front, page = (Path(__file__).parents[1] / "README.md", RESULTS / "first.md")
    assert f"look {looks} at PrivateTest" in front.read_text()
    for text in (front.read_text(), page.read_text()):
        assert "looked at once," not in text
        assert "look at PrivateTest once." not in text


@pytest.mark.parametrize("part", ["select", "test"])
def test_the_first_ensemble_is_the_mean_of_its_members(part: str) -> None:
    folder = RESULTS / "data/first"
    members = [load_predictions(folder / f"{name}-{part}.npz") for name in ("none", "ros", "smote", "smote_tomek")]
    kept = load_predictions(folder / f"ensemble-{part}.npz")
    made = combine(members, "mean", source="again")
    assert abs(made.probabilities() - kept.probabilities()).max() < 1e-6
