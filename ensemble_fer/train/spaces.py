"""The spaces of ``resample``, with those that a trained member opens."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ensemble_fer.errors import SplitMisuse, UsageError
from ensemble_fer.models import Member
from ensemble_fer.resample.spaces import PIXELS, Space, pca_space
from ensemble_fer.store import Store
from ensemble_fer.train.loading import load_member


def space_of(store: Store, text: str) -> Space | None:
    """The space of this name; None for ``pixels``.

    Parameters
    ----------
    store : Store
    text : str
        ``pixels``, ``pca:N``, or ``run:NAME``: what the run's member hands to its last linear layer, computed on the
        processor, so that the space is the same whatever devices there are. The run's checkpoint was chosen on the
        select part, and so was this space.

    Raises
    ------
    UsageError
        An unknown space or run, or a member without a linear layer.
    SplitMisuse
        The run was trained on the select part.
    """
    if text == PIXELS:
        return None
    if not text.startswith("run:"):
        return pca_space(text)
    run = store.get("run", text.removeprefix("run:"))
    if run.spec["recipe"].get("train_on", "train") != "train":
        raise SplitMisuse(
            f"run {run.id} was trained on the select part too: a set that is balanced in its space would know it. "
            "Take the space of a run that was trained on train alone."
        )

    def learn(pixels: NDArray[np.uint8]) -> Callable[[NDArray[np.float64]], NDArray]:
        side = round(pixels.shape[1] ** 0.5)
        member = load_member(run)
        return lambda faces: embedding(member, np.rint(faces).astype(np.uint8).reshape(-1, side, side))

    return Space(f"run:{run.id}", learn, split=run.inputs[1], inputs=(run.id,))


def embedding(member: Member, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What a member hands to its last linear layer for each face (centre crop): float32 [n, d].

    Raises
    ------
    UsageError
        It has no linear layer.
    """
    linear = [module for module in member.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UsageError("this member has no linear layer, so that nothing can be taken for its embedding.")
    taken: list[Tensor] = []
    hook = linear[-1].register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0].float()))
    try:
        with torch.inference_mode():
            member.eval()(torch.from_numpy(images).to(next(member.parameters()).device))
    finally:
        hook.remove()
    # Equal faces lie at one point, however a batch was rounded.
    return np.round(taken[-1].flatten(1).cpu().numpy(), 5).astype(np.float32)
