"""A moving average of a member's weights, which is then what is scored and kept."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from ensemble_fer.models import Member

UPDATES = "updates"


class Average:
    """Exponential moving average of the weights of a member in training.

    After t updates the next one keeps ``min(decay, (1 + t) / (10 + t))`` of the average: the first weights, which are
    drawn at random, are forgotten within some steps, and ``decay`` sets in when there is enough to average.

    The statistics of batch norm are averaged with the same decay: those of the newest weights would not belong to the
    averaged ones. Whole numbers, such as counts of batches, are copied.

    Parameters
    ----------
    member : Member
        Where the average starts.
    decay : float
        0 to below 1.
    """

    def __init__(self, member: Member, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.model = copy.deepcopy(member).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, member: Member) -> None:
        """Take in the weights as they are after a step."""
        kept = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        averages: list[Tensor] = []
        latest: list[Tensor] = []
        new = member.state_dict()
        seen: set[tuple[int, torch.Size]] = set()
        for name, tensor in self.model.state_dict().items():
            # A weight that two layers share has two names, and is to be averaged once.
            if (place := (tensor.data_ptr(), tensor.shape)) in seen:
                continue
            seen.add(place)
            if tensor.is_floating_point():
                averages.append(tensor)
                latest.append(new[name])
            else:
                tensor.copy_(new[name])
        # a + (1 - kept) (b - a), so that what does not change stays the same to the bit.
        torch._foreach_lerp_(averages, latest, 1 - kept)

    def state(self) -> dict[str, Tensor]:
        """What ``load`` takes, for a checkpoint."""
        return {UPDATES: torch.tensor(self.updates), **self.model.state_dict()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from a state."""
        self.updates = int(state[UPDATES])
        self.model.load_state_dict({name: tensor for name, tensor in state.items() if name != UPDATES})
