"""One member from recipe to stored run; killed and resumed, it ends with the same weights."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from ensemble_fer.cli import app
from ensemble_fer.config import Recipe, resolve_recipe
from ensemble_fer.data.importing import load_faces
from ensemble_fer.data.splits import split_of
from ensemble_fer.errors import EnsembleFerError, StoreError, UsageError
from ensemble_fer.evaluate.metrics import macro_f1
from ensemble_fer.evaluate.predictions import load_predictions
from ensemble_fer.resample import load_resampling, make_resampling
from ensemble_fer.store import Artifact, MadeElsewhere, NameMoved, Store
from ensemble_fer.train import load_member, loop, predict_rows, running, train
from ensemble_fer.train.checkpoint import save_checkpoint
from ensemble_fer.train.loop import HISTORY
from ensemble_fer.train.preparing import learn
from ensemble_fer.types import Role

SHORT = Recipe(epochs=3, epoch_rows=192, batch_size=32, augmentation="light", precision="float32")

# A process of its own, so that it can be killed; it says each step on stdout.
CHILD = """
import sys, time
from ensemble_fer.config import Recipe
from ensemble_fer.store import Store
from ensemble_fer.train import running, train

live = running.progress

from contextlib import contextmanager

@contextmanager
def spoken(total, what, quiet=False):
    def advance(n=1, note=""):
        print("step", flush=True)
        time.sleep(0.02)
    yield advance

running.progress = spoken
recipe = Recipe(epochs=3, epoch_rows=192, batch_size=32, augmentation="light", precision="float32",
                optimizer=sys.argv[2])
train(Store(sys.argv[1]), recipe, threads=1)
"""


@pytest.fixture(scope="module")
def trained(template: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Artifact]:
    store = Store(shutil.copytree(template, tmp_path_factory.mktemp("unbroken") / "store"))
    return store, train(store, SHORT, threads=1, quiet=True)


def weights(run: Artifact) -> dict[str, torch.Tensor]:
    return load_file(run.file("weights.safetensors"))


def test_a_run_holds_what_it_should(trained: tuple[Store, Artifact]) -> None:
    store, run = trained
    history = [json.loads(line) for line in run.file(HISTORY).read_text().splitlines()]
    assert [record["epoch"] for record in history] == [1, 2, 3]
    best = max(history, key=lambda record: record["macro_f1"])
    assert run.metrics["best_epoch"] == best["epoch"]
    assert resolve_recipe(run.file("recipe.toml")) == SHORT
    data = store.get("data", "synthetic")
    _, split = split_of(store, data)
    predictions = load_predictions(run.file("select.npz"))
    assert predictions.role == Role.SELECT
    assert np.array_equal(predictions.rows, split.select_rows)
    assert macro_f1(predictions.labels, predictions.logits) == pytest.approx(best["macro_f1"])
    assert run.metrics["select"]["macro_f1"] == pytest.approx(best["macro_f1"])
    assert not (store.root / "unfinished").exists() or not list((store.root / "unfinished").iterdir())
    assert store.get("run", "compact-none-s0").id == run.id


def test_kept_weights_give_the_kept_logits(trained: tuple[Store, Artifact]) -> None:
    store, run = trained
    predictions = load_predictions(run.file("select.npz"))
    faces = load_faces(store.get("data", "synthetic"))
    torch.set_num_threads(1)
    logits = predict_rows(load_member(run), faces.images[predictions.rows])
    assert np.allclose(logits, predictions.logits, atol=1e-5)


def test_the_same_request_is_answered_from_disk(trained: tuple[Store, Artifact]) -> None:
    store, run = trained
    began = time.perf_counter()
    again = train(store, SHORT, name="other", threads=1, quiet=True)
    assert again.manifest["created"] == run.manifest["created"]
    assert store.get("run", "other").id == run.id
    assert time.perf_counter() - began < run.metrics["train_seconds"] + 5


def test_other_seeds_and_sets_are_other_runs(trained: tuple[Store, Artifact]) -> None:
    store, run = trained
    one = Recipe(**{**SHORT.to_dict(), "epochs": 1, "seed": 1, "resampling": "ros"})
    other = train(store, one, threads=1, quiet=True)
    assert other.id != run.id
    assert any(not torch.equal(weights(run)[k], weights(other)[k]) for k in weights(run))
    assert other.metrics["protocol"]["resampling"] == "ros"


def child(store: Store, optimizer: str) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", CHILD, str(store.root), optimizer]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("how", "optimizer", "steps"), [("SIGINT", "nesterov", 8), ("SIGTERM", "adamw", 4), ("SIGKILL", "adam", 14)]
)
def test_interrupted_and_resumed_ends_with_the_same_weights(
    prepared: Store,
    trained: tuple[Store, Artifact],
    template: Path,
    tmp_path: Path,
    how: str,
    optimizer: str,
    steps: int,
) -> None:
    """Ctrl-C and TERM keep the step under way; kill -9 goes back to the last epoch; none changes a bit."""
    process = child(prepared, optimizer)
    assert process.stdout is not None
    for _ in range(steps):
        assert process.stdout.readline() == "step\n"
    process.send_signal(getattr(signal, how))
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert prepared.ids("run") == []
    (checkpoint,) = prepared.root.glob("unfinished/*/checkpoint.safetensors")
    assert checkpoint.stat().st_size > 0
    assert ("KeyboardInterrupt" in errors) == (how != "SIGKILL")
    recipe = Recipe(**{**SHORT.to_dict(), "optimizer": optimizer})
    resumed = train(prepared, recipe, threads=1, quiet=True)
    unbroken = (
        trained[1]
        if recipe == SHORT
        else train(Store(shutil.copytree(template, tmp_path / "unbroken")), recipe, threads=1, quiet=True)
    )
    assert resumed.id == unbroken.id
    for key, value in weights(unbroken).items():
        assert torch.equal(weights(resumed)[key], value), key
    assert resumed.file(HISTORY).read_text() == unbroken.file(HISTORY).read_text()
    assert np.array_equal(
        load_predictions(resumed.file("select.npz")).logits, load_predictions(unbroken.file("select.npz")).logits
    )


@pytest.mark.parametrize("killed", [False, True])
def test_a_training_that_another_process_does_is_waited_for(
    prepared: Store, trained: tuple[Store, Artifact], monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """It is not done twice at once; where the other process dies, its training goes on here."""
    process = child(prepared, SHORT.optimizer)
    assert process.stdout is not None
    for _ in range(8):
        assert process.stdout.readline() == "step\n"
    begun = []
    monkeypatch.setattr(running, "learn", lambda *given, **more: begun.append(1) or learn(*given, **more))
    if killed:
        threading.Timer(0.2, process.kill).start()
    reader = threading.Thread(target=process.communicate)
    reader.start()
    with pytest.warns(MadeElsewhere, match="waiting for it to end"):
        made = train(prepared, SHORT, threads=1, quiet=True)
    reader.join()
    assert process.returncode == (-signal.SIGKILL if killed else 0)
    assert begun == ([1] if killed else [])
    for key, value in weights(trained[1]).items():
        assert torch.equal(weights(made)[key], value), key
    assert not list((prepared.root / "unfinished").iterdir())


def test_a_damaged_checkpoint_is_named(prepared: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(running, "predictions_of", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(prepared, SHORT, threads=1, quiet=True)
    (checkpoint,) = prepared.root.glob("unfinished/*/checkpoint.safetensors")
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(StoreError, match="--fresh"):
        train(prepared, SHORT, threads=1, quiet=True)
    assert train(prepared, SHORT, fresh=True, threads=1, quiet=True).metrics["epochs"] == 3


def test_early_stopping_counts_epochs_without_gain(prepared: Store) -> None:
    """With a learning rate that changes nothing the first epoch stays the best."""
    recipe = Recipe(epochs=9, epoch_rows=64, batch_size=32, patience=2, learning_rate=1e-12, schedule="constant")
    run = train(prepared, recipe, threads=1, quiet=True)
    history = [json.loads(line) for line in run.file(HISTORY).read_text().splitlines()]
    best = run.metrics["best_epoch"]
    assert len(history) == best + 2
    assert history[best - 1]["macro_f1"] == max(r["macro_f1"] for r in history)


def test_the_last_epoch_is_kept_where_the_recipe_says_so(prepared: Store) -> None:
    recipe = Recipe(epochs=2, epoch_rows=512, batch_size=32, schedule="step", step_epochs=1, step_factor=0.999)
    recipe = replace(recipe, learning_rate=0.02, optimizer="adam", precision="float32", seed=3)
    kept = {}
    for which in ("best", "last"):
        run = train(prepared, replace(recipe, kept_epoch=which), threads=1, quiet=True)
        history = [json.loads(line) for line in run.file(HISTORY).read_text().splitlines()]
        said = load_predictions(run.file("select.npz"))
        kept[which] = run.metrics["best_epoch"], [record["macro_f1"] for record in history]
        assert macro_f1(said.labels, said.logits) == pytest.approx(history[run.metrics["best_epoch"] - 1]["macro_f1"])
        assert ("last epoch" in said.protocol.chosen_by) == (which == "last")
        # A key that came later: runs made before it are found by what they were asked for then.
        assert ("kept_epoch" in run.spec["recipe"]) == (which == "last")
    assert kept["best"][1] == kept["last"][1]
    assert kept["last"][0] == 2
    assert kept["best"][0] == 1 + int(np.argmax(kept["best"][1])) == 1, "with this seed; else both would keep the same"
    for wrong in ({"patience": 2}, {"schedule": "plateau"}):
        with pytest.raises(UsageError, match="kept_epoch = last"):
            replace(recipe, kept_epoch="last", **wrong)


def test_a_diverging_training_says_so(prepared: Store) -> None:
    recipe = Recipe(epochs=2, epoch_rows=256, batch_size=32, learning_rate=1e5, schedule="constant", dropout=0.0)
    with pytest.raises(EnsembleFerError, match="learning_rate"):
        train(prepared, recipe, threads=1, quiet=True)


def test_going_on_otherwise_than_begun_is_said_on_the_command_line(
    prepared: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def saved_and_interrupted(*args: object, **kwargs: object) -> None:
        save_checkpoint(*args, **kwargs)  # pyright: ignore[reportArgumentType]
        raise KeyboardInterrupt

    asked = ("--epochs", 2, "--epoch-rows", 64, "--batch-size", 32, "--precision", "float32", "--store", prepared.root)
    threads = torch.get_num_threads()
    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", saved_and_interrupted)
        done = CliRunner().invoke(app, ["train", *map(str, asked), "--threads", "1"])
    assert done.exit_code == 130, done.output
    assert "warning" not in done.stderr
    done = CliRunner().invoke(app, ["train", *map(str, asked), "--threads", "2"])
    torch.set_num_threads(threads)
    assert done.exit_code == 0, done.output
    assert "warning: this training began with {'threads': 1" in done.stderr
    assert "not end with the same bits" in done.stderr


def test_a_batch_larger_than_the_training_set_is_refused(prepared: Store, trained: tuple[Store, Artifact]) -> None:
    rows = trained[1].metrics["train_rows"]
    recipe = Recipe(**{**SHORT.to_dict(), "batch_size": rows + 1})
    with pytest.raises(UsageError, match=f"batch_size is {rows + 1}, but there are {rows} training rows"):
        train(prepared, recipe, threads=1, quiet=True)
    assert not (prepared.root / "unfinished").exists()


def test_the_kept_recipe_trains_the_same_when_the_name_has_moved(prepared: Store) -> None:
    data = prepared.get("data", "synthetic")
    first = make_resampling(prepared, data, method="ros", name="balanced")
    assert isinstance(first, Artifact)
    named = Recipe(**{**SHORT.to_dict(), "epochs": 1, "epoch_rows": 64, "resampling": "balanced"})
    run = train(prepared, named, threads=1, quiet=True)
    kept = resolve_recipe(run.file("recipe.toml"))
    assert kept == replace(named, resampling=first.id)
    assert run.spec["recipe"]["resampling"] == "ros"
    prepared.remove("run", run.id)
    with pytest.warns(NameMoved):
        make_resampling(prepared, data, method="ros", seed=1, name="balanced")
    assert train(prepared, kept, threads=1, quiet=True).id == run.id


def test_a_resampling_of_another_split_is_refused(prepared: Store) -> None:
    other = make_resampling(
        prepared, prepared.get("data", "synthetic"), method="ros", split="official-clean", name="clean"
    )
    assert isinstance(other, Artifact)
    with pytest.raises(UsageError, match="another split"):
        train(prepared, Recipe(**{**SHORT.to_dict(), "resampling": "clean"}), threads=1, quiet=True)


def test_member_learns_what_augmented_batches_show(trained: tuple[Store, Artifact]) -> None:
    """More steps give a lower loss than none: the loop does train."""
    _, run = trained
    history = [json.loads(line) for line in run.file(HISTORY).read_text().splitlines()]
    assert history[-1]["train_loss"] < history[0]["train_loss"] < 2.5


@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        (Recipe(epochs=3, learning_rate=0.2), "compact-none-s0"),
        (Recipe(loss="focal", seed=3), "compact-none-focal-s3"),
        (Recipe(loss="ldam", optimizer="adamw", split="official-clean"), "compact-none-ldam-adamw-s0-official-clean"),
        (Recipe(train_on="train+select", labels="votes"), "compact-none-votes-train+select-s0"),
        (resolve_recipe(model="vggnet"), "vggnet-none-s0"),
        (resolve_recipe(model="vggnet", schedule="cosine"), "vggnet-none-cosine-s0"),
        (resolve_recipe(model="timm:resnet10t", optimizer="sgd"), "timm-resnet10t-none-sgd-s0"),
    ],
)
def test_a_run_is_named_by_what_was_chosen(trained: tuple[Store, Artifact], recipe: Recipe, name: str) -> None:
    store, run = trained
    rows = load_resampling(store.by_id("resampling", run.inputs[3]))
    assert running.automatic_name(recipe, rows) == name
