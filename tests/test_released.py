"""What is shipped is what its card, its recipes and the kept logits say it is."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ensemble_fer import releasing
from ensemble_fer.ensemble import combine
from ensemble_fer.ensemble.combination import plain
from ensemble_fer.evaluate.metrics import score
from ensemble_fer.evaluate.predictions import load_predictions
from ensemble_fer.evaluate.tables import main
from ensemble_fer.export.session import OUTPUT, open_graph
from ensemble_fer.types import CLASSES, OFFICIAL, FaceSet

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "artifacts/released"
LOGITS = ROOT / "docs/results/data/released"
GRAPH = FOLDER / "ensemble.onnx"


@pytest.fixture(scope="module")
def facts() -> dict:
    return json.loads((FOLDER / "facts.json").read_text())


def test_the_file_is_the_one_that_was_measured(facts: dict) -> None:
    assert hashlib.sha256(GRAPH.read_bytes()).hexdigest() == facts["sha256"]
    assert facts["members"] == sorted(path.stem for path in (FOLDER / "recipes").glob("*.toml"))
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= 12_000_000
    assert facts["lost_points"] <= 0.5


def test_a_stranger_learns_from_the_file_what_it_is(facts: dict) -> None:
    graph = open_graph(GRAPH)
    assert graph.labels == CLASSES
    assert [each["run"] for each in graph.members] == facts["runs"]
    for part in ("select", "test") if LOOKED else ("select",):
        assert load_predictions(FOLDER / f"released-{part}.npz").source == facts["graph"]
    assert graph.calibrated
    assert graph.stamp["split"] == "official"
    assert not graph.stamp["leaky"]


def test_the_page_shows_the_facts(facts: dict) -> None:
    page = (ROOT / releasing.PAGE).read_text()
    assert f"{releasing.BEGIN}\n{releasing.facts_table(facts)}{releasing.END}\n" in page


def test_the_tables_of_the_card_are_what_its_logits_give() -> None:
    assert main([str(FOLDER), "--check", str(FOLDER / "README.md")]) == 0


LOOKED = (FOLDER / "released-test.npz").is_file()


@pytest.mark.parametrize("part", ["select", "test"] if LOOKED else ["select"])
def test_the_ensemble_is_the_mean_of_its_members(part: str, facts: dict) -> None:
    members = [load_predictions(LOGITS / f"{name}-{part}.npz") for name in facts["members"]]
    kept = load_predictions(LOGITS / f"ensemble-{part}.npz")
    by = replace(plain("mean", len(members)), temperature=facts["temperature"])
    made = combine(members, by, source="again")
    # Kept select scores are cross-fitted: a temperature for each fold, which changes no label.
    assert (made.logits.argmax(1) == kept.logits.argmax(1)).mean() > 0.999
    if part == "test":
        assert abs(made.probabilities() - kept.probabilities()).max() < 1e-4
    shipped = load_predictions(FOLDER / f"released-{part}.npz")
    np.testing.assert_array_equal(shipped.rows, kept.rows)
    assert abs(score(shipped, n_boot=1).accuracy - score(kept, n_boot=1).accuracy) < 0.005


def test_the_scores_in_words_are_those_of_the_logits() -> None:
    part = "test" if LOOKED else "select"
    report = score(load_predictions(FOLDER / f"released-{part}.npz"))
    low, high = (100 * each for each in report.ci95["accuracy"])
    where = "PrivateTest" if LOOKED else "PublicTest"
    said = f"**{100 * report.accuracy:.1f} %** [{low:.1f}, {high:.1f}] on {where}, macro-F1 {100 * report.macro_f1:.1f}"
    front = " ".join((ROOT / "README.md").read_text().split())
    assert said in front
    assert ("PrivateTest was not looked at by it yet" in front) == (not LOOKED)
    assert not re.search(r"\bTODO\b|@", (FOLDER / "README.md").read_text().replace("@software", ""))


@pytest.mark.real
def test_the_graph_says_of_real_faces_what_was_kept(real_faces: FaceSet) -> None:
    kept = load_predictions(FOLDER / "released-select.npz")
    np.testing.assert_array_equal(np.sort(kept.rows), np.flatnonzero(real_faces.usage == OFFICIAL.index("PublicTest")))
    some = np.random.default_rng(0).choice(len(kept.rows), 300, replace=False)
    said = open_graph(GRAPH).run(real_faces.images[kept.rows[some]])[OUTPUT]
    # Whole numbers are rounded otherwise on other processors.
    assert np.abs(said - kept.probabilities()[some]).max() < 0.05
    assert (said.argmax(1) == kept.logits[some].argmax(1)).mean() > 0.98
