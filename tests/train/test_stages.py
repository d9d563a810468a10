"""Where a training starts, which weights move when, and what it may learn from."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ensemble_fer.config import Recipe, resolve_recipe
from ensemble_fer.data.splits import split_of
from ensemble_fer.errors import MissingError, SplitMisuse, UsageError
from ensemble_fer.export.fusing import fuse
from ensemble_fer.leaderboard import leaderboard
from ensemble_fer.report import evaluate
from ensemble_fer.store import Artifact, Store
from ensemble_fer.train import learn, load_member, prepare, train
from ensemble_fer.train.finetuning import finetuning_recipe
from ensemble_fer.train.loop import HISTORY
from ensemble_fer.train.spaces import space_of
from tests.cli.running import run as run_command

SHORT = Recipe(epochs=2, epoch_rows=96, batch_size=32, precision="float32")


@pytest.fixture(scope="module")
def began(template: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Artifact]:
    """A store with one run, the start of others."""
    store = Store(shutil.copytree(template, tmp_path_factory.mktemp("began") / "store"))
    return store, train(store, SHORT, name="first", threads=1, quiet=True)


@pytest.fixture
def store(began: tuple[Store, Artifact], tmp_path: Path) -> Store:
    return Store(shutil.copytree(began[0].root, tmp_path / "copy"))


def weights(run: Artifact) -> dict[str, Tensor]:
    return load_file(run.file("weights.safetensors"))


def epochs(run: Artifact) -> list[dict]:
    return [json.loads(line) for line in run.file(HISTORY).read_text().splitlines()]


def test_fine_tuning_goes_on_from_the_kept_weights(store: Store) -> None:
    first = store.get("run", "first")
    still = finetuning_recipe(store, "first", epochs=1, learning_rate=1e-12, momentum=0.0, optimizer="sgd")
    assert (still.weights, still.schedule, still.resampling) == (f"run:{first.id}", "cosine", "none")
    run = train(store, still, name="second", threads=1, quiet=True)
    for key, value in weights(first).items():
        if "running" not in key and "num_batches" not in key:
            assert torch.allclose(weights(run)[key], value, atol=1e-6), key
    assert first.id in run.inputs
    assert run.metrics["protocol"]["pretraining"] == f"run {first.id} (chosen by macro-F1 on the select part)"
    moved = train(store, replace(still, learning_rate=0.01), name="third", threads=1, quiet=True)
    assert moved.id != run.id
    assert not torch.equal(weights(moved)["body.0.0.weight"], weights(first)["body.0.0.weight"])


def test_a_run_starts_only_from_the_same_split_and_model(store: Store) -> None:
    with pytest.raises(SplitMisuse, match="another split"):
        train(store, replace(SHORT, weights="run:first", split="official-clean"), threads=1, quiet=True)
    with pytest.raises(UsageError, match=r"run \w+ is a compact"):
        train(store, replace(SHORT, weights="run:first", model="small_cnn"), threads=1, quiet=True)
    with pytest.raises(UsageError, match="fist"):
        train(store, replace(SHORT, weights="run:fist"), threads=1, quiet=True)


def test_trained_on_select_nothing_is_chosen_or_fitted_there(store: Store) -> None:
    recipe = finetuning_recipe(store, "first", epochs=2, learning_rate=0.01, train_on="train+select")
    run = train(store, recipe, name="all", threads=1, quiet=True)
    data = store.get("data", "synthetic")
    _, split = split_of(store, data)
    assert run.metrics["train_rows"] == len(split.train_rows) + len(split.select_rows)
    assert "select.npz" not in run.manifest["files"]
    assert run.metrics["select"] is None
    assert run.metrics["best_epoch"] == 2
    assert all("macro_f1" not in record for record in epochs(run))
    with pytest.raises(SplitMisuse, match="knows the select part"):
        evaluate(store, "all", role="select", quiet=True)
    with pytest.raises(SplitMisuse, match="no select part"):
        fuse(store, ["first", "all"], quiet=True)
    with pytest.raises(SplitMisuse, match="select part too"):
        train(store, replace(SHORT, weights="run:all"), threads=1, quiet=True)
    row = next(row for row in leaderboard(store)["rows"] if row["name"] == "all")
    assert (row["rank"], row["select"]) == (None, None)

    found = evaluate(store, "all", quiet=True)
    protocol = found.report.to_dict()["protocol"]
    assert protocol["trained_on"] == "train+select"
    assert "last epoch" in protocol["chosen_by"]
    assert protocol["twins_in_select"] == 0
    assert "trained on train+select" in found.predictions.protocol.line()
    # A test face that shows a photograph of the select part is known to this member.
    alone = evaluate(store, "first", quiet=True).predictions
    assert np.all(found.predictions.twin_in_train >= alone.twin_in_train)
    both = np.concatenate([split.train_rows, split.select_rows])
    twins = store.by_id("twins", run.inputs[2]).arrays("twins.npz")["groups"]
    assert np.array_equal(found.predictions.twin_in_train, np.isin(twins[split.test_rows], twins[both]))


def test_select_cannot_stop_or_schedule_what_trains_on_it() -> None:
    with pytest.raises(UsageError, match="patience"):
        replace(SHORT, train_on="train+select", patience=3)
    with pytest.raises(UsageError, match="plateau"):
        replace(SHORT, train_on="train+select", schedule="plateau")


def test_stages_stay_until_they_thaw(store: Store, tmp_path: Path) -> None:
    recipe = replace(SHORT, weights="run:first", frozen_stages=1, unfreeze_epoch=2, learning_rate=0.05)
    after: list[dict[str, Tensor]] = []
    found = prepare(store, recipe, quiet=True)
    begin = weights(store.get("run", "first"))

    def note(record: dict) -> None:
        stored = load_file(tmp_path / "checkpoint.safetensors")
        after.append({k.removeprefix("model."): v for k, v in stored.items() if k.startswith("model.")})

    learn(found, tmp_path, device="cpu", on_epoch=note)
    member = load_member(store.get("run", "first"))
    first = [f"body.{name}" for name in member.stages[0]]
    assert first
    for name in first:
        assert torch.equal(after[0][name], begin[name]), name
    assert any(not torch.equal(after[1][name], begin[name]) for name in first)
    statistics = "body.0.1.running_mean"
    assert torch.equal(after[0][statistics], begin[statistics])
    assert not torch.equal(after[1][statistics], begin[statistics])
    others = [name for name in begin if name.endswith("weight") and name not in first]
    assert all(not torch.equal(after[0][name], begin[name]) for name in others)


def test_random_weights_are_not_frozen_for_ever() -> None:
    with pytest.raises(UsageError, match="random weights"):
        replace(SHORT, frozen_stages=1)
    assert resolve_recipe(model="vit_base_patch16_224", weights="none").frozen_stages == 0
    assert resolve_recipe(model="vit_base_patch16_224").frozen_stages > 0


def test_the_average_is_what_is_scored_and_kept(store: Store, template: Path, tmp_path: Path) -> None:
    recipe = replace(SHORT, ema=0.9)
    run = train(store, recipe, name="averaged", threads=1, quiet=True)
    plain = weights(store.get("run", "first"))
    assert any(not torch.equal(weights(run)[key], plain[key]) for key in plain)

    # Interrupted after an epoch, it goes on with the average it had.
    class Stop(Exception):
        pass

    other = Store(shutil.copytree(template, tmp_path / "other"))
    found = prepare(other, recipe, quiet=True)
    folder = tmp_path / "working"
    folder.mkdir()

    def stop(record: dict) -> None:
        raise Stop

    with pytest.raises(Stop):
        learn(found, folder, device="cpu", on_epoch=stop)
    records: list[dict] = []
    member, _, _ = learn(found, folder, device="cpu", on_epoch=records.append)
    assert [record["epoch"] for record in records] == [1, 2]
    for key, value in member.state_dict().items():
        assert torch.equal(weights(run)[key], value), key


def test_rates_of_head_and_body(store: Store) -> None:
    """A head rate of nearly nothing leaves the head of the first run as it is, and moves the body."""
    recipe = finetuning_recipe(store, "first", epochs=1, learning_rate=0.02, head_rate=1e-6, weight_decay=0.0)
    run = train(store, recipe, name="body", threads=1, quiet=True)
    first, member = weights(store.get("run", "first")), load_member(run)
    head = {f"body.{name}" for name in member.stages[-1]}
    for key, value in weights(run).items():
        if key in head:
            assert torch.allclose(value, first[key], atol=1e-5), key
    assert not torch.allclose(weights(run)["body.0.0.weight"], first["body.0.0.weight"], atol=1e-4)


def test_a_flag_of_finetune_that_changes_nothing_is_refused(store: Store) -> None:
    done = run_command("finetune", "first", "--set", "step_epochs=5", "--store", store.root)
    assert done.exit_code == 2
    assert "error: step_epochs = 5 would change nothing: it belongs to schedule step" in done.stderr


def test_paths_of_a_recipe_are_those_of_the_folder_where_it_was_written(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    (here / "net.py").write_text(
        "from torch import nn\ndef build(): return nn.Sequential(nn.Flatten(), nn.Linear(2304, 7))\n"
    )
    save_file(weights(store.get("run", "first")), here / "w.safetensors")
    monkeypatch.chdir(here)
    recipe = replace(SHORT, model="net.py:build")
    asked = prepare(store, recipe, quiet=True)
    assert asked.recipe.model == "net.py:build"
    monkeypatch.chdir(there)
    for wrong, said in (({"model": "net.py:build"}, "--model"), ({"weights": "w.safetensors"}, "--weights FILE")):
        with pytest.raises(MissingError, match=rf"cannot be read from {there}.* as they were typed.*{said}"):
            prepare(store, replace(SHORT, **wrong), quiet=True)
    again = prepare(store, replace(recipe, model="../here/net.py:build"), quiet=True)
    assert (again.spec, again.inputs) == (asked.spec, asked.inputs), "the same file is the same run"
    monkeypatch.setenv("HOME", str(here))
    assert prepare(store, replace(recipe, model="~/net.py:build"), quiet=True).spec == asked.spec


def test_own_module_is_kept_with_the_run(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from torch import nn\n\n\ndef small(dropout):\n"
        "    return nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(144, 7))\n"
    )
    recipe = replace(SHORT, model=f"{file}:small", epochs=1, learning_rate=0.01)
    run = train(store, recipe, threads=1, quiet=True)
    file.unlink()
    on = finetuning_recipe(store, run.id, epochs=1, learning_rate=1e-3)
    assert train(store, on, name="on", threads=1, quiet=True).inputs[-1] == run.id
    assert sum(p.numel() for p in load_member(run).parameters()) == 144 * 7 + 7
    assert store.name_of(run) == "mine.py-small-none-s0"
    with pytest.raises(MissingError, match=r"mine\.py"):
        train(store, recipe, threads=1, quiet=True)
    file.write_text("from torch import nn\n\n\ndef small(dropout):\n    return nn.Linear(2304, 7)\n")
    assert prepare(store, recipe, quiet=True).spec["model_sha256"] != run.spec["model_sha256"]
    with pytest.raises(UsageError, match="of another content"):
        prepare(store, replace(recipe, weights=f"run:{run.id}"), quiet=True)


def test_weights_from_a_file(store: Store, tmp_path: Path) -> None:
    kept = weights(store.get("run", "first"))
    file = tmp_path / "w.safetensors"
    save_file({key: value + 0.001 if value.is_floating_point() else value for key, value in kept.items()}, file)
    recipe = replace(SHORT, weights=str(file), epochs=1)
    run = train(store, recipe, name="from-file", threads=1, quiet=True)
    begun = run.metrics["protocol"]["pretraining"]
    assert begun == f"file w.safetensors sha256 {run.spec['weights_sha256'][:12]}, trained on rows unknown here"
    assert run.spec["weights_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    # The same file at another place is the same training.
    moved = Path(shutil.move(file, tmp_path / "v.safetensors"))
    assert train(store, replace(recipe, weights=str(moved)), threads=1, quiet=True).id == run.id
    with pytest.raises(MissingError, match=r"w\.safetensors"):
        train(store, recipe, threads=1, quiet=True)


def test_the_file_of_a_run_is_that_run(store: Store, tmp_path: Path) -> None:
    known = train(
        store, replace(SHORT, epochs=1, train_on="train+select", schedule="constant"), name="all", threads=1, quiet=True
    )
    file = shutil.copy(known.file("weights.safetensors"), tmp_path / "renamed.safetensors")
    with pytest.raises(SplitMisuse, match="select part too"):
        train(store, replace(SHORT, weights=str(file)), threads=1, quiet=True)
    first = store.get("run", "first")
    file = shutil.copy(first.file("weights.safetensors"), tmp_path / "again.safetensors")
    assert prepare(store, replace(SHORT, weights=str(file)), quiet=True).start is not None
    with pytest.raises(SplitMisuse, match="another split"):
        train(store, replace(SHORT, weights=str(file), split="official-clean"), threads=1, quiet=True)
    with pytest.raises(SplitMisuse, match="space"):
        space_of(store, "run:all")


def test_a_run_is_known_in_whatever_file_its_weights_are(store: Store, tmp_path: Path) -> None:
    known = train(
        store, replace(SHORT, epochs=1, train_on="train+select", schedule="constant"), name="all", threads=1, quiet=True
    )
    given = weights(known)
    file = tmp_path / "w.pt"
    for content in (
        given,
        {"state_dict": dict(reversed(given.items()))},
        {key.removeprefix("body."): value for key, value in given.items()},
        {key: value for key, value in given.items() if not key.endswith("num_batches_tracked")},
        {key: value.double() if value.is_floating_point() else value for key, value in given.items()},
        {key: value.half() if value.is_floating_point() else value for key, value in given.items()},
        {key: value.bfloat16() if value.ndim > 1 else value for key, value in given.items()},
    ):
        torch.save(content, file)
        with pytest.raises(SplitMisuse, match="select part too"):
            prepare(store, replace(SHORT, weights=str(file)), quiet=True)
    moved = {**given, "body.0.1.running_mean": given["body.0.1.running_mean"] + 0.001}
    torch.save(moved, file)
    assert prepare(store, replace(SHORT, weights=str(file)), quiet=True).start is None


def test_what_is_no_file_of_weights_is_said_before_training(store: Store, tmp_path: Path) -> None:
    for text, said in (("", "weights is ''. Expected none, hub, run:NAME, or a"), (str(tmp_path), "is a folder")):
        with pytest.raises(UsageError) as caught:
            train(store, replace(SHORT, weights=text), threads=1, quiet=True)
        assert said in str(caught.value)


def test_weights_that_change_between_preparing_and_training_are_refused(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    kept = {key: value + 1 for key, value in weights(store.get("run", "first")).items()}
    torch.save(kept, file)
    found = prepare(store, replace(SHORT, weights=str(file)), quiet=True)
    torch.save({key: value + 1 for key, value in kept.items()}, file)
    with pytest.raises(UsageError, match="was changed meanwhile"):
        learn(found, tmp_path, device="cpu")


def test_how_a_recipe_was_found_is_on_the_stamp(store: Store) -> None:
    run = train(store, replace(SHORT, epochs=1, tuned="study x, 30 trials"), name="tuned", threads=1, quiet=True)
    assert run.metrics["protocol"]["chosen_by"].endswith("its recipe by study x, 30 trials")
