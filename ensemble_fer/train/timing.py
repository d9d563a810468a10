"""How long a training step takes here, from steps of fresh weights: how long one takes does not depend on them."""

from __future__ import annotations

import statistics
import time

import torch

from ensemble_fer.config import Recipe
from ensemble_fer.models import build
from ensemble_fer.train.convolutions import FastConvolutions
from ensemble_fer.train.device import choose_precision, keep_freed_memory, set_threads
from ensemble_fer.train.optimizers import optimizer_of


def seconds_a_step(recipe: Recipe, *, faces: int, repeats: int = 5, threads: int | None = None) -> float:
    """Median seconds of an optimizer step of so many faces on the processor, which must be idle.

    Parameters
    ----------
    recipe : Recipe
        Its model, optimizer and dropout count.
    faces : int
        Of a batch.
    repeats : int
        Steps that are timed, after one that is not.
    threads : int, optional
        All there are by default.
    """
    set_threads(threads)
    keep_freed_memory()
    member = build(recipe.model, recipe.dropout).to(memory_format=torch.channels_last).train()
    optimizer = optimizer_of(recipe, member)
    precision = choose_precision(recipe.precision, torch.device("cpu"))
    crops = torch.rand(faces, member.crop, member.crop) * 255
    labels = torch.arange(faces) % 7
    taken, fast = [], FastConvolutions()
    for _ in range(repeats + 1):
        began = time.perf_counter()
        with torch.autocast("cpu", precision, enabled=precision != torch.float32), fast:
            loss = member.loss(crops, labels, torch.nn.functional.cross_entropy)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])
