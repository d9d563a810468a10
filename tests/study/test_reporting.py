"""Reports: every number that is shown is computed from what was kept, in both forms, and nothing is fetched."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ensemble_fer.errors import UsageError
from ensemble_fer.store import Store
from ensemble_fer.study.finding import study_file
from ensemble_fer.study.gathering import gather, load_gathered
from ensemble_fer.study.page import Code, Figure, Heading, Table, Text, to_html, to_markdown
from ensemble_fer.study.reading import read_study
from ensemble_fer.study.reporting import write_report
from ensemble_fer.study.results import main, with_tables
from ensemble_fer.study.running import run_study
from tests.cli.running import run
from tests.study.test_running import FILE

SMALL = FILE.replace("epochs = 1", "epochs = 2").replace(
    'asks = "Does it run?"', 'asks = "Does `it` run?"\nagainst = "balanced/none"'
)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("report")
    (folder / "little.toml").write_text(SMALL)
    run_study(Store(folder / "store"), read_study(folder / "little.toml"), threads=1, quiet=True)
    return folder / "little.toml", folder / "store"


def test_what_the_report_shows(made: tuple[Path, Path], tmp_path: Path) -> None:
    path, store = made
    done = run(
        "study", "report", path, "--out", tmp_path / "a", "--kept", tmp_path / "kept", "--store", store, "--json"
    )
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["pages"] == [str(tmp_path / "a" / f"little-smoke.{end}") for end in ("md", "html")]
    text, page = ((tmp_path / "a" / f"little-smoke.{end}").read_text() for end in ("md", "html"))
    rows = {row["of"]: row for row in json.loads((store / "studies" / "little.smoke.json").read_text())}
    for of, row in rows.items():
        shown = re.search(
            rf"^\| {re.escape(of)} \| 1 \| ([\d.]+) \[.*?\] \| .*? \| .*? \| ([\d.]+) \[", text, re.MULTILINE
        )
        assert shown, of
        assert float(shown[1]) == pytest.approx(100 * row["test"]["macro_f1"], abs=0.06)
        assert float(shown[2]) == pytest.approx(100 * row["test"]["accuracy"], abs=0.06)
    for heading in ("Protocol", "Leaderboard", "Against balanced/none", "Learning", "What is taken for what", "Cost"):
        assert f"\n## {heading}\n" in text
        assert f"<h2>{heading}</h2>" in page
    assert "Does <code>it</code> run?" in page
    assert f"ensemble-fer study run {path} --scale smoke\n" in text
    assert text.count("undecided") + text.count(": worse") + text.count(": better") >= 4 * (len(rows) - 1)
    pictures = re.findall(r"\]\((images/[^)]+\.svg)\)", text)
    assert [picture.rpartition("-")[2] for picture in pictures] == [
        "scores.svg", "differences.svg", "curves.svg", "classes.svg", "confusion.svg"
    ]  # fmt: skip
    assert all((tmp_path / "a" / picture).read_text().startswith("<?xml") for picture in pictures)
    assert page.count("<svg") == 5
    for tag in ("<script", "<link", "<img", "@import", "url(http"):
        assert tag not in page, "nothing is fetched"


def test_the_pages_are_made_again_without_the_store(made: tuple[Path, Path], tmp_path: Path) -> None:
    path, store = made
    run("study", "report", path, "--out", tmp_path / "a", "--kept", tmp_path / "kept", "--store", store)
    again = run(
        "study", "report", path, "--out", tmp_path / "b", "--kept", tmp_path / "kept", "--again", "--store", "none"
    )
    assert again.exit_code == 0, again.stderr
    files = sorted(file.relative_to(tmp_path / "a") for file in (tmp_path / "a").rglob("*") if file.is_file())
    assert len(files) == 7
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    study = read_study(path)
    kept = load_gathered(tmp_path / "kept")
    fresh = gather(Store(store), study, json.loads((store / "studies" / "little.smoke.json").read_text()))
    assert kept.rows == fresh.rows


def test_what_cannot_be_reported_says_why(made: tuple[Path, Path], tmp_path: Path) -> None:
    path, store = made
    never = run("study", "report", path, "--store", tmp_path / "empty")
    assert never.exit_code == 3
    assert "was not run to its end" in never.stderr
    other = tmp_path / "little.toml"
    other.write_text(path.read_text().replace('"constant"', '"step"'))
    changed = run("study", "report", other, "--store", store)
    assert changed.exit_code == 3
    assert "asks for other runs" in changed.stderr
    assert run("study", "report", path, "--again").exit_code == 2
    nothing = run("study", "report", path, "--again", "--kept", tmp_path / "none")
    assert nothing.exit_code == 3
    assert not (tmp_path / "report").exists()


def test_a_copy_of_a_shipped_study_is_run_by_its_path(tmp_path: Path) -> None:
    shipped = study_file("leakage")
    own = tmp_path / "leakage.toml"
    own.write_text(shipped.read_text())
    assert read_study(shipped).file == "leakage"
    assert read_study(own).file == str(own)


def test_failures_are_in_the_report(tmp_path: Path) -> None:
    path = tmp_path / "little.toml"
    path.write_text(
        SMALL.replace('schedule = ["cosine", "constant"]', "batch_size = [64, 99999]").replace(
            "epochs = 2", "epochs = 1"
        )
    )
    store = Store(tmp_path / "store")
    study = read_study(path)
    rows = run_study(store, study, threads=1, quiet=True)["rows"]
    text = write_report(study, gather(store, study, rows), tmp_path)[0].read_text()
    assert "1 of 6 runs failed" in text
    assert "| little.smoke.schedules.batch_size.99999-s0 | batch_size is 99,999" in text


def test_blocks(tmp_path: Path) -> None:
    blocks = [
        Heading("A < B"), Text("say `x|y`"), Table(["a", "b"], [["x|y", "LEAKY 1"]], "note"),
        Code("<run>"), Figure("one", '<?xml version="1.0"?>\n<svg id="1"/>', 'says "it"'),
    ]  # fmt: skip
    to_markdown("T", blocks, tmp_path / "page.md")
    assert (tmp_path / "page.md").read_text() == (
        "# T\n\n## A < B\n\nsay `x|y`\n\n| a | b |\n| --- | ---: |\n| x\\|y | LEAKY 1 |\n\nnote\n\n```\n<run>\n```\n\n"
        '![says "it"](images/page-one.svg)\n'
    )
    to_html("T & U", blocks, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    for text in ("<title>T &amp; U</title>", "<h2>A &lt; B</h2>", "say <code>x|y</code>", '<td class="l">x|y</td>',
                 '<td class="leaky">LEAKY 1</td>', "&lt;run&gt;", '<svg id="1"/>', "says &quot;it&quot;"):  # fmt: skip
        assert text in page


def test_prose_shows_tables_of_kept_studies(tmp_path: Path) -> None:
    store, study = Store(tmp_path / "store"), read_study(study_file("headline"))
    found = run_study(store, study, threads=1, quiet=True)
    results = tmp_path / "docs" / "results"
    gather(store, study, found["rows"]).save(results / "data/studies/headline.smoke")
    page = results / "plain.md"
    page.write_text("Before.\n\n<!-- study:headline.smoke: Leaderboard -->\nold\n<!-- end -->\n\nAfter.\n")
    main([str(results)])
    text = page.read_text()
    assert text.startswith("Before.")
    assert text.endswith("After.\n")
    assert "old" not in text
    assert "| arm |" in text
    (table,) = re.findall(r"\| arm \|.*?\n\n", text, re.DOTALL)
    assert table.strip() in (results / "headline-smoke.md").read_text()
    assert with_tables(text, results) == text
    for old, new, problem in (
        ("Leaderboard", "Leaderbord", "unknown heading of headline.smoke 'Leaderbord'"),
        ("headline.smoke", "headline.small", "unknown kept study"),
        ("<!-- end -->", "", "is not written so"),
    ):
        with pytest.raises(UsageError, match=problem):
            with_tables(text.replace(old, new), results)
