"""``data inject`` and ``data votes``, and augmented resamplings, as commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ensemble_fer.data.importing import load_faces
from ensemble_fer.store import Store
from tests.cli.running import run
from tests.data.test_votes import file_of, votes_on


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two sets of synthetic faces."""
    path = tmp_path_factory.mktemp("two") / "store"
    for seed, name in enumerate(("fer2013", "affectnet")):
        done = run("data", "synth", "--rows", 200, "--seed", seed, "--name", name, "--store", path)
        assert done.exit_code == 0, done.output
    return path


def test_inject_says_the_same_as_json_and_as_table(two: Path) -> None:
    asked = ["data", "inject", "--from", "affectnet", "--classes", "angry,disgust", "--limit", 5, "--store", two]
    done = run(*asked, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    (step,) = found["injected"]
    assert found["name"] == "fer2013+affectnet-angry+disgust-5-s0"
    assert found["usage"]["Injected"] == step["added"]
    assert found["rows"] == 200 + sum(step["added"])
    table = run(*asked)
    assert found["id"] in table.stdout
    assert "Injected" in table.stdout
    assert f"added {sum(step['added'])} of {sum(step['offered'])} faces of affectnet; they train only" in table.stdout
    resampled = run("resample", "--method", "ros", "--data", found["name"], "--store", two)
    assert f"injected {sum(step['added'])}" in resampled.stdout
    shown = run("data", "audit", "--data", found["name"], "--json", "--store", two)
    assert json.loads(shown.stdout)["counts"]["Injected"] == step["added"]


def test_injecting_a_set_into_itself_says_what_was_left_out(two: Path) -> None:
    asked = ["data", "inject", "--from", "fer2013", "--classes", "happy", "--name", "twice", "--store", two]
    done = run(*asked)
    assert done.exit_code == 0, done.output
    step = Store(two).get("data", "twice").metrics["injected"][0]
    assert step["left_out"]["rows"] > 0
    assert f"left out {step['left_out']['rows']}: " in done.stdout
    assert f"{step['copies']} of them byte for byte" in done.stderr


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--from", "afectnet", "--classes", "fear"], 2, "Did you mean 'affectnet'"),
        (["--from", "affectnet", "--classes", "fera"], 2, "Did you mean 'fear'"),
        (["--from", "affectnet", "--classes", ","], 2, "names no class"),
        (["--from", "affectnet", "--classes", "fear", "--limit", "0"], 2, "limit"),
        (["--from", "affectnet"], 2, "classes"),
    ],
)
def test_inject_refuses_in_words(two: Path, options: list[str], code: int, message: str) -> None:
    done = run("data", "inject", *options, "--store", two)
    assert (done.exit_code, message in done.stderr) == (code, True), done.output
    assert "Traceback" not in done.output


def test_votes_are_joined_and_refused_in_words(two: Path, tmp_path: Path) -> None:
    faces = load_faces(Store(two).get("data", "fer2013"))
    path = file_of(tmp_path / "fer2013new.csv", faces, votes_on(faces))
    found = json.loads(run("data", "votes", path, "--json", "--store", two).stdout)
    assert (found["name"], found["rows"]) == ("fer2013-votes", 200)
    table = run("data", "votes", path, "--store", two)
    assert f"fer2013-votes ({found['id']}): votes on 200 faces of fer2013" in table.stdout
    absent = run("data", "votes", tmp_path / "absent.csv", "--store", two)
    assert absent.exit_code == 3
    other = run("data", "votes", path, "--data", "affectnet", "--store", two)
    assert other.exit_code == 1
    assert "another order of rows" in other.stderr
    path.write_text("emotion,pixels,Usage\n")
    assert "file of pixels" in run("data", "votes", path, "--store", two).stderr


def test_augment_as_command(two: Path) -> None:
    asked = ["resample", "--method", "augment", "--target", 40, "--data", "fer2013", "--store", two]
    ahead = json.loads(run(*asked, "--dry-run", "--json").stdout)
    done = json.loads(run(*asked, "--json").stdout)
    assert done["counts_after"] == ahead["counts_after"] == [max(n, 40) for n in done["counts_before"]]
    assert done["augmented"] == sum(done["counts_after"]) - sum(done["counts_before"])
    table = run(*asked, "--classes", "disgust,fear")
    assert f"augmented {int(np.maximum(40 - np.array(done['counts_before']), 0)[[1, 2]].sum())}" in table.stdout
    refused = run("resample", "--method", "augment", "--data", "fer2013", "--store", two)
    assert (refused.exit_code, "needs a target" in refused.stderr) == (2, True)
