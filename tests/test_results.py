"""The tables on results pages are what the kept logits give."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ensemble_fer.ensemble import combine
from ensemble_fer.evaluate.predictions import load_predictions
from ensemble_fer.evaluate.tables import main
from ensemble_fer.study.results import kept_studies, marked_pages, with_tables, write_pages

RESULTS = Path(__file__).parents[1] / "docs/results"
PAGES = sorted(folder.name for folder in (RESULTS / "data").iterdir() if any(folder.glob("*.npz")))


@pytest.mark.parametrize("name", PAGES)
def test_tables_are_what_the_logits_give(name: str) -> None:
    assert main([str(RESULTS / "data" / name), "--check", str(RESULTS / f"{name}.md")]) == 0
    assert "@" not in (RESULTS / f"{name}.md").read_text()


def test_one_command_writes_all_of_them() -> None:
    (pages,) = re.findall(r"for page in ([a-z ]+);", (RESULTS.parents[1] / "Makefile").read_text())
    assert pages.split() == PAGES


def test_the_front_page_says_which_look_the_first_score_was() -> None:
    looks = load_predictions(RESULTS / "data/first/ensemble-test.npz").protocol.looks
    front, page = (Path(__file__).parents[1] / "README.md", RESULTS / "first.md")
    assert f"look {looks} at PrivateTest" in front.read_text()
    for text in (front.read_text(), page.read_text()):
        assert "looked at once," not in text
        assert "look at PrivateTest once." not in text


def without_figures(page: Path) -> str:
    """The text of a page; figures may change a little with the library that draws them."""
    return re.sub(r"<svg.*?</svg>", "", page.read_text(), flags=re.DOTALL)


def test_pages_of_studies_are_what_their_kept_logits_give(tmp_path: Path) -> None:
    made = write_pages(RESULTS, tmp_path)
    assert len(made) == 2 * len(kept_studies(RESULTS))
    for page in made:
        kept = RESULTS / page.name
        assert without_figures(page) == without_figures(kept), f"make results writes another {kept}"
        for picture in re.findall(r"\]\((images/[^)]+)\)", page.read_text()):
            assert (RESULTS / picture).is_file(), picture


@pytest.mark.parametrize("page", marked_pages(RESULTS), ids=lambda page: page.name)
def test_tables_of_studies_in_prose_are_those_of_their_reports(page: Path) -> None:
    text = page.read_text()
    assert with_tables(text, RESULTS) == text, f"make results writes another {page.name}"


@pytest.mark.parametrize("part", ["select", "test"])
def test_the_first_ensemble_is_the_mean_of_its_members(part: str) -> None:
    folder = RESULTS / "data/first"
    members = [load_predictions(folder / f"{name}-{part}.npz") for name in ("none", "ros", "smote", "smote_tomek")]
    kept = load_predictions(folder / f"ensemble-{part}.npz")
    made = combine(members, "mean", source="again")
    assert abs(made.probabilities() - kept.probabilities()).max() < 1e-6
