"""A training that is stopped at any step, and as often as one likes, ends with the bits of one that was not."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from ensemble_fer.config import Recipe
from ensemble_fer.config.choices import LOSSES, OPTIMIZERS, SCHEDULES
from ensemble_fer.data.splits import split_of
from ensemble_fer.data.synthetic import synth_data
from ensemble_fer.store import Artifact, Store
from ensemble_fer.train import running, train
from ensemble_fer.train.loop import HISTORY
from tests.trust.campaign import cases

EPOCHS, STEPS, FACES = 3, 5, 16


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("resumed") / "store")
    split_of(store, synth_data(store, rows=260, name="faces"))
    return store


def some_recipe(number: int, rng: np.random.Generator) -> Recipe:
    """Each optimizer, schedule, sampler, with and without an average, comes up in every eighteen; the rest is drawn."""
    loss = str(rng.choice([name for name in LOSSES if name != "ldam"]))
    return Recipe(
        model="patch_cnn",
        seed=number,
        epochs=EPOCHS,
        epoch_rows=STEPS * FACES,
        batch_size=FACES,
        optimizer=OPTIMIZERS[number % len(OPTIMIZERS)],
        schedule=SCHEDULES[number % len(SCHEDULES)],
        sampling=("shuffled", "balanced")[number // 2 % 2],
        ema=(0.0, 0.9)[number // 3 % 2],
        learning_rate=float(10 ** rng.uniform(-4, -2)),
        warmup_epochs=float(rng.choice([0.0, 0.7])),
        plateau_patience=0,
        step_epochs=1,
        restart_epochs=2,
        loss=loss,
        label_smoothing=0.0 if loss == "focal" else float(rng.choice([0.0, 0.1])),
        mixup=float(rng.choice([0.0, 0.4])),
        cutmix=float(rng.choice([0.0, 1.0])),
        augmentation=str(rng.choice(["none", "light", "strong"])),
        dropout=0.3,
        kept_epoch="best" if SCHEDULES[number % len(SCHEDULES)] == "plateau" else str(rng.choice(["best", "last"])),
        precision="float32",
    )


@contextmanager
def stopped_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ctrl-C arrives while this step of the training, counted from 1, is reported."""

    @contextmanager
    def spoken(total: int, what: str, quiet: bool = False) -> Iterator[Callable[..., None]]:
        done = 0

        def advance(n: int = 1, note: str = "") -> None:
            nonlocal done
            before, done = done, done + n
            if before < step <= done:
                signal.raise_signal(signal.SIGINT)

        yield advance

    with monkeypatch.context() as patch:
        patch.setattr(running, "progress", spoken)
        yield


def bits_of(run: Artifact) -> tuple[dict[str, bytes], list[dict]]:
    """Its weights, and what each epoch came to."""
    tensors = load_file(run.file("weights.safetensors"))
    history = [json.loads(line) for line in run.file(HISTORY).read_text().splitlines()]
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}, history


def test_stopped_at_random_steps_the_bits_are_the_same(
    kept: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, rng in cases("resumed", 54, quick=3):
        recipe = some_recipe(number, rng)
        unbroken = train(kept, recipe, name=f"unbroken-{number}", threads=1, quiet=True)
        wanted, history = bits_of(unbroken)
        kept.remove("run", unbroken.id)
        total = EPOCHS * STEPS
        for step in sorted(rng.choice(np.arange(1, total), size=int(rng.integers(1, 4)), replace=False)):
            with stopped_at(int(step), monkeypatch), pytest.raises(KeyboardInterrupt):
                train(kept, recipe, name=f"broken-{number}", threads=1, quiet=True)
        again = train(kept, recipe, name=f"broken-{number}", threads=1, quiet=True)
        found, epochs = bits_of(again)
        assert found == wanted, f"case {number}: {recipe}"
        assert epochs == history, number
