"""Exit codes, and one line for each error."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import pytest

from ensemble_fer.cli.output import print_table, remark, say
from ensemble_fer.errors import EnsembleFerError, MissingError, SplitMisuse, UsageError
from tests.cli.running import run

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("no such method"), 2),
        (MissingError("no data.\nGet it so"), 3),
        (SplitMisuse("rows of role test"), 1),
        (EnsembleFerError("did not work"), 1),
    ],
)
def test_errors_are_a_line_and_an_exit_code(monkeypatch, error: EnsembleFerError, code: int) -> None:
    def raises(store: object) -> None:
        raise error

    monkeypatch.setattr("ensemble_fer.upkeep.list_runs", raises)
    done = run("runs", "list", "--json")
    assert done.exit_code == code
    assert done.stderr == f"error: {error}\n"
    assert done.stdout == ""


def test_what_steers_a_terminal_is_written_out(monkeypatch, capsys) -> None:
    """Names in files come from anybody: one could clear the screen, or hide the line before it."""

    def raises(store: object) -> None:
        raise EnsembleFerError("no label 'a\x1b[2J\r\u202eb'; expected\n\t\u00e9 \u2026")

    monkeypatch.setattr("ensemble_fer.upkeep.list_runs", raises)
    done = run("runs", "list")
    assert done.stderr == "error: no label 'a\\x1b[2J\\r\\u202eb'; expected\n\t\u00e9 \u2026\n"
    say("a\x07")
    remark("b\x1b[0m")
    print_table("", ("name",), [("c\x1b[31m",)])
    out, err = capsys.readouterr()
    assert (out.split("\n")[0], err) == ("a\\x07", "b\\x1b[0m\n")
    assert "c\\x1b[31m" in out


def test_an_unexpected_error_is_one_line_and_says_how_to_see_more(monkeypatch) -> None:
    def raises(store: object) -> None:
        raise ZeroDivisionError("by 0")

    monkeypatch.setattr("ensemble_fer.upkeep.list_runs", raises)
    done = run("runs", "list")
    assert done.exit_code == 1
    assert done.stderr.startswith("error: unexpected ZeroDivisionError: by 0\n")
    assert "ENSEMBLE_FER_DEBUG=1" in done.stderr
    assert "Traceback" not in done.stderr
    monkeypatch.setenv("ENSEMBLE_FER_DEBUG", "1")
    assert isinstance(run("runs", "list").exception, ZeroDivisionError)


def test_a_package_that_is_not_installed_exits_3(monkeypatch) -> None:
    def raises(store: object) -> None:
        raise ModuleNotFoundError("No module named 'onnx'", name="onnx")

    monkeypatch.setattr("ensemble_fer.upkeep.list_runs", raises)
    done = run("runs", "list")
    assert done.exit_code == 3
    assert "pip install" in done.stderr


def test_warnings_of_ours_are_lines_on_stderr_and_others_are_not_shown(monkeypatch) -> None:
    class Loud(UserWarning):
        __module__ = "ensemble_fer.resample"

    def warns(store: object) -> list:
        warnings.warn("happy lost 7,097 of 7,215 rows", Loud, stacklevel=2)
        warnings.warn("for programmers", FutureWarning, stacklevel=2)
        return []

    monkeypatch.setattr("ensemble_fer.upkeep.list_runs", warns)
    done = run("runs", "list", "--json")
    assert done.stderr == "warning: happy lost 7,097 of 7,215 rows\n"
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["data", "audit", "--nonsense"],
        ["trian"],
        ["data", "synth", "--rows", "many"],
        ["data", "synth", "--rows", "10"],
        ["train", "--epochs", "0"],
        ["train", "--model", "vgnet"],
        ["resample"],
        ["runs", "show", "nothing"],
        ["train", "--seed", "4294967296"],
        ["fuse", "a", "b", "--seed", "4294967296"],
        ["explain", "a", "--seed", "4294967296"],
        ["data", "synth", "--rows", "1000001"],
        ["data", "synth", "--rows", "99999999999999"],
        ["app", "--host", "a" * 300],
        ["app", "--host", "a..b"],
        ["app", "--threads", "99999999999"],
        ["predict", "face.png", "--threads", "99999999999"],
    ],
)
def test_wrong_usage_exits_2(tmp_path: Path, arguments: list[str]) -> None:
    where = [] if arguments == ["trian"] else ["--store", str(tmp_path)]
    done = run(*arguments, *where)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert done.stderr
    assert "unexpected" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["data", "audit"],
        ["data", "show"],
        ["data", "import", "nothing-here.csv"],
        ["resample", "--method", "ros"],
        ["leaderboard"],
        ["predict", "face.png", "--graph", "none.onnx"],
        ["train", "--recipe", "nothing-here.toml"],
    ],
)
def test_what_is_missing_exits_3_and_says_how_to_get_it(tmp_path: Path, arguments: list[str]) -> None:
    done = run(*arguments, "--store", tmp_path / "empty")
    assert done.exit_code == 3, done.output
    assert "ensemble-fer " in done.stderr
    assert not (tmp_path / "empty").exists()


def test_a_store_that_is_a_file_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("runs", "list", "--store", tmp_path / "file")
    assert done.exit_code == 2
    assert "is a file" in done.stderr


@pytest.mark.parametrize("given", ["", "  "])
def test_an_empty_store_is_wrong_usage(monkeypatch, tmp_path: Path, given: str) -> None:
    monkeypatch.chdir(tmp_path)
    for option in (["--store", given], [f"--store={given}"]):
        done = run("runs", "list", *option)
        assert (done.exit_code, done.stdout) == (2, "")
        assert "--store" in done.stderr
        assert "is empty" in done.stderr
    monkeypatch.setenv("ENSEMBLE_FER_STORE", given)
    for command in (["runs", "list"], ["data", "synth", "--rows", "200"], ["demo"]):
        done = run(*command)
        assert done.exit_code == 2
        assert "ENSEMBLE_FER_STORE" in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert run("runs", "list", "--store", tmp_path / "here").exit_code == 0


def test_a_figure_that_cannot_be_written_is_refused_before_the_look(monkeypatch, tmp_path: Path) -> None:
    def scored(*_: object, **__: object) -> None:
        raise AssertionError("the look was spent")

    monkeypatch.setattr("ensemble_fer.report.evaluate", scored)
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    for figure, said in (
        (tmp_path, "is a folder"),
        (tmp_path / "folder.png", "is a folder"),
        (tmp_path / "a.pdf", ".png"),
        (tmp_path / "file/a.png", "cannot be written"),
        (tmp_path / "file/deeper/a.png", "cannot be written"),
    ):
        done = run("evaluate", "run", "--figure", figure, "--json", "--store", tmp_path / "store")
        assert done.exit_code == 2, done.output
        assert said in done.stderr
        assert done.stdout == ""
    done = run("evaluate", "run", "--figure", tmp_path / "new/a.png", "--store", tmp_path / "store")
    assert "the look was spent" in done.stderr


def test_damage_is_an_error_with_its_path_and_a_problem_of_doctor(drawn: Path, tmp_path: Path) -> None:
    store = shutil.copytree(drawn, tmp_path / "store")
    (manifest,) = store.glob("data/*/manifest.json")
    manifest.write_text("{")
    for command, code in ((["data", "audit"], 1), (["store", "check"], 1), (["doctor"], 3)):
        done = run(*command, "--store", store)
        assert done.exit_code == code, done.output
        assert str(manifest) in done.stderr
        assert "defect" not in done.stderr
    manifest.unlink()
    for command in (["data", "audit"], ["doctor"]):
        done = run(*command, "--store", store)
        assert done.exit_code == 3
        assert "data name 'synthetic' means" in done.stderr
    assert run("leaderboard", "--store", store).exit_code == 3
