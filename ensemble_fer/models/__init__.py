"""The members: networks that take faces as bytes and give seven logits.

A new architecture is one file with a function ``build(dropout) -> Member`` and one line in ``MODELS``. timm is
imported when a member needs it: that takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ensemble_fer.errors import unknown_name
from ensemble_fer.models import (
    alexnet,
    compact,
    custom,
    fernet,
    googlenet48,
    mobilenet_compact,
    patch_cnn,
    resnet14,
    resnet50v2,
    resnet_compact,
    small_cnn,
    transfer,
    vgg16,
    vggnet,
)
from ensemble_fer.models.member import Member
from ensemble_fer.models.pretrained import Pretrained, start_weights

MODELS: dict[str, Callable[..., Member]] = {
    "compact": compact.build,
    "resnet14": resnet14.build,
    "vggnet": vggnet.build,
    "alexnet": alexnet.build,
    "fernet": fernet.build,
    "patch_cnn": patch_cnn.build,
    "small_cnn": small_cnn.build,
    "googlenet48": googlenet48.build,
    "resnet_compact": resnet_compact.build,
    "mobilenet_compact": mobilenet_compact.build,
    "vgg16": vgg16.build,
    "resnet50v2": resnet50v2.build,
    "xception": partial(transfer.build, name="legacy_xception"),
    "mobilenetv3_large_100": partial(transfer.build, name="mobilenetv3_large_100"),
    "efficientnet_b0": partial(transfer.build, name="efficientnet_b0"),
    "resnet18": partial(transfer.build, name="resnet18"),
    "vit_base_patch16_224": partial(transfer.build, name="vit_base_patch16_224"),
}


def build(name: str, dropout: float = 0.2, *, weights: str = "none") -> Member:
    """A member with fresh weights, drawn from torch's global generator.

    Parameters
    ----------
    name : str
        One of ``MODELS``; ``timm:NAME`` for any network of timm; or ``FILE.py:FUNCTION``, a function of one's own that
        makes a module, see ``custom.build``. The last **runs the code in that file**.
    dropout : float
        0 to below 1.
    weights : str
        ``none``, or where to take the first weights from, see ``start_weights``.

    Raises
    ------
    UsageError
        No such model, network or function.
    MissingError
        The file or the weights are not here.
    """
    if name in MODELS:
        member = MODELS[name](dropout)
    elif name.startswith(transfer.PREFIX):
        member = transfer.build_any(dropout, name.removeprefix(transfer.PREFIX))
    elif custom.MARK in name:
        member = custom.build(dropout, name)
    else:
        raise unknown_name("model", name, [*MODELS, f"{transfer.PREFIX}NAME", f"FILE{custom.MARK}FUNCTION"])
    if weights != "none":
        start_weights(member, name, weights)
    return member


__all__ = ["MODELS", "Member", "Pretrained", "build", "start_weights"]
