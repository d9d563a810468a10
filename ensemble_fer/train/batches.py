"""Training batches from bytes that stay in memory: faces are mixed, augmented and cropped as a batch.

What a step sees is a function of the seed and the step alone. Nothing has to be saved to resume.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensemble_fer.train.augment import augment
from ensemble_fer.types import Resampling


class Batches:
    """An endless stream of augmented batches of a training set.

    Parameters
    ----------
    images : uint8 [n, h, w]
        All faces of the set; kept on the device as bytes.
    rows : Resampling
        The training set.
    crop, policy, batch_size, seed
        See ``Recipe`` and ``augment``.
    device : torch.device
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        rows: Resampling,
        *,
        crop: int,
        policy: str,
        batch_size: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self.crop, self.policy, self.batch_size, self.seed, self.device = crop, policy, batch_size, seed, device
        self.count = len(rows)
        # Only the faces that the training set shows become resident.
        used = np.unique(np.concatenate([rows.parent_a, rows.parent_b]))
        place = np.zeros(len(images), np.int64)
        place[used] = np.arange(len(used))
        self.images = torch.from_numpy(images[used]).to(device)
        self.first = torch.from_numpy(place[rows.parent_a])
        self.second = torch.from_numpy(place[rows.parent_b])
        self.weight = torch.from_numpy(rows.weight.astype(np.float32))
        self.labels = torch.from_numpy(rows.labels.astype(np.int64)).to(device)
        self._pass = (-1, np.empty(0, np.int64))

    def rows_of(self, step: int) -> NDArray[np.int64]:
        """Rows of the training set in the batch of a step: consecutive pieces of one shuffled pass after another."""
        wanted = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        passes, places = divmod(wanted, self.count)
        return np.concatenate([self._shuffled(int(p))[places[passes == p]] for p in np.unique(passes)])

    def _shuffled(self, number: int) -> NDArray[np.int64]:
        if self._pass[0] != number:
            order = np.random.default_rng([self.seed, number]).permutation(self.count)
            self._pass = (number, order)
        return self._pass[1]

    def draw(self, step: int) -> tuple[Tensor, Tensor]:
        """Crops float32 [batch, crop, crop] (grey levels 0 to 255) and labels int64 [batch] of a step."""
        rows = torch.from_numpy(self.rows_of(step))
        faces = self.images[self.first[rows].to(self.device)]
        weight = self.weight[rows]
        mixed = torch.nonzero(weight).squeeze(1)
        if len(mixed):
            # The same rounding as Resampling.pixels, so that training sees what is shown.
            where = mixed.to(self.device)
            a = faces[where].to(torch.float32)
            b = self.images[self.second[rows[mixed]].to(self.device)].to(torch.float32)
            blend = a + weight[mixed].to(self.device)[:, None, None] * (b - a)
            faces[where] = blend.round().to(torch.uint8)
        generator = torch.Generator().manual_seed(step_seed(self.seed, step))
        return augment(faces, self.crop, self.policy, generator), self.labels[rows.to(self.device)]


def step_seed(seed: int, step: int) -> int:
    """A seed for everything random within one step."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))
