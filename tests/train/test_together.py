"""Two processes train what one process trains, and are interrupted, killed and gone on from as one is."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file

from ensemble_fer.config import Recipe
from ensemble_fer.errors import EnsembleFerError, MissingError, UsageError
from ensemble_fer.evaluate.predictions import load_predictions
from ensemble_fer.store import Artifact, Store
from ensemble_fer.train import train
from ensemble_fer.train.team import Shared
from ensemble_fer.train.together import check_team

pytest.importorskip("accelerate", reason="accelerate is not installed: pip install 'ensemble-fer[parallel]'")

# Without batch norm, whose batch is a process's share.
PLAIN = """
from torch import nn

def build(dropout=0.0):
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, 4), nn.ReLU(), nn.Flatten(), nn.Dropout(dropout), nn.Linear(8 * 11 * 11, 7)
    )
"""
SHORT = Recipe(
    epochs=2, epoch_rows=100, batch_size=33, augmentation="light", mixup=0.4, loss="weighted", schedule="plateau",
    optimizer="nesterov", learning_rate=0.01, ema=0.9, precision="float32",
)  # fmt: skip
COMMAND = """
import signal, sys
from ensemble_fer.config import Recipe
from ensemble_fer.store import Store
from ensemble_fer.train import train

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored in what a shell has begun with &
    train(Store(sys.argv[1]), Recipe(epochs=8, epoch_rows=240, batch_size=16, precision="float32"), threads=2,
          processes=2, quiet=True)
"""


def weights(run: Artifact) -> dict[str, torch.Tensor]:
    return load_file(run.file("weights.safetensors"))


@pytest.mark.parametrize("model", ["plain", "compact"])
def test_two_processes_end_with_what_one_does(template: Path, tmp_path: Path, model: str) -> None:
    """Batches of 33 do not divide evenly. With batch norm they see other batches, and are near."""
    (tmp_path / "plain.py").write_text(PLAIN)
    recipe = replace(SHORT, model=f"{tmp_path / 'plain.py'}:build" if model == "plain" else model, dropout=0.0)
    one, two = (
        train(Store(shutil.copytree(template, tmp_path / str(n))), recipe, threads=2, processes=n, quiet=True)
        for n in (1, 2)
    )
    assert one.id != two.id, "batch norm sees other batches, and a run says by whom it was made"
    assert (one.metrics["processes"], two.metrics["processes"]) == (1, 2)
    assert not list((tmp_path / "2/unfinished").iterdir())
    near = 1e-5 if model == "plain" else 0.2
    for key, value in weights(one).items():
        if value.is_floating_point():
            assert torch.allclose(weights(two)[key], value, atol=near), key
    told = [[json.loads(line) for line in run.file("history.jsonl").read_text().splitlines()] for run in (one, two)]
    for a, b in zip(*told, strict=True):
        assert a["train_loss"] == pytest.approx(b["train_loss"], rel=near)
        assert a["learning_rate"] == b["learning_rate"]
    if model == "plain":
        said = [load_predictions(run.file("select.npz")).logits for run in (one, two)]
        assert np.allclose(*said, atol=1e-4)


@pytest.fixture
def begun(prepared: Store, tmp_path: Path):
    """A training by two processes, after its first checkpoint; and how many processes it is."""
    (tmp_path / "command.py").write_text(COMMAND)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "command.py"), str(prepared.root)],
        env=environment, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 90
        while not list(prepared.root.glob("unfinished/*/checkpoint.safetensors")):
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield process
        process.kill()


def workers(process: subprocess.Popen) -> list[psutil.Process]:
    """Its processes that train, without the one that Python has for what processes share."""
    found = psutil.Process(process.pid).children(recursive=True)
    return [each for each in found if "spawn_main" in " ".join(each.cmdline())]


def ended(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=30)
    return not [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]


def test_ctrl_c_ends_all_after_one_step_and_the_same_call_goes_on(prepared: Store, begun: subprocess.Popen) -> None:
    others = workers(begun)
    assert len(others) == 2
    begun.send_signal(signal.SIGINT)
    _, errors = begun.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    assert "Error" not in errors
    assert ended(others)
    (history,) = prepared.root.glob("unfinished/*/history.jsonl")
    kept = history.read_text().splitlines()
    epochs = len(kept)
    assert 1 <= epochs < 8
    recipe = Recipe(epochs=8, epoch_rows=240, batch_size=16, precision="float32")
    made = train(prepared, recipe, threads=2, processes=2, quiet=True)
    assert made.file("history.jsonl").read_text().splitlines()[:epochs] == kept
    assert made.metrics["epochs"] == 8
    assert made.metrics["steps"] == 8 * 15


def test_a_killed_process_ends_the_training_with_a_reason(begun: subprocess.Popen) -> None:
    others = workers(begun)
    others[1].kill()
    _, errors = begun.communicate(timeout=60)
    assert "of this training was ended by signal 9" in errors
    assert "goes on from the last checkpoint" in errors
    assert ended(others)


def test_no_process_stays_when_the_first_is_killed(begun: subprocess.Popen) -> None:
    others = workers(begun)
    begun.kill()
    begun.wait()
    assert ended(others)


def test_what_one_of_them_raises_is_said(prepared: Store) -> None:
    recipe = Recipe(epochs=3, epoch_rows=192, batch_size=32, learning_rate=1e5, optimizer="sgd", precision="float32")
    with pytest.raises(EnsembleFerError, match="Lower learning_rate"):
        train(prepared, recipe, processes=2, quiet=True)


def test_what_cannot_be_shared_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(batch_size=8)
    assert check_team(recipe, 1, "auto") == ("auto",)
    assert check_team(recipe, 4, "cpu") == ("cpu",) * 4
    with pytest.raises(UsageError, match="too small for 5 processes"):
        check_team(recipe, 5, "cpu")
    with pytest.raises(UsageError, match="expected 1 or more"):
        check_team(recipe, 0, "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert check_team(recipe, 2, "auto") == ("cuda:0", "cuda:1")
    with pytest.raises(MissingError, match="3 processes need a GPU each; here are 2"):
        check_team(recipe, 3, "cuda")
    with pytest.raises(UsageError, match="device cuda:1 is one, for 2 processes"):
        check_team(recipe, 2, "cuda:1")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(MissingError, match=r"ensemble-fer\[parallel\]"):
        check_team(recipe, 2, "cpu")


def test_shares_are_of_each_row_once() -> None:
    crops, labels = torch.arange(10.0), torch.arange(10)
    teams = [Shared(3, rank, torch.device("cpu")) for rank in range(3)]
    shares = [team.share(crops, labels)[1].tolist() for team in teams]
    assert shares == [[0, 3, 6, 9], [1, 4, 7], [2, 5, 8]]
    images = np.arange(7, dtype=np.uint8)
    assert sorted(np.concatenate([team.rows(images) for team in teams])) == list(range(7))
