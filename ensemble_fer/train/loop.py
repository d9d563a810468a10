"""The one training loop."""

from __future__ import annotations

import json
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ensemble_fer.config import Recipe
from ensemble_fer.errors import EnsembleFerError
from ensemble_fer.evaluate.metrics import accuracy, macro_f1
from ensemble_fer.files import write_atomic
from ensemble_fer.models import Member
from ensemble_fer.train.batches import Batches, step_seed
from ensemble_fer.train.checkpoint import State, load_checkpoint, save_checkpoint
from ensemble_fer.train.optimizers import SCHEDULES, optimizer_of
from ensemble_fer.train.prediction import predict_rows

HISTORY = "history.jsonl"
# A long epoch is saved in between too, so that a kill costs minutes at most.
SAVE_EVERY_SECONDS = 120.0


class ResumedOtherwise(UserWarning):
    """A training goes on with other threads, another device or precision than it began with."""


def fit(
    member: Member,
    recipe: Recipe,
    batches: Batches,
    select_images: NDArray[np.uint8],
    select_labels: NDArray[np.uint8],
    folder: Path,
    *,
    device: torch.device,
    precision: torch.dtype = torch.float32,
    report: Callable[[int, dict], None] = lambda step, values: None,
) -> State:
    """Train a member to the end of its recipe, from the checkpoint in ``folder`` if there is one.

    Parameters
    ----------
    member : Member
        Trained in place; ends with the weights of the epoch that was best on the select part.
    batches : Batches
    select_images, select_labels : uint8 [m, h, w], uint8 [m]
        What chooses the kept epoch and stops early.
    folder : Path
        Holds checkpoint and ``history.jsonl``.
    report : callable
        Is given the steps done and the latest values, at every step.

    Raises
    ------
    KeyboardInterrupt
        On SIGINT or SIGTERM, after the step under way; the checkpoint is written.
    EnsembleFerError
        The loss is no longer a number.
    """
    member.to(device).to(memory_format=torch.channels_last)
    optimizer = optimizer_of(recipe, member)
    state = load_checkpoint(folder, member, optimizer) or State()
    made_with = {"threads": torch.get_num_threads(), "device": str(device), "precision": str(precision)}
    if state.made_with not in ({}, made_with):
        warnings.warn(
            f"this training began with {state.made_with} and goes on with {made_with}: "
            "it will not end with the same bits as an unbroken one.",
            ResumedOtherwise,
            stacklevel=2,
        )
    state.made_with = made_with
    loss_of = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    epoch_steps, total = steps_of(recipe, batches.count)
    latest: dict = dict(state.history[-1]) if state.history else {}
    began = saved = time.perf_counter()
    before = state.seconds

    def save() -> None:
        state.seconds = before + time.perf_counter() - began
        save_checkpoint(folder, member, optimizer, state)
        write_atomic(folder / HISTORY, "".join(json.dumps(record) + "\n" for record in state.history))

    with stop_requested() as stopped:
        while state.step < total and not _out_of_patience(state, recipe):
            rate = recipe.learning_rate * SCHEDULES[recipe.schedule](state.step / total, state.scores)
            for group in optimizer.param_groups:
                group["lr"] = rate
            torch.manual_seed(step_seed(recipe.seed, state.step))  # dropout
            member.train()
            crops, labels = batches.draw(state.step)
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                loss = loss_of(member.of_crops(crops).float(), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            value = loss.item()
            if not np.isfinite(value):
                raise EnsembleFerError(
                    f"the loss became {value} at step {state.step + 1}. "
                    f"Lower learning_rate (now {recipe.learning_rate})."
                )
            state.step += 1
            state.loss_sum += value
            state.loss_steps += 1
            if state.step % epoch_steps == 0:
                logits = predict_rows(member, select_images, device=device)
                state.history.append(
                    {
                        "epoch": state.step // epoch_steps,
                        "step": state.step,
                        "train_loss": round(state.loss_sum / state.loss_steps, 6),
                        "learning_rate": rate,
                        "accuracy": accuracy(select_labels, logits),
                        "macro_f1": macro_f1(select_labels, logits),
                    }
                )
                state.loss_sum, state.loss_steps = 0.0, 0
                latest = state.history[-1]
                if state.scores[-1] > max(state.scores[:-1], default=-1.0):
                    state.best_epoch = len(state.history)
                    state.best = {k: v.detach().cpu().clone() for k, v in member.state_dict().items()}
            running = state.loss_sum / state.loss_steps if state.loss_steps else latest["train_loss"]
            report(state.step, {**latest, "loss": running, "rate": rate})
            now = time.perf_counter()
            if stopped() or state.step % epoch_steps == 0 or now - saved > SAVE_EVERY_SECONDS:
                save()
                saved = now
            if stopped():
                raise KeyboardInterrupt
        save()
    member.load_state_dict(state.best)
    return state


def steps_of(recipe: Recipe, count: int) -> tuple[int, int]:
    """Optimizer steps of one epoch over ``count`` training rows, and of all epochs."""
    epoch_steps = max(1, (recipe.epoch_rows or count) // recipe.batch_size)
    return epoch_steps, epoch_steps * recipe.epochs


def _out_of_patience(state: State, recipe: Recipe) -> bool:
    return bool(recipe.patience) and len(state.history) - state.best_epoch >= recipe.patience


@contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """Let the step under way end on SIGINT and SIGTERM; yields whether one has come.

    A second signal is not held back.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: object) -> None:
        asked.set()
        for number, handler in former.items():
            signal.signal(number, handler)

    for number in former:
        signal.signal(number, ask)
    try:
        yield asked.is_set
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
