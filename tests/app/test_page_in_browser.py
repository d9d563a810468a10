"""The page in headless Chromium: an upload, what decided, and a fake camera; nothing is asked of any other machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from ensemble_fer.app.prediction import predict
from ensemble_fer.types import CLASSES
from tests.app.browsing import SECONDS, browser_program, crowd, explain, film, opened_page, upload

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser_program() is None, reason="no chromium; on Debian or Ubuntu: apt-get install chromium"),
]


def test_a_visit(tmp_path: Path, graph_file: Path) -> None:
    Image.fromarray(crowd()).save(tmp_path / "crowd.png")
    (said,) = predict(tmp_path / "crowd.png", graph=graph_file)
    first = said["faces"][0]
    with opened_page(graph_file, tmp_path) as (page, address, asked):
        upload(page, tmp_path / "crowd.png")
        assert page.inner_text("[data-testid='label-output-value']") == first["label"]
        bars = dict(re.findall(r"([a-z]+)\s+(\d+)%", page.inner_text("[data-testid='label']")))
        assert {name: round(100 * p) for name, p in first["probabilities"].items()} == {
            name: int(share) for name, share in bars.items()
        }
        votes = [page.inner_text(f"[data-testid='cell-{row}-1']:visible") for row in range(3)]
        assert set(votes) <= set(CLASSES)
        # What is drawn after the answer is waited for: a busy machine draws it later.
        expect(page.locator("[data-testid$='-radio-label']:visible")).to_have_count(
            len(said["faces"]), timeout=1000 * SECONDS
        )
        before = page.locator("img:visible").count()
        explain(page)
        expect(page.locator("img:visible")).to_have_count(before + 1, timeout=1000 * SECONDS)
        film(page)
        assert page.inner_text("[data-testid='label-output-value']:visible") in CLASSES
        assert page.locator("[aria-label='Share']").count() == 0, "a button that sends pictures elsewhere"
        elsewhere = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
        assert elsewhere == []


def test_what_is_no_picture_is_refused_in_words(tmp_path: Path, graph_file: Path) -> None:
    """And takes what was said of the picture before away."""
    Image.fromarray(crowd()).save(tmp_path / "crowd.png")
    (tmp_path / "bad.png").write_text("no picture")
    with opened_page(graph_file, tmp_path) as (page, _, _asked):
        upload(page, tmp_path / "crowd.png")
        page.click("[aria-label='Remove Image']")
        page.set_input_files("input[type=file]", str(tmp_path / "bad.png"))
        page.wait_for_selector("text=This is no picture that can be read")
        page.wait_for_selector("[data-testid$='-confidence-set']:visible", state="detached")
        page.wait_for_selector("[data-testid$='-radio-label']:visible", state="detached")


def test_another_face_takes_away_what_decided_of_the_first(tmp_path: Path, graph_file: Path) -> None:
    Image.fromarray(crowd()).save(tmp_path / "crowd.png")
    (said,) = predict(tmp_path / "crowd.png", graph=graph_file)
    with opened_page(graph_file, tmp_path) as (page, _, _asked):
        upload(page, tmp_path / "crowd.png")
        explain(page)
        page.locator("[data-testid$='-radio-label']:visible").nth(1).click()
        label = said["faces"][1]["label"]
        page.wait_for_selector(f"[data-testid='label-output-value']:visible:has-text('{label}')")
        page.wait_for_function("document.querySelectorAll('img').length <= 2")
