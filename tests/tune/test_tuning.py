"""The whole of a search: asked for, done, stored, answered from disk, gone on with."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ensemble_fer.config import resolve_recipe
from ensemble_fer.data.synthetic import synth_data
from ensemble_fer.errors import EnsembleFerError, UsageError
from ensemble_fer.looks import LOG
from ensemble_fer.store import Artifact, Store
from ensemble_fer.train import train
from ensemble_fer.tune import tune
from ensemble_fer.tune.published import PUBLISHED
from ensemble_fer.tune.training import train_candidate
from ensemble_fer.tune.worker import Candidate
from ensemble_fer.upkeep import check_store
from tests.cli.running import run
from tests.tune import toys

TINY: dict[str, Any] = {"epochs": 2, "epoch_rows": 64, "batch_size": 32}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tune") / "store"
    synth_data(Store(root), rows=200)
    return root


@pytest.fixture
def store(drawn: Path, tmp_path: Path) -> Store:
    shutil.copytree(drawn, tmp_path / "store")
    return Store(tmp_path / "store")


def search(store: Store, trials: int | None = 5, **changes: Any) -> Artifact:
    given = {
        "space": "optimizer",
        "sampler": "random",
        "objective": toys.toy,
        "quiet": True,
        "device": "cpu",
        **TINY,
        **changes,
    }
    return tune(store, trials=trials, **given)


def unwanted(candidate: Candidate) -> float:
    raise AssertionError("nothing was to be tried")


def test_a_finished_search_and_what_it_leaves(store: Store) -> None:
    made = search(store)
    assert set(made.manifest["files"]) == {"best.toml", "trials.json", "trials.csv", "importance.png", "slices.png"}
    metrics = made.metrics
    assert (metrics["name"], metrics["trials"], metrics["given_up"]) == ("compact-optimizer-s0", 5, 0)
    rows = json.loads(made.file("trials.json").read_text())
    assert [row["number"] for row in rows] == [0, 1, 2, 3, 4]
    assert rows[0]["changes"]["learning_rate"] == 0.1, "the first trial is the recipe itself"
    assert metrics["best"]["value"] == max(row["value"] for row in rows if row["state"] == "complete")

    text = made.file("best.toml").read_text()
    assert text.startswith("# Study compact-optimizer-s0: trial ")
    best = resolve_recipe(made.file("best.toml"))
    assert best.tuned == "study compact-optimizer-s0, 5 trials on the select part of split official of synthetic"
    assert best.learning_rate == metrics["best"]["changes"]["learning_rate"]
    assert (best.epochs, best.epoch_rows) == (2, 64)

    with made.file("trials.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == 5
    assert {"number", "state", "value", "optimizer", "learning_rate@gradient"} <= table[0].keys()
    for name in ("importance.png", "slices.png"):
        with Image.open(made.file(name)) as picture:
            assert picture.width > 600
    assert check_store(store)["problems"] == []
    assert not list((store.root / "unfinished").glob("tune-*"))
    roles = [json.loads(line)["role"] for line in (store.root / LOG).read_text().splitlines()]
    assert roles == ["select"], "the select part has chosen something, the test part was not looked at"


def test_the_same_search_is_answered_from_disk_and_a_larger_one_goes_on(store: Store) -> None:
    first = search(store, 3)
    assert search(store, 3, objective=unwanted).id == first.id
    with pytest.warns(UserWarning, match="now means"):
        more = search(store, 5)
    assert more.id != first.id
    both = [json.loads(a.file("trials.json").read_text()) for a in (first, more)]
    assert both[1][:3] == both[0]
    assert len(both[1]) == 5
    with pytest.raises(UsageError, match=r"has 5 finished trials already.*--trials 5 or more"):
        search(store, 4)


def test_a_study_does_not_go_on_with_something_else(store: Store) -> None:
    search(store, 1, name="mine")
    for change, message in [
        ({"epochs": 3}, "epochs: 2, now 3"),
        ({"resampling": "ros"}, "resampling: none, now ros"),
        ({"split": "stratified:0.8,0.1,0.1"}, "split: official, now stratified"),
        ({"space": "loss"}, r"space: \['optimizer'\], now \['loss'\]"),
        ({"model": "alexnet"}, "model: compact, now alexnet"),
        ({"sampler": "tpe"}, "sampler: random, now tpe"),
        ({"seed": 1}, "sampler_seed: 0, now 1"),
    ]:
        with pytest.raises(UsageError, match=rf"{message}.*Another search needs a --name of its own"):
            search(store, 2, **{"name": "mine", "objective": unwanted, **change})
    synth_data(store, rows=220, name="other")
    with pytest.raises(UsageError, match=r"data: .*, now"):
        search(store, 2, name="mine", objective=unwanted, data="other")


def test_a_published_grid_is_run_point_by_point(store: Store) -> None:
    made = search(store, None, space="pazos_resnet", sampler=None)
    rows = json.loads(made.file("trials.json").read_text())
    assert [row["params"]["point"] for row in rows] == list(PUBLISHED["pazos_resnet"].points)
    assert {row["state"] for row in rows} == {"complete"}
    assert (made.metrics["sampler"], made.metrics["pruner"], made.metrics["model"]) == (
        "grid",
        "none",
        "resnet_compact",
    )
    best = resolve_recipe(made.file("best.toml"))
    assert (best.optimizer, best.learning_rate, best.dropout) == ("adam", 1e-2, 0.15), "nearest to the toy's 0.02"


def test_where_nothing_comes_to_its_end_the_last_reason_is_said(store: Store) -> None:
    with pytest.raises(EnsembleFerError, match=r"no trial .* came to its end.*ValueError: the toy is broken"):
        search(store, 3, objective=toys.broken)
    with pytest.raises(EnsembleFerError, match=r"the loss became nan at step 7"):
        search(store, 2, objective=toys.diverging, name="other")
    assert store.ids("tuning") == []


def test_after_the_time_the_result_is_of_what_is_done(store: Store) -> None:
    made = search(store, 1000, objective=toys.sleepy, timeout=1.5)
    done = made.metrics["trials"]
    assert 1 <= done < 30
    assert made.spec["trials"] == done
    with pytest.raises(EnsembleFerError, match="no trial"):
        search(store, 10, name="short", timeout=1e-9)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"trials": None}, "--trials is missing"),
        ({"trials": 0}, "expected 1 or more"),
        ({"sampler": "tpee"}, "Did you mean 'tpe'"),
        ({"pruner": "hyper"}, "unknown pruner"),
        ({"space": "pazos_resnet", "sampler": "tpe"}, "point by point"),
        ({"space": "pazos_resnet", "sampler": None, "trials": 6}, "the grid has 5 points"),
        ({"space": "optimizer,schedule,loss", "sampler": "grid"}, "expected 1,000 at most"),
        ({"name": "no/name"}, "cannot be a name"),
        ({"storage": "study.db"}, "no address of a database"),
        ({"workers": 0}, "expected 1 or more"),
    ],
)
def test_wrong_requests_are_refused_before_anything_is_made(store: Store, wrong: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        search(store, **{"trials": 3, "objective": unwanted, **wrong})
    assert not (store.root / "tune").exists()


def test_trainings_are_searched_and_the_best_recipe_gives_its_score_again(store: Store) -> None:
    """Two processes train real members."""
    made = tune(
        store, space="sampling", trials=2, workers=2, threads=2, device="cpu", pruner="none", quiet=True, **TINY
    )
    rows = json.loads(made.file("trials.json").read_text())
    assert [row["state"] for row in rows] == ["complete"] * 2
    assert all(len(row["scores"]) == 2 and row["value"] == max(row["scores"]) for row in rows)
    member = train(store, resolve_recipe(made.file("best.toml")), device="cpu", threads=1, quiet=True)
    assert member.metrics["select"]["macro_f1"] == made.metrics["best"]["value"]
    assert "study compact-sampling-s0, 2 trials on the select part" in member.metrics["protocol"]["chosen_by"]


def test_a_training_that_diverges_is_marked(store: Store) -> None:
    # Decay alone makes the weights a million million times as large at each step.
    wild = {"learning_rate": 9e5, "weight_decay": 1e6, "schedule": "constant"}
    with pytest.raises(EnsembleFerError, match=r"came to its end.*(the loss became|no longer answers with numbers)"):
        tune(store, space="sampling", trials=1, device="cpu", threads=1, quiet=True, **TINY, **wild)


def test_command(store: Store) -> None:
    given = ["tune", "--space", "sampling", "--trials", 2, "--epochs", 1, "--epoch-rows", 32, "--set", "batch_size=32"]
    given += ["--device", "cpu", "--threads", 1, "--store", store.root]
    done = run(*given)
    assert done.exit_code == 0, done.output
    assert "best.toml" in done.stdout
    again = run(*given, "--json")
    found = json.loads(again.stdout)
    assert found["trials"] == 2
    assert Path(found["best_recipe"]).is_file()
    assert "answered from the store" in again.stderr
    assert run("tune", "--space", "los", "--trials", 2, "--store", store.root).exit_code == 2
    assert run("tune", "--space", "loss", "--store", store.root).exit_code == 2


NET = "from torch import nn\ndef build(): return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(36, 7))\n"


def edit_then_train(candidate: Candidate) -> float:
    """The third trial finds the file of the network edited."""
    if candidate._trial.number == 2:
        file = Path(candidate.recipe.model.rpartition(":")[0])
        file.write_text(file.read_text() + "# edited\n")
    return train_candidate(candidate)


def remove_then_train(candidate: Candidate) -> float:
    """The third trial finds no such file."""
    if candidate._trial.number == 2:
        Path(candidate.recipe.model.rpartition(":")[0]).unlink()
    return train_candidate(candidate)


def tear_then_train(candidate: Candidate) -> float:
    """The third trial finds a file that is no code."""
    if candidate._trial.number == 2:
        Path(candidate.recipe.model.rpartition(":")[0]).write_text("def build(")
    return train_candidate(candidate)


@pytest.mark.parametrize(
    ("workers", "objective"), [(1, edit_then_train), (2, edit_then_train), (1, remove_then_train), (1, tear_then_train)]
)
def test_a_network_that_is_edited_during_a_study(
    store: Store, tmp_path: Path, workers: int, objective: Callable[[Candidate], float]
) -> None:
    file = tmp_path / "net.py"
    file.write_text(NET)
    given = {"model": f"{file}:build", "trials": 4, "workers": workers, "name": "own", "pruner": "none"}
    with pytest.raises(EnsembleFerError, match=rf"model {file}:build was changed during study.*Put it back"):
        search(store, objective=objective, **given)
    if objective is edit_then_train:
        with pytest.raises(UsageError, match=r"begun for something else\. It has model_sha256: "):
            search(store, objective=train_candidate, **given)
    # No trial was lost or failed by it.
    file.write_text(NET)
    made = search(store, objective=train_candidate, **given)
    assert (made.metrics["complete"], made.metrics["failed"], made.metrics["given_up"]) == (4, 0, 0)
