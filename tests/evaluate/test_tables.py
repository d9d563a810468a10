"""Tables of a results page come from the logits, and a changed figure is noticed."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from ensemble_fer.ensemble import combine
from ensemble_fer.errors import MissingError, UsageError
from ensemble_fer.evaluate.intervals import paired_difference
from ensemble_fer.evaluate.metrics import score
from ensemble_fer.evaluate.predictions import save_predictions
from ensemble_fer.evaluate.tables import main, read_folder, results_table, with_tables
from ensemble_fer.types import Predictions, Role
from tests.evaluate.examples import some_predictions

PAGE = """# Results

<!-- table:scores -->
old
<!-- end -->

Between 12.3 and 45.6.

<!-- table:differences -->
<!-- end -->
<!-- table:classes:select -->
<!-- end -->
<!-- table:protocols -->
<!-- end -->
"""


@pytest.fixture(scope="module")
def members() -> dict[str, Predictions]:
    named = {name: some_predictions(720, seed) for seed, name in enumerate(("zeta", "plain"))}
    return {**named, "both": combine(list(named.values()))}


@pytest.fixture
def folder(tmp_path: Path, members: dict[str, Predictions]) -> Path:
    for name, p in members.items():
        save_predictions(tmp_path / "kept" / f"{name}-test.npz", p)
        select = replace(p, role=Role.SELECT, protocol=replace(p.protocol, role="select"))
        save_predictions(tmp_path / "kept" / f"{name}-select.npz", select)
    return tmp_path / "kept"


def _rows(table: str) -> dict[str, list[str]]:
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    return {cells[0]: cells[1:] for cells in lines}


def test_the_table_has_the_scores_of_each_file_ensembles_last(folder: Path, members: dict[str, Predictions]) -> None:
    found = _rows(results_table(folder))
    assert list(found)[2:] == ["plain", "zeta", "both"]
    report = score(members["plain"])
    low, high = report.ci95["macro_f1"]
    assert found["plain"][1] == f"{100 * report.macro_f1:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
    assert found["plain"][0].startswith(f"{100 * report.accuracy:.1f} [")
    assert found["plain"][4].startswith(f"{100 * report.twin_free['accuracy']:.1f} [")
    assert found["plain"][5].startswith(f"{100 * report.twin_free['macro_f1']:.1f} [")
    assert found["plain"][6] == "720"


def test_a_page_is_updated_between_its_marks_only_and_checked(folder: Path, tmp_path: Path, members, capsys) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    assert main([str(folder), "--check", str(page)]) == 1
    assert "--update" in capsys.readouterr().err
    assert page.read_text() == PAGE
    assert main([str(folder), "--update", str(page)]) == 0
    assert main([str(folder), "--check", str(page)]) == 0
    made = page.read_text()
    assert "old" not in made
    assert "Between 12.3 and 45.6." in made
    difference, low, high = (100 * v for v in paired_difference(members["both"], members["plain"], "accuracy"))
    assert f"| both − plain | {difference:+.1f} [{low:+.1f}, {high:+.1f}] |" in made
    assert made.count("look 1 at this test part") == 3
    page.write_text(made.replace(" [", " 1[", 1))
    assert main([str(folder), "--check", str(page)]) == 1


def test_wrong_pages_and_folders_are_named(folder: Path, tmp_path: Path) -> None:
    for text, message in (
        ("nothing", "found 0 marks"),
        ("<!-- table:scores -->\nno end", "found 1 marks"),
        ("<!-- table:score -->\n<!-- end -->", "Did you mean 'scores'"),
        ("<!-- table:scores:tests -->\n<!-- end -->", "Did you mean 'test'"),
    ):
        with pytest.raises(UsageError, match=message):
            with_tables(text, folder)
    with pytest.raises(MissingError, match="no predictions"):
        read_folder(tmp_path / "empty")
    assert main([str(folder), "--check", str(tmp_path / "none.md")]) == MissingError.exit_code
    save_predictions(folder / "zeta.npz", some_predictions(720))
    with pytest.raises(UsageError, match="named zeta"):
        read_folder(folder)


def test_scoring_loads_nothing_heavy(folder: Path, tmp_path: Path) -> None:
    """One process: table, figure, fusion and leaderboard without torch, pandas, scikit-learn or pyplot."""
    (tmp_path / "page.md").write_text(PAGE)
    code = f"""
import sys
import ensemble_fer.ensemble, ensemble_fer.leaderboard, ensemble_fer.evaluate.figures
from ensemble_fer.evaluate.tables import main
assert "matplotlib" not in sys.modules
assert main(["{folder}", "--update", "{tmp_path / "page.md"}"]) == 0
from ensemble_fer.evaluate.metrics import score
from ensemble_fer.evaluate.predictions import load_predictions
ensemble_fer.evaluate.figures.confusion_figure(score(load_predictions("{folder}/zeta-test.npz")), "{tmp_path}/c.png")
heavy = {{"torch", "pandas", "sklearn", "imblearn", "matplotlib.pyplot", "onnxruntime"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_recipes_of_several_seeds_with_and_without_twins(tmp_path: Path) -> None:
    made = {}
    for name, skill in (("default", 2.0), ("tuned", 1.5)):
        for seed in (0, 1):
            p = some_predictions(800, seed + (10 if name == "tuned" else 0), skill=skill)
            # A tuned recipe that knows what it was trained on.
            if name == "tuned":
                p = replace(p, logits=p.logits + 9 * np.eye(7)[p.labels] * p.twin_in_train[:, None])
            made[f"{name}-s{seed}"] = p = replace(p, protocol=replace(p.protocol, seed=seed))
            save_predictions(tmp_path / f"{name}-s{seed}-test.npz", p)
    page = tmp_path / "page.md"
    page.write_text("<!-- table:recipes -->\n<!-- end -->\n<!-- table:recipe_differences -->\n<!-- end -->\n")
    assert main([str(tmp_path), "--update", str(page)]) == 0
    lines = [line for line in page.read_text().splitlines() if line.startswith(("| default", "| tuned"))]
    assert [line.split(" | ")[0] for line in lines] == ["| default", "| tuned", "| tuned − default"]

    def value(metric: str, name: str, seed: int, free: bool) -> float:
        p = made[f"{name}-s{seed}"]
        rows = ~p.twin_in_train if free else np.ones(len(p), bool)
        labels, said = p.labels[rows], p.logits.argmax(1)[rows]
        return 100 * float((labels == said).mean() if metric == "accuracy" else f1_score(labels, said, average="macro"))

    columns = [(metric, free) for free in (False, True) for metric in ("accuracy", "macro_f1")]
    for line, name in zip(lines, ("default", "tuned"), strict=False):
        for cell, (metric, free) in zip(line.strip("| ").split(" | ")[1:], columns, strict=True):
            each = [value(metric, name, seed, free) for seed in (0, 1)]
            assert cell == f"{np.mean(each):.1f} ({each[0]:.1f}, {each[1]:.1f})"
    gaps = {}
    for cell, (metric, free) in zip(lines[2].strip("| ").split(" | ")[1:], columns, strict=True):
        gap = np.mean([value(metric, "tuned", seed, free) - value(metric, "default", seed, free) for seed in (0, 1)])
        found, low, high = map(float, re.fullmatch(r"(\S+) \[(\S+), (\S+)\]", cell).groups())  # pyright: ignore
        assert f"{found:+.1f}" == f"{gap:+.1f}"
        # An interval that is as wide as so many faces make it: some points, around the difference.
        assert low < found < high
        assert 2 < high - low < 20
        gaps[metric, free] = gap
    assert gaps["accuracy", False] - gaps["accuracy", True] > 3, "the example must tell the two apart"
    assert abs(gaps["accuracy", True] - gaps["macro_f1", True]) > 0.2, "and the two metrics"


def test_recipes_whose_faces_all_have_twins_and_files_of_wrong_seeds(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- table:recipes -->\n<!-- end -->\n<!-- table:recipe_differences -->\n<!-- end -->\n")
    for name in ("default", "tuned"):
        p = some_predictions(720, name == "tuned")
        p = replace(p, twin_in_train=np.ones(720, bool), protocol=replace(p.protocol, seed=0))
        save_predictions(tmp_path / f"{name}-s0-test.npz", p)
    assert main([str(tmp_path), "--update", str(page)]) == 0
    lines = [line for line in page.read_text().splitlines() if line.startswith(("| default", "| tuned"))]
    assert [line.count("–") for line in lines] == [2, 2, 2]
    save_predictions(tmp_path / "tuned-s1-test.npz", p)
    with pytest.raises(UsageError, match="tuned-s1 is named after seed 1, and its stamp says seed 0"):
        with_tables(page.read_text(), tmp_path)
    (tmp_path / "tuned-s1-test.npz").rename(tmp_path / "tuned-s00-test.npz")
    with pytest.raises(UsageError, match="several files are of seed 0 of tuned"):
        with_tables(page.read_text(), tmp_path)
