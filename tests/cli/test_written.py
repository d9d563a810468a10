"""Where commands write: over nothing that a store keeps, whichever the option."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image

from ensemble_fer.cli import app
from ensemble_fer.cli.options import check_written
from ensemble_fer.errors import UsageError
from ensemble_fer.store import KINDS
from tests.cli.running import run

COMMANDS = {
    "data show": ["data", "show", "--output"],
    "data audit": ["data", "audit", "--sheet"],
    "evaluate": ["evaluate", "a", "--figure"],
    "explain": ["explain", "a", "--out"],
    "export": ["export", "a", "--out"],
    "bench": ["bench", "--members", "vggnet", "--weights", "none", "--figure"],
    "predict, drawn": ["predict", "PICTURE", "--annotate"],
    "predict, table": ["predict", "PICTURE", "--csv"],
    "video, drawn": ["video", "PICTURE", "--annotate"],
    "video, table": ["video", "PICTURE", "--csv"],
    "report": ["study", "report", "leakage", "--out"],
    "report, kept": ["study", "report", "leakage", "--kept"],
}
ENDINGS = {"export": ".onnx", "video, drawn": ".mp4", "report": "", "report, kept": ""}


WRITTEN = {"PNG", "ONNX", "CSV", "PNG|FOLDER", "MP4|AVI", "FOLDER"}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.new("L", (48, 48), 7).save(tmp_path / "p.png")
    return tmp_path / "p.png"


@pytest.mark.parametrize("called", COMMANDS)
def test_nothing_is_written_into_what_a_store_keeps(called: str, tmp_path: Path, picture: Path) -> None:
    store, before = tmp_path / "store", picture.read_bytes()
    (store / "refs" / "data").mkdir(parents=True)
    (store / "refs" / "data" / "synthetic").write_text("0123456789ab\n")
    for place in ("refs/data/new", "data/0123456789ab/new", "locks/new", "../store/tune/../seen/new"):
        given = [str(picture) if word == "PICTURE" else word for word in COMMANDS[called]]
        done = run(*given, f"{store / place}{ENDINGS.get(called, '.png')}", "--store", store)
        assert done.exit_code == 2, done.output
        assert "where the store keeps its own. Choose another place." in done.stderr, done.stderr
    assert sorted(p.name for p in store.rglob("*") if p.is_file()) == ["synthetic"]
    assert picture.read_bytes() == before


def test_every_option_of_a_place_to_write_is_among_these() -> None:
    found = {
        (name, option.opts[0])
        for name, command in _commands(typer.main.get_command(app), ())
        for option in command.params
        if option.metavar in WRITTEN and option.opts[0].startswith("--") and option.name != "graph"
    }
    known = {(tuple(words[: 2 if words[0] in ("data", "study") else 1]), words[-1]) for words in COMMANDS.values()}
    assert found == known


def _commands(command: Any, name: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The commands themselves, with the words that call them."""
    if not hasattr(command, "commands"):
        yield name, command
    for word, below in getattr(command, "commands", {}).items():
        yield from _commands(below, (*name, word))


def test_a_contact_sheet_has_the_name_of_a_picture(tmp_path: Path) -> None:
    """Without an ending it could take the place of a reference."""
    reference = tmp_path / "store" / "refs" / "data" / "synthetic"
    reference.parent.mkdir(parents=True)
    reference.write_text("0123456789ab\n")
    done = run("data", "show", "--output", reference, "--store", tmp_path / "store")
    assert done.exit_code == 2
    assert "what is written is a PNG; expected a name that ends in .png" in done.stderr
    assert reference.read_text() == "0123456789ab\n"


def test_links_into_a_store_are_followed_and_what_lies_beside_it_may_be_written(tmp_path: Path) -> None:
    store = tmp_path / "store"
    (store / "runs").mkdir(parents=True)
    for kind in KINDS:
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to(store / kind, target_is_directory=True)
        (store / kind).mkdir()
        with pytest.raises(UsageError, match=rf"--out .*link/a\.png lies in .*store/{kind}, where the store keeps its"):
            check_written(store, [("--out", tmp_path / "link" / "a.png")])
    with pytest.raises(UsageError, match=r"lies in .*looks\.jsonl"):
        check_written(store, [("--csv", store / "looks.jsonl")])
    for place in (store / "figures" / "a.png", tmp_path / "data" / "a.png", store / "mine.csv"):
        check_written(store, [("--out", place), ("--csv", None)])
