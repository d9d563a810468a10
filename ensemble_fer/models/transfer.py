"""Members from timm: convolutional networks and transformers made for ImageNet, fine-tuned on faces.

Gray goes to three channels; faces are enlarged, and normalized as the network's own pretraining had them, all inside.
"""

from __future__ import annotations

import difflib
import warnings
from typing import Any

import torch

from ensemble_fer.errors import EnsembleFerError, UsageError
from ensemble_fer.models.member import FACE, IMAGENET_MEAN, IMAGENET_SCALE, Member
from ensemble_fer.types import N_CLASSES

PREFIX = "timm:"
SIDE = 96
"""Of networks that take any size: that of system A's faces."""


def build(dropout: float = 0.0, *, name: str, side: int = 0) -> Member:
    """A network by its name in timm, with a head of seven classes.

    Parameters
    ----------
    dropout : float
        Before the head, where the network has it.
    name : str
        As ``timm.list_models()`` has it.
    side : int
        To which faces are enlarged; 0 means 96, or the size that the network insists on, or its least.

    Raises
    ------
    UsageError
        timm has no such network.
    EnsembleFerError
        timm cannot make it, with seven classes.
    """
    options: dict[str, Any] = {"num_classes": N_CLASSES, "drop_rate": dropout}
    fixed = settings_of(name).get("fixed_input_size")
    if fixed and side:
        options["img_size"] = side
    net = create(name, **options)
    settings = net.pretrained_cfg
    least = (settings.get("min_input_size") or (0,))[-1]
    side = side or (settings["input_size"][-1] if fixed else max(SIDE, least))
    mean, scale = settings.get("mean", IMAGENET_MEAN), settings.get("std", IMAGENET_SCALE)
    return Member(net, FACE, side=side, mean=mean, scale=scale, stages=named_stages(net))


def build_any(dropout: float, name: str) -> Member:
    """``build`` for any name, tried on one face: not every network of timm takes 96 pixels or gives seven logits."""
    member = build(dropout, name=name).eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            logits = member(torch.zeros(2, FACE, FACE, dtype=torch.uint8))
    except Exception as error:  # whatever a network that was not made for this may raise
        raise EnsembleFerError(
            f"timm's {name} does not score faces enlarged to {member.side} pixels: {one_line(error)}. "
            "Take another network; those of the table are tested."
        ) from error
    if not isinstance(logits, torch.Tensor) or logits.shape != (2, N_CLASSES):
        raise UsageError(f"timm's {name} is no classifier: expected {N_CLASSES} logits a face. Take another network.")
    return member.train()


def settings_of(name: str) -> dict[str, Any]:
    """What timm knows of a network's pretraining: sizes, normalization, where its weights are.

    Raises
    ------
    UsageError
        timm has no such network, or no such weights of it.
    """
    import timm

    base, _, tag = name.partition(".")
    if not timm.is_model(name):
        near = difflib.get_close_matches(base, timm.list_models(), 3)
        hint = (
            f"Did you mean {' or '.join(near)}?" if near else "python -c 'import timm; timm.list_models()' lists all."
        )
        raise UsageError(f"timm {timm.__version__} has no network {name!r}. {hint}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        known = [n.partition(".")[2] for n in timm.list_pretrained(f"{base}.*")]
        raise UsageError(f"timm has no weights {tag!r} of {base}. Known: {', '.join(known) or 'none'}.") from error
    return found.to_dict() if found is not None else {}


def create(name: str, **options: Any) -> Any:
    """A network of timm with fresh weights."""
    import timm

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # timm's notes on renamed networks
            try:
                return timm.create_model(name, pretrained=False, **options)
            except TypeError:
                # Some networks have no dropout.
                return timm.create_model(name, pretrained=False, num_classes=options["num_classes"])
    except (TypeError, RuntimeError, ValueError, AssertionError) as error:
        raise EnsembleFerError(f"timm cannot make {name} with {N_CLASSES} classes: {one_line(error)}.") from error


def named_stages(net: Any) -> list[list[str]]:
    """Names of its parameters stage by stage, as timm groups them; the head is the last. Empty if timm does not."""
    if not hasattr(net, "group_matcher"):
        return []
    from timm.models import group_parameters

    groups: dict[Any, list[str]] = group_parameters(net, net.group_matcher(coarse=True))
    return [groups[key] for key in sorted(groups) if groups[key]]


def one_line(error: BaseException) -> str:
    """Kind and first line of an error, short enough for a terminal."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200]}".rstrip(".") if text else type(error).__name__
