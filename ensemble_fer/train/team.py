"""One training by several processes, seen from one of them: each takes a share of every batch, and all stay equal."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class Team:
    """A process that trains alone, and what ``Shared`` does otherwise.

    Parameters
    ----------
    size, rank : int
        How many train together, and which of them this one is, from 0. The first alone writes.
    """

    size, rank = 1, 0

    def share(self, crops: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """What this process takes of a batch."""
        return crops, labels

    def agree(self, module: nn.Module, loss: Tensor, stopped: Callable[[], bool]) -> tuple[float, Callable[[], bool]]:
        """Gradients of the whole batch in place of those of the share; the loss of all, and whether any was stopped."""
        return loss.item(), stopped

    def rows(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The faces that this process scores."""
        return images

    def whole(self, logits: NDArray[np.float32], count: int) -> NDArray[np.float32]:
        """Logits [count, 7] of all faces from what each process said of its own."""
        return logits


class Shared(Team):
    """One of several processes that accelerate has connected.

    Each draws the whole batch, which is a function of seed and step, and takes every ``size``-th row: what is mixed and
    augmented is what one process would have mixed and augmented. Losses are means over rows, so that the gradients of
    the shares, weighted by their sizes, sum to that of the batch. One message a step carries gradients, statistics of
    batch norm (each process normalizes by its own share), the loss and the wish to stop.

    Parameters
    ----------
    size, rank : int
    device : torch.device
        Where the tensors that are exchanged lie.
    """

    def __init__(self, size: int, rank: int, device: torch.device) -> None:
        self.size, self.rank, self._device = size, rank, device
        self._weight = 1 / size

    def share(self, crops: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        mine = labels[self.rank :: self.size]
        self._weight = len(mine) / len(labels)
        return crops[self.rank :: self.size], mine

    @torch.no_grad()
    def agree(self, module: nn.Module, loss: Tensor, stopped: Callable[[], bool]) -> tuple[float, Callable[[], bool]]:
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        statistics = [b for b in module.buffers() if b.is_floating_point()]
        said = torch.stack([loss.detach().float() * self._weight, loss.new_tensor(float(stopped()), dtype=torch.float)])
        flat = torch.cat(
            [
                said,
                *(g.reshape(-1).float() * self._weight for g in gradients),
                *(b.reshape(-1).float() / self.size for b in statistics),
            ]
        )
        flat = self._sum(flat)
        place = len(said)
        for tensor in (*gradients, *statistics):
            tensor.copy_(flat[place : place + tensor.numel()].view_as(tensor))
            place += tensor.numel()
        value, asked = flat[:2].tolist()
        return value, lambda: asked > 0

    def rows(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return images[self.rank :: self.size]

    def whole(self, logits: NDArray[np.float32], count: int) -> NDArray[np.float32]:
        found = np.zeros((count, logits.shape[1]), np.float32)
        found[self.rank :: self.size] = logits
        # Each row is another's zero: their sum is exact.
        return self._sum(torch.from_numpy(found).to(self._device)).cpu().numpy()

    @staticmethod
    def _sum(tensor: Tensor) -> Tensor:
        from accelerate.utils import reduce

        found = reduce(tensor, "sum")
        assert isinstance(found, Tensor)
        return found
