"""Members side by side as one torch module, with everything inside that a graph is to do.

Its rules are written here a second time, in torch; parity with ``ensemble.rules`` is measured for every graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from ensemble_fer.ensemble import Combination
from ensemble_fer.ensemble.rules import LEAST
from ensemble_fer.ensemble.stacking import FLOOR
from ensemble_fer.models import Member
from ensemble_fer.train.prediction import TTA
from ensemble_fer.types import N_CLASSES


class Fused(nn.Module):
    """The ensemble's probabilities, then each member's own after its temperature.

    Parameters
    ----------
    members : iterable of nn.Module
        Each maps uint8 faces to logits float32 [n, 7]. Crops that several ``Member`` prepare alike are prepared once.
    by : Combination
        Of as many members.
    tta : str
        A key of ``TTA``.
    """

    weights: Tensor
    coefficients: Tensor
    intercept: Tensor

    def __init__(self, members: Iterable[nn.Module], by: Combination, tta: str = "none") -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.by, self.tta = by, tta
        # Read here: while a graph is traced, the numbers in buffers are not known.
        self.kinds = [_kind_of(member) for member in self.members]
        for name in ("weights", "temperatures", "coefficients", "intercept"):
            value = getattr(by, name)
            tensor = None if value is None else torch.tensor(value, dtype=torch.float32)
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, faces: Tensor) -> tuple[Tensor, ...]:
        prepared: dict[tuple, Tensor] = {}
        logits = [self._logits(*each, faces, prepared) for each in zip(self.members, self.kinds, strict=True)]
        scaled = [z if t == 1 else z / t for z, t in zip(logits, self.by.temperatures.tolist(), strict=True)]
        each = [torch.softmax(z, dim=1) for z in scaled]
        return BLENDS[self.by.rule](self, torch.stack(scaled), torch.stack(each)), *each

    def _logits(self, member: nn.Module, kind: tuple, faces: Tensor, prepared: dict[tuple, Tensor]) -> Tensor:
        """Logits of a member; with several crops the logarithm of the mean probability, as ``predict_rows`` has it."""
        if not isinstance(member, Member):
            if self.tta != "none":
                raise TypeError(f"crops of a {type(member).__name__} are not known.")
            return member(faces)
        crops = TTA[self.tta](faces, member.crop_of(faces.shape[1]))
        if not kind:
            z = member.of_crops(torch.cat(crops)) if len(crops) > 1 else member(faces)
        else:
            if kind not in prepared:
                prepared[kind] = member.prepare(crops[0] if len(crops) == 1 else torch.cat(crops))
            out = member.body(prepared[kind])
            z = out[0] if isinstance(out, tuple) else out
        if len(crops) == 1:
            return z
        return torch.softmax(z, dim=1).reshape(len(crops), -1, N_CLASSES).mean(dim=0).clamp_min(LEAST).log()


def _kind_of(member: nn.Module) -> tuple:
    """What its crops are prepared by; empty where a member of one's own computes otherwise than ``Member`` does."""
    own = ("forward", "of_crops", "outputs_of", "prepare")
    if not isinstance(member, Member) or any(getattr(type(member), n) is not getattr(Member, n) for n in own):
        return ()
    return member.preprocessing


def _sharpened(probabilities: Tensor, temperature: float) -> Tensor:
    if temperature == 1:
        return probabilities
    return torch.softmax(probabilities.clamp_min(LEAST).log() / temperature, dim=1)


def _mean(fused: Fused, z: Tensor, p: Tensor) -> Tensor:
    return _sharpened(p.mean(dim=0), fused.by.temperature)


def _weighted(fused: Fused, z: Tensor, p: Tensor) -> Tensor:
    return _sharpened((fused.weights[:, None, None] * p).sum(dim=0), fused.by.temperature)


def _mean_logits(fused: Fused, z: Tensor, p: Tensor) -> Tensor:
    return torch.softmax(z.mean(dim=0) / fused.by.temperature, dim=1)


def _vote(fused: Fused, z: Tensor, p: Tensor) -> Tensor:
    votes = nn.functional.one_hot(z.argmax(dim=2), N_CLASSES).sum(dim=0)
    return _sharpened((votes + p.mean(dim=0)) / (len(fused.members) + 1), fused.by.temperature)


def _adjusted(fused: Fused, z: Tensor, p: Tensor) -> Tensor:
    logits = p.mean(dim=0).clamp_min(LEAST).log() + fused.intercept
    return torch.softmax(logits / fused.by.temperature, dim=1)


def _stacked(fused: Fused, z: Tensor, p: Tensor) -> Tensor:
    features = torch.log_softmax(z, dim=2).clamp_min(FLOOR).permute(1, 0, 2).flatten(1)
    logits = features @ fused.coefficients.T + fused.intercept
    return torch.softmax(logits / fused.by.temperature, dim=1)


BLENDS: dict[str, Callable[[Fused, Tensor, Tensor], Tensor]] = {
    "mean": _mean,
    "mean_logits": _mean_logits,
    "vote": _vote,
    "weights": _weighted,
    "greedy": _weighted,
    "logit_adjustment": _adjusted,
    "stacking": _stacked,
}
"""By the names of ``RULES``: members' logits and probabilities [k, n, 7] to the ensemble's probabilities [n, 7]."""
