"""Whether a network of one's own can be trained, found out before a training: one batch, forth and back."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ensemble_fer.models.member import Member
from ensemble_fer.types import N_CLASSES

ROWS = 4


def learn_a_batch(member: Member) -> str:
    """Compute the gradients of a small batch in training mode, and leave member and random numbers as they were.

    Returns
    -------
    str
        Why the member cannot be trained, in words; nothing if it can. What its code raises is raised.
    """
    if not any(True for _ in member.parameters()):
        return "it has no parameters"
    if not any(parameter.requires_grad for parameter in member.parameters()):
        return "all of its parameters are frozen (requires_grad is False)"
    numbers = torch.Generator().manual_seed(0)  # a generator of its own: nothing is drawn from torch's
    crops = torch.randint(0, 256, (ROWS, member.crop, member.crop), dtype=torch.uint8, generator=numbers)
    labels = torch.arange(ROWS) % N_CLASSES
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), _unchanged(member) as trial:
        out = trial.train().outputs_of(crops)
        every = out if isinstance(out, tuple) else (out,)
        if problem := _problem_of(out, every):
            return f"in training it gave {problem} for {ROWS} faces"
        loss = torch.stack([nn.functional.cross_entropy(logits.float(), labels) for logits in every]).sum()
        if not loss.requires_grad:
            return "in training its logits do not depend on any parameter that is not frozen (detached, or no_grad?)"
        loss.backward()
    return ""


def _problem_of(out: object, every: tuple[object, ...]) -> str:
    if isinstance(out, tuple) and len(out) < 2:
        return f"a tuple of {len(out)} (of two or more, the others are the logits of auxiliary classifiers)"
    for logits in every:
        if not isinstance(logits, Tensor):
            return f"a {type(logits).__name__}"
        if tuple(logits.shape) != (ROWS, N_CLASSES) or not logits.is_floating_point():
            return f"{logits.dtype} {list(logits.shape)}"
    return ""


@contextmanager
def _unchanged(member: Member) -> Iterator[Member]:
    """A copy of a member; or itself, its weights and buffers afterwards as before, where it cannot be copied."""
    try:
        trial = copy.deepcopy(member)
    except Exception:  # such as weights that are computed from others, or generators
        trial = member
    if trial is not member:
        yield trial
        return
    before = [(tensor, tensor.detach().clone()) for tensor in (*member.parameters(), *member.buffers())]
    try:
        yield member
    finally:
        with torch.no_grad():
            for tensor, values in before:
                tensor.copy_(values)
        for parameter in member.parameters():
            parameter.grad = None
