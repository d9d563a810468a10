"""``study run`` and ``study list``: what is said, and what a machine reads."""

from __future__ import annotations

import json
from pathlib import Path

from ensemble_fer.models import build
from ensemble_fer.models.cost import flops
from tests.cli.running import run
from tests.study.test_plan import STUDIES
from tests.study.test_running import FILE


def test_a_study_from_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "little.toml"
    path.write_text(FILE)
    ahead = json.loads(run("study", "run", path, "--dry-run", "--json", "--store", tmp_path / "s").stdout)
    assert (ahead["runs"], ahead["done"], ahead["ensembles"]) == (5, 0, 1)
    assert not (tmp_path / "s").exists(), "only said"
    assert [arm["steps"] for arm in ahead["arms"]] == [1] * 5
    # Three times twice 128 faces of as many multiplications as the member's card says.
    each = 6 * 128 * flops(build("compact", 0.0))
    assert ahead["flop"] == 5 * each
    assert 0 < ahead["hours"] < 1
    done = run("study", "run", path, "--threads", "1", "--json", "--store", tmp_path / "s")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    arms = {line["of"]: line for line in found["arms"]}
    assert list(arms) == [*(arm["of"] for arm in ahead["arms"]), "pair"]
    left = json.loads(run("study", "run", path, "--dry-run", "--json", "--store", tmp_path / "s").stdout)
    assert (left["done"], left["flop"], left["hours"]) == (5, 0, 0)
    assert "0 of 5 runs to be done" in run("study", "run", path, "--dry-run", "--store", tmp_path / "s").stdout
    row = found["rows"][0]
    assert arms[row["of"]]["select"]["macro_f1"] == {
        "mean": row["select"]["macro_f1"], "spread": None, "each": [row["select"]["macro_f1"]]
    }  # fmt: skip
    assert arms["pair"]["test"]["accuracy"]["mean"] == found["rows"][-1]["test"]["accuracy"]
    assert "6 of 6" in done.stderr
    shown = run("study", "run", path, "--threads", "1", "--store", tmp_path / "s")
    assert shown.exit_code == 0
    assert "schedules/cosine" in shown.stdout
    assert "test macro-F1" in shown.stdout


def test_what_is_leaky_is_marked_wherever_it_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    stage = '[[stage]]\nname = "wrong"\nleak = "own"\nresample = [{ method = "ros" }]\n'
    head, scale = FILE.partition("[[stage]]")[0], FILE[FILE.index("[scale.smoke]") :]
    path.write_text(head + '[[stage]]\nname = "plain"\n' + stage + scale)
    done = run("study", "run", path, "--threads", "1", "--store", tmp_path / "s")
    assert done.exit_code == 0, done.stderr
    honest, mark, leaky = done.stdout.partition("LEAKY, not to be compared")
    assert mark
    assert "plain" in honest
    assert "wrong" not in honest
    assert "LEAKY wrong/ros" in leaky
    assert "wrong.smoke.wrong.ros-s0: LEAKY macro-F1" in done.stderr
    assert "wrong.smoke.plain-s0: macro-F1" in done.stderr


def test_failures_end_with_1(tmp_path: Path) -> None:
    path = tmp_path / "little.toml"
    path.write_text(FILE.replace('schedule = ["cosine", "constant"]', "batch_size = [99999]"))
    done = run("study", "run", path, "--threads", "1", "--store", tmp_path / "s")
    assert done.exit_code == 1
    assert "2 of 5 failed" in done.stderr


def test_the_list_and_unknown_names(tmp_path: Path) -> None:
    listed = json.loads(run("study", "list", "--json", "--store", tmp_path).stdout)
    assert sorted(listed) == [path.stem for path in STUDIES]
    assert {one["done"] for one in listed.values()} == {0}
    assert listed["imbalance_lab"]["small"] == 24 * 5
    wrong = run("study", "run", "khaireddin_vgnet", "--store", tmp_path)
    assert wrong.exit_code == 2
    assert "khaireddin_vggnet" in wrong.stderr
    assert run("study", "run", tmp_path / "none.toml").exit_code == 3
