"""The members: networks that take faces as bytes and give seven logits.

A new architecture is one file with a function ``build(dropout) -> Member`` and one line in ``MODELS``.
"""

from __future__ import annotations

from collections.abc import Callable

from ensemble_fer.errors import unknown_name
from ensemble_fer.models import compact, vggnet
from ensemble_fer.models.member import Member

MODELS: dict[str, Callable[[float], Member]] = {
    "compact": compact.build,
    "vggnet": vggnet.build,
}


def build(name: str, dropout: float = 0.2) -> Member:
    """A member with fresh weights, drawn from torch's global generator.

    Parameters
    ----------
    name : str
        One of ``MODELS``.
    dropout : float
        0 to below 1.
    """
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    return MODELS[name](dropout)


__all__ = ["MODELS", "Member", "build"]
