"""The one training loop."""

from __future__ import annotations

import json
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ensemble_fer.config import Recipe
from ensemble_fer.errors import EnsembleFerError
from ensemble_fer.evaluate.counts import confusion, precision_of, recall_of
from ensemble_fer.evaluate.metrics import summary
from ensemble_fer.files import write_atomic
from ensemble_fer.models import Member
from ensemble_fer.train.averaging import Average
from ensemble_fer.train.batches import Batches, step_seed
from ensemble_fer.train.checkpoint import State, load_checkpoint, save_checkpoint
from ensemble_fer.train.convolutions import FastConvolutions
from ensemble_fer.train.device import keep_freed_memory
from ensemble_fer.train.losses import loss_of
from ensemble_fer.train.optimizers import optimizer_of
from ensemble_fer.train.prediction import predict_rows
from ensemble_fer.train.schedules import share_of
from ensemble_fer.train.team import Team

HISTORY = "history.jsonl"
# A long epoch is saved in between too, so that a kill costs minutes at most.
SAVE_EVERY_SECONDS = 120.0
# Faces that are asked whether the network still answers with numbers, where no select part is.
PROBED = 64


class Diverged(EnsembleFerError):
    """A training whose loss, weights or answers are no longer numbers."""


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
    class_counts: Sequence[int],
    device: torch.device,
    precision: torch.dtype = torch.float32,
    team: Team = Team(),
    report: Callable[[int, dict], None] = lambda step, values: None,
    on_epoch: Callable[[dict], None] = lambda record: None,
) -> State:
    """Train a member to the end of its recipe, from the checkpoint in ``folder`` if there is one.

    Parameters
    ----------
    member : Member
        Trained in place; ends with the weights of the epoch that was best on the select part, or of the last one
        where the recipe says so or there is no select part.
    batches : Batches
    select_images, select_labels : uint8 [m, h, w], uint8 [m]
        What chooses the kept epoch and stops early; m may be 0.
    folder : Path
        Holds checkpoint and ``history.jsonl``.
    class_counts : sequence of 7 int
        What losses that look at frequency go by.
    team : Team
        The processes that train it together, each in its own call; only the first of them writes.
    report : callable
        Is given the steps done and the latest values, at every step.
    on_epoch : callable
        Is given the record of each epoch, after the checkpoint was written; of the epochs in the checkpoint at the
        start. It may raise, which ends the training and leaves the checkpoint.

    Raises
    ------
    KeyboardInterrupt
        On SIGINT or SIGTERM, after the step under way; the checkpoint is written.
    Diverged
        The loss is no longer a number, or the answers, or the weights, at the end of an epoch.
    """
    if device.type == "cpu":
        keep_freed_memory()
    member.to(device).to(memory_format=torch.channels_last)
    optimizer = optimizer_of(recipe, member)
    average = Average(member, recipe.ema) if recipe.ema else None
    state = load_checkpoint(folder, member, optimizer) or State()
    if average is not None and state.average:
        average.load(state.average)
    scored = member if average is None else average.model
    counts = torch.tensor(class_counts, dtype=torch.float32)
    epoch_steps, total = steps_of(recipe, batches.count)
    if state.step < total and not _out_of_patience(state, recipe):
        _note_machine(state, device, precision, team)
    latest: dict = dict(state.history[-1]) if state.history else {}
    began = saved = time.perf_counter()
    before = state.seconds

    def save() -> None:
        if team.rank:
            return
        state.seconds = before + time.perf_counter() - began
        state.average = average.state() if average is not None else {}
        save_checkpoint(folder, member, optimizer, state)
        write_atomic(folder / HISTORY, "".join(json.dumps(record) + "\n" for record in state.history))

    for record in state.history:
        on_epoch(record)
    frozen, fast = -1, FastConvolutions()
    with stop_requested() as stopped:
        while state.step < total and not _out_of_patience(state, recipe):
            if frozen != (frozen := _frozen_stages(recipe, state.step // epoch_steps + 1)):
                member.freeze(frozen, norms=recipe.train_norms)
            share = share_of(recipe, state.step / epoch_steps, state.scores)
            rate = recipe.learning_rate * share
            for group in optimizer.param_groups:
                group["lr"] = rate * group["scale"]
            torch.manual_seed(step_seed(recipe.seed, state.step) + team.rank)  # dropout
            member.train()
            crops, labels = team.share(*batches.draw(state.step))
            reduced = torch.autocast(device.type, precision, enabled=precision != torch.float32)
            with reduced, fast:
                loss = member.loss(crops, labels, loss_of(recipe, counts, state.step / total))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            value, stop = team.agree(member, loss, stopped)
            optimizer.step()
            if average is not None:
                average.update(member)
            if not np.isfinite(value):
                raise Diverged(
                    f"the loss became {value} at step {state.step + 1}. "
                    f"Lower learning_rate (now {recipe.learning_rate})."
                )
            state.step += 1
            state.loss_sum += value
            state.loss_steps += 1
            epoch_over = state.step % epoch_steps == 0
            if epoch_over:
                latest = {
                    "epoch": state.step // epoch_steps,
                    "step": state.step,
                    "train_loss": round(state.loss_sum / state.loss_steps, 6),
                    "learning_rate": rate,
                }
                logits = None
                if len(select_labels):
                    logits = predict_rows(scored, team.rows(select_images), device=device)
                    logits = team.whole(logits, len(select_labels))
                    _check_numbers(np.isfinite(logits).all(), latest["epoch"], recipe)
                    latest |= scores_of_epoch(select_labels, logits)
                else:
                    some = predict_rows(scored, batches.images[:PROBED].cpu().numpy(), device=device)
                    _check_numbers(np.isfinite(some).all(), latest["epoch"], recipe)
                state.history.append(latest)
                state.loss_sum, state.loss_steps = 0.0, 0
                last_is_kept = recipe.kept_epoch == "last" or not len(select_labels)
                if last_is_kept or latest["macro_f1"] > max(state.scores[:-1], default=-1.0):
                    state.best_epoch = len(state.history)
                    state.best = {k: v.detach().cpu().clone() for k, v in scored.state_dict().items()}
                    state.best_logits = logits
            running = state.loss_sum / state.loss_steps if state.loss_steps else latest["train_loss"]
            report(state.step, {**latest, "loss": running, "rate": rate})
            now = time.perf_counter()
            if stop() or epoch_over or now - saved > SAVE_EVERY_SECONDS:
                save()
                saved = now
            if stop():
                raise KeyboardInterrupt
            if epoch_over:
                on_epoch(latest)
        save()
    member.freeze(0)
    member.load_state_dict(state.best)
    return state


def scores_of_epoch(labels: NDArray[np.uint8], logits: NDArray[np.float32]) -> dict:
    """What the history keeps of an epoch: accuracy, macro_f1, nll, and precision and recall of each class [7]."""
    matrix, scores = confusion(labels, logits), summary(labels, logits)
    each = {"precision": precision_of(matrix), "recall": recall_of(matrix)}
    return {
        **{metric: scores[metric] for metric in ("accuracy", "macro_f1", "nll")},
        **{what: [round(float(value), 6) for value in values] for what, values in each.items()},
    }


def steps_of(recipe: Recipe, count: int) -> tuple[int, int]:
    """Optimizer steps of one epoch over ``count`` training rows, and of all epochs."""
    epoch_steps = max(1, (recipe.epoch_rows or count) // recipe.batch_size)
    return epoch_steps, epoch_steps * recipe.epochs


def _check_numbers(finite: bool | np.bool_, epoch: int, recipe: Recipe) -> None:
    """A step can break the weights after its own loss was still a number."""
    if not finite:
        raise Diverged(
            f"the network no longer answers with numbers after epoch {epoch}. Lower learning_rate (now "
            f"{recipe.learning_rate}) or weight_decay (now {recipe.weight_decay})."
        )


def _frozen_stages(recipe: Recipe, epoch: int) -> int:
    """How many stages an epoch (1-based) keeps as they are."""
    return 0 if recipe.unfreeze_epoch and epoch >= recipe.unfreeze_epoch else recipe.frozen_stages


def _note_machine(state: State, device: torch.device, precision: torch.dtype, team: Team) -> None:
    """Say that a resumed training will not end with the bits of an unbroken one; note what it goes on with."""
    made_with = {"threads": torch.get_num_threads(), "device": str(device), "precision": str(precision)}
    if state.made_with not in ({}, made_with):
        warnings.warn(
            f"this training began with {state.made_with} and goes on with {made_with}: "
            "it will not end with the same bits as an unbroken one.",
            ResumedOtherwise,
            stacklevel=3,
        )
    state.made_with = made_with


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
