"""What every command promises: JSON alone on stdout, tables, files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ensemble_fer.cli import doctor
from ensemble_fer.cli.output import cell_text, percent, plain
from tests.cli.running import run

ROOT = Path(__file__).parents[2]


def test_the_store_is_taken_from_the_environment(monkeypatch, drawn: Path) -> None:
    monkeypatch.setenv("ENSEMBLE_FER_STORE", str(drawn))
    found = json.loads(run("data", "audit", "--json").stdout)
    assert sum(map(sum, found["counts"].values())) == 300


def test_synth_says_the_same_as_json_and_as_table(drawn: Path) -> None:
    found = json.loads(run("data", "synth", "--rows", 300, "--json", "--store", drawn).stdout)
    assert found["name"] == "synthetic"
    assert found["rows"] == 300
    table = run("data", "synth", "--rows", 300, "--store", drawn).stdout
    assert found["id"] in table
    for counts in found["usage"].values():
        assert f"{sum(counts):,}" in table


def test_importing_a_csv_twice_gives_one_id(tmp_path: Path) -> None:
    pixels = " ".join(["7"] * 2304)
    csv = tmp_path / "fer2013.csv"
    rows = [f"{label},{pixels},{usage}" for label in range(7) for usage in ("Training", "PublicTest", "PrivateTest")]
    csv.write_text("\n".join(["emotion,pixels,Usage", *rows]) + "\n")
    first, second = (json.loads(run("data", "import", csv, "--json", "--store", tmp_path).stdout) for _ in range(2))
    assert first["id"] == second["id"]
    assert (first["name"], first["rows"]) == ("fer2013", 21)


def test_faces_that_are_there_already_are_called_what_was_asked_for(drawn: Path) -> None:
    again = json.loads(run("data", "synth", "--rows", 300, "--name", "other", "--json", "--store", drawn).stdout)
    first = json.loads(run("data", "synth", "--rows", 300, "--json", "--store", drawn).stdout)
    (drawn / "refs/data/other").unlink()
    assert (again["name"], first["name"]) == ("other", "synthetic")
    assert again["id"] == first["id"]


def test_bad_rows_are_named_and_nothing_is_imported(tmp_path: Path) -> None:
    good, bad = " ".join(["7"] * 2304), " ".join(["256"] * 2304)
    csv = tmp_path / "fer2013.csv"
    csv.write_text(f"emotion,pixels,Usage\n0,{good},Training\n1,{bad},Training\n9,{good},Training\n")
    done = run("data", "import", csv, "--store", tmp_path / "s")
    assert done.exit_code == 1
    assert done.stdout == ""
    assert "2 bad rows" in done.stderr
    assert "--skip-bad-rows" in done.stderr
    assert not (tmp_path / "s/data").exists()
    kept = run("data", "import", csv, "--skip-bad-rows", "--store", tmp_path / "s")
    assert kept.exit_code == 0
    assert "2 bad rows were left out" in kept.stderr


def test_resample_json_has_what_was_promised(drawn: Path) -> None:
    done = run("resample", "--method", "smote", "--json", "--store", drawn)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    promised = {"id", "method", "counts_before", "counts_after", "rows", "synthetic", "duplicates", "removed"}
    promised |= {"seconds", "peak_mb"}
    assert promised <= set(found)
    assert found["counts_after"] == [max(found["counts_before"])] * 7
    assert found["rows"] == sum(found["counts_after"])
    assert found["synthetic"] == found["rows"] - sum(found["counts_before"])


def test_resample_dry_run_makes_nothing(drawn: Path) -> None:
    before = sorted((drawn / "resampling").glob("*")) if (drawn / "resampling").exists() else []
    found = json.loads(run("resample", "--method", "ros", "--dry-run", "--json", "--store", drawn).stdout)
    assert found["counts_after"] == [max(found["counts_before"])] * 7
    assert {"memory_mb", "seconds"} <= set(found)
    for method, said in (("ros", None), ("borderline_smote", None), ("adasyn", "about: "), ("tomek", "at most: ")):
        lines = run("resample", "--method", method, "--dry-run", "--store", drawn).stdout.splitlines()
        assert [line for line in lines if "known afterwards" in line] == [
            line for line in lines if said and line.startswith(said)
        ]
        assert any("known afterwards" in line for line in lines) == (said is not None)
    after = sorted((drawn / "resampling").glob("*")) if (drawn / "resampling").exists() else []
    assert before == after


def test_resample_limits_classes_and_names_the_near_match(drawn: Path) -> None:
    found = json.loads(run("resample", "--method", "ros", "--classes", "Disgust", "--json", "--store", drawn).stdout)
    changed = [a != b for a, b in zip(found["counts_after"], found["counts_before"], strict=True)]
    assert changed == [False, True, False, False, False, False, False]
    done = run("resample", "--method", "ros", "--classes", "disgsut", "--store", drawn)
    assert done.exit_code == 2
    assert "'disgust'" in done.stderr


def test_show_writes_a_row_of_faces_for_each_class_asked_for(drawn: Path, tmp_path: Path) -> None:
    from PIL import Image

    def height(*classes: str) -> int:
        sheet = tmp_path / "new/sheet.png"
        asked = ["--classes", ",".join(classes)] if classes else []
        done = run("data", "show", *asked, "--columns", 3, "-o", sheet, "--store", drawn)
        assert done.stdout.strip() == str(sheet)
        with Image.open(sheet) as picture:
            return picture.size[1]

    one, two = height("sad"), height("disgust", "sad")
    assert two - one > 96
    assert height() == one + 6 * (two - one)
    done = run("data", "show", "--usage", "Test", "-o", tmp_path / "other.png", "--store", drawn)
    assert done.exit_code == 2
    assert "PrivateTest" in done.stderr
    assert not (tmp_path / "other.png").exists()
    assert run("data", "show", "-o", tmp_path / "faces", "--store", drawn).exit_code == 2  # no name of a picture
    assert run("data", "show", "-o", tmp_path / "faces.PNG", "--store", drawn).exit_code == 0
    with Image.open(tmp_path / "faces.PNG") as picture:
        assert picture.format == "PNG"
    done = run("data", "show", "-o", tmp_path / "faces.txt", "--store", drawn)
    assert done.exit_code == 2
    assert ".png" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        (["train", "--resampled", "smot"], "'smote'"),
        (["train", "--split", "offical"], "'official'"),
        (["train", "--device", "cud"], "'cuda'"),
        (["evaluate", "x", "--device", "gpu0"], "cuda:N"),
        (["leaderboard", "--split", "offical"], "'official'"),
    ],
)
def test_misspelt_names_are_answered_with_the_near_match_before_torch(
    drawn: Path, arguments: list[str], near: str
) -> None:
    script = "import sys\nsys.modules['torch'] = None\nfrom ensemble_fer.cli import main\nmain()\n"
    command = [sys.executable, "-c", script, *arguments, "--store", str(drawn)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert near in done.stderr


def test_train_says_that_the_answer_was_there_already(monkeypatch, drawn: Path) -> None:
    import ensemble_fer.train
    from ensemble_fer.store import Store

    metrics = {"select": {"macro_f1": 0.5, "accuracy": 0.5}, "parameters": 1, "epochs": 1, "best_epoch": 1}

    def answers(store: Store, *rest: object, **more: object):
        return store.put("run", {"fake": 1}, [], lambda folder: {**metrics, "train_seconds": 1, "name": "first"})

    monkeypatch.setattr(ensemble_fer.train, "train", answers)
    told = [run("train", "--fresh", "--name", "mine", "--json", "--store", drawn) for _ in range(2)]
    Store(drawn).remove("run", json.loads(told[0].stdout)["id"])
    assert [json.loads(done.stdout)["name"] for done in told] == ["mine", "mine"]
    assert "answered from the store" not in told[0].stderr
    assert "answered from the store" in told[1].stderr


def test_leaderboard_table_tells_the_engine_and_how_each_score_was_obtained(capsys) -> None:
    from ensemble_fer.cli.evaluation import print_leaderboard
    from ensemble_fer.types import Protocol

    def row(rank: int | None, name: str, engine: str, **stamp) -> dict:
        texts = dict.fromkeys(("model", "resampling", "split", "tta"), "x")
        scores = dict.fromkeys(("select", "test", "twin_free", "top2", "disgust_f1"))
        line = Protocol("fer2013", "official", "select", **stamp).line()
        latency = {"ms": 4.12, "engine": engine}
        more = {"parameters": 7, "latency_ms": 4.12, "latency": latency, "stamp": line}
        return {"rank": rank, "name": name, **texts, **scores, **more}

    rows = [row(1, "trio", "onnxruntime"), row(2, "one", "torch", resampling="ros")]
    print_leaderboard({"data": "fer2013", "rows": rows, "leaky": [row(None, "bad", "torch", leaks=("test rows",))]})
    out = capsys.readouterr().out
    assert "4.1 onnx" in out
    assert "4.1 torch" in out
    for start, r in zip(("  1  trio: ", "  2  one: ", "  -  bad: LEAKY"), [*rows, None], strict=True):
        (line,) = [line for line in out.splitlines() if line.startswith(start)]
        assert r is None or line == start + r["stamp"]


def test_predict_says_that_the_shipped_ensemble_answers_and_what_is_missing(tmp_path: Path) -> None:
    from ensemble_fer.store import Store
    from tests.export.making import graph_file

    store = Store(tmp_path)

    def write(folder: Path) -> None:
        (folder / "ensemble.onnx").write_bytes(graph_file().read_bytes())

    store.put("ensemble", {}, [], write, name="trio")
    done = run("predict", tmp_path / "a.png", tmp_path / "b.png", "--store", tmp_path)
    assert done.exit_code == 3
    assert "answered by the shipped ensemble; --ensemble NAME asks one of yours" in done.stderr
    assert f"{tmp_path}/a.png: no such file\n{tmp_path}/b.png: no such file" in done.stderr
    (tmp_path / "a.png").write_text("no picture")
    named = run("predict", tmp_path / "a.png", "--ensemble", "trio", "--store", tmp_path)
    assert named.exit_code == 1
    assert "answered by" not in named.stderr
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_text("no picture")
    none = run("predict", tmp_path / "bad", "--ensemble", "trio", "--store", tmp_path, "--json")
    assert none.exit_code == 1, "nothing at all was answered"
    assert json.loads(none.stdout)[0]["problem"]


def test_config_show_is_a_recipe_that_can_be_read_back(tmp_path: Path) -> None:
    from ensemble_fer.config import resolve_recipe

    done = run("config", "show", "--model", "vggnet")
    path = tmp_path / "recipe.toml"
    path.write_text(done.stdout)
    assert resolve_recipe(path) == resolve_recipe(model="vggnet")
    sources = {s["key"]: s["source"] for s in json.loads(run("config", "show", "--recipe", path, "--json").stdout)}
    assert set(sources.values()) == {"file"}


def test_doctor_reports_what_is_here(drawn: Path) -> None:
    done = run("doctor", "--json", "--store", drawn)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["store"]["data"] == [
        {"name": "synthetic", "id": found["store"]["data"][0]["id"], "rows": 300},
    ]
    assert found["python"].split(".")[:2] == [str(v) for v in sys.version_info[:2]]
    assert found["packages"]["torch"]
    assert found["problems"] == []
    assert "synthetic (300 faces)" in run("doctor", "--store", drawn).stdout


def test_doctor_exits_3_for_what_is_missing(monkeypatch, drawn: Path) -> None:
    monkeypatch.setattr(doctor, "declared_packages", lambda: ({"onnxruntime": None}, {}))
    done = run("doctor", "--json", "--store", drawn)
    assert done.exit_code == 3
    assert json.loads(done.stdout)["packages"] == {"onnxruntime": None}
    assert "missing: package onnxruntime. Get it:  pip install" in done.stderr


def test_a_kill_exits_130(drawn: Path, tmp_path: Path) -> None:
    script = "import time, ensemble_fer.upkeep as u, sys\nfrom ensemble_fer.cli import main\n"
    script += "def wait(store):\n    print('ready', flush=True)\n    time.sleep(60)\n"
    script += "u.list_runs = wait\nsys.argv = ['ensemble-fer', 'runs', 'list']\nmain()\n"
    for number in (signal.SIGTERM, signal.SIGINT):
        with subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell that starts the tests in the background has Ctrl-C ignored, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.05)
            os.kill(process.pid, number)
            _, error = process.communicate(timeout=20)
        assert process.returncode == 130
        assert error.startswith("error: interrupted")


def test_ctrl_c_while_the_commands_are_imported_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt\n")
    done = subprocess.run(
        [sys.executable, "-m", "ensemble_fer", "--help"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (130, "error: interrupted.\n")


@pytest.mark.parametrize("where", ["typer.main.get_command", "ensemble_fer.cli.Guarded.parse_args"])
def test_ctrl_c_before_a_command_begins_is_a_line(where: str) -> None:
    module, _, name = where.rpartition(".")
    holder = module if module != "ensemble_fer.cli.Guarded" else "ensemble_fer.cli"
    script = f"""
import sys, {holder}
from ensemble_fer.__main__ import main
def stop(*given, **named):
    raise KeyboardInterrupt
{module}.{name} = stop
sys.argv = ["ensemble-fer", "runs", "list"]
main()
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "error: interrupted.\n")


def test_values_are_made_plain_for_json() -> None:
    import numpy as np

    found = plain({"a": np.float32(0.5), 1: np.array([1, 2]), "n": float("nan"), "p": Path("x"), "t": (1, None)})
    assert found == {"a": 0.5, "1": [1, 2], "n": None, "p": "x", "t": [1, None]}
    assert plain(np.float64("inf")) is None


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (True, "yes"), (1234567, "1,234,567"), (0.12345, "0.1235"), (1234.56, "1,234.6")]
)
def test_cells(value: object, text: str) -> None:
    assert cell_text(value) == text


def test_percent() -> None:
    assert percent(0.694) == "69.4"
    assert percent(0.694, [0.679, 0.708]) == "69.4 [67.9, 70.8]"
    assert percent(float("nan")) == percent(None) == ""
