"""Training batches from bytes that stay in memory: faces are mixed, augmented and cropped as a batch.

What a step sees is a function of the seed and the step alone. Nothing has to be saved to resume.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensemble_fer.errors import UsageError
from ensemble_fer.train.augment import TEN, augment
from ensemble_fer.train.mixing import mix
from ensemble_fer.train.policies import POLICIES
from ensemble_fer.types import N_CLASSES, Kind, Resampling

# Of augmented rows, pixels are made so many at a time.
CHUNK = 2048


class Batches:
    """An endless stream of augmented batches of a training set.

    Parameters
    ----------
    images : uint8 [N, h, w] or [N, h, w, 3]
        All faces of the set; kept on the device as bytes.
    rows : Resampling
        The training set.
    crop, policy, batch_size, seed
        See ``Recipe`` and ``augment``.
    device : torch.device
    sampling : str
        ``shuffled``: each row once a pass, in a new order. ``balanced``: the classes take turns, and of each class
        each row once a pass.
    mixup, cutmix : float
        See ``mix``.
    soft : float32 [N, 7], optional
        Shares of the classes in each face of the set, in place of its label.
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
        sampling: str = "shuffled",
        mixup: float = 0.0,
        cutmix: float = 0.0,
        soft: NDArray[np.float32] | None = None,
    ) -> None:
        self.crop, self.policy, self.batch_size, self.seed, self.device = crop, policy, batch_size, seed, device
        self.mixup, self.cutmix = mixup, cutmix
        self.count = len(rows)
        resident, first, second = _resident(images, rows)
        self.images = torch.from_numpy(resident).to(device)
        self.first, self.second = torch.from_numpy(first), torch.from_numpy(second)
        self.weight = torch.from_numpy(rows.weight.astype(np.float32))
        labels = rows.labels.astype(np.int64) if soft is None else _shares(soft, rows, len(images))
        self.labels = torch.from_numpy(labels).to(device)
        of_class = [np.flatnonzero(rows.labels == label) for label in np.unique(rows.labels)]
        # Groups that take turns: the classes, or all rows as one.
        self._groups = of_class if sampling == "balanced" else [np.arange(self.count)]
        self._passes: dict[int, tuple[int, NDArray[np.int64]]] = {}

    def rows_of(self, step: int) -> NDArray[np.int64]:
        """Rows of the training set in the batch of a step: consecutive pieces of one shuffled pass after another."""
        wanted = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        turns, groups = divmod(wanted, len(self._groups))
        rows = np.empty(len(wanted), np.int64)
        for group, members in enumerate(self._groups):
            where = np.flatnonzero(groups == group)
            passes, places = divmod(turns[where], len(members))
            for number in np.unique(passes):
                now = passes == number
                rows[where[now]] = self._shuffled(group, int(number))[places[now]]
        return rows

    def _shuffled(self, group: int, number: int) -> NDArray[np.int64]:
        """Rows of a group in the order of a pass; the last pass of each group is kept."""
        if self._passes.get(group, (-1,))[0] != number:
            # One group alone is shuffled as it was before there were several.
            key = [self.seed, number] if len(self._groups) == 1 else [self.seed, number, group]
            order = np.random.default_rng(key).permutation(self._groups[group])
            self._passes[group] = (number, order)
        return self._passes[group][1]

    def draw(self, step: int) -> tuple[Tensor, Tensor]:
        """Crops float32 [b, crop, crop] or [b, crop, crop, 3] (grey levels 0 to 255) and labels of a step.

        Labels are int64 [b], or shares float32 [b, 7] where votes or mixing make them soft; b is ``batch_size``, or
        ten times that with a policy of ten crops.
        """
        rows = torch.from_numpy(self.rows_of(step))
        faces = self.images[self.first[rows].to(self.device)]
        weight = self.weight[rows]
        mixed = torch.nonzero(weight).squeeze(1)
        if len(mixed):
            # The same rounding as Resampling.pixels, so that training sees what is shown.
            where = mixed.to(self.device)
            a = faces[where].to(torch.float32)
            b = self.images[self.second[rows[mixed]].to(self.device)].to(torch.float32)
            blend = a + weight[mixed].to(self.device).reshape(-1, *[1] * (a.ndim - 1)) * (b - a)
            faces[where] = blend.round().to(torch.uint8)
        generator = torch.Generator().manual_seed(step_seed(self.seed, step))
        crops = augment(faces, self.crop, self.policy, generator)
        labels = self.labels[rows.to(self.device)]
        if POLICIES[self.policy].ten_crops:
            labels = labels.repeat_interleave(TEN, dim=0)
        # Chance of its own, so that mixing does not change what is mixed.
        rng = np.random.default_rng([self.seed, step, 1])
        return mix(crops, labels, rng, mixup=self.mixup, cutmix=self.cutmix)


def _resident(images: NDArray[np.uint8], rows: Resampling) -> tuple[NDArray, NDArray, NDArray]:
    """Faces that the training set shows, as bytes, and where among them the parents of each row are.

    Of augmented rows, which share no pixels with their parents, the pixels are made here, once.
    """
    made = np.flatnonzero(rows.kind == Kind.AUGMENTED)
    other = np.flatnonzero(rows.kind != Kind.AUGMENTED)
    used = np.unique(np.concatenate([rows.parent_a[other], rows.parent_b[other]]))
    place = np.zeros(len(images), np.int64)
    place[used] = np.arange(len(used))
    first, second = place[rows.parent_a], place[rows.parent_b]
    first[made] = second[made] = len(used) + np.arange(len(made))
    resident = np.empty((len(used) + len(made), *images.shape[1:]), np.uint8)
    np.take(images, used, axis=0, out=resident[: len(used)])
    for start in range(0, len(made), CHUNK):
        some = made[start : start + CHUNK]
        resident[len(used) + start :][: len(some)] = rows.pixels(images, some)
    return resident, first, second


def _shares(soft: NDArray[np.float32], rows: Resampling, faces: int) -> NDArray[np.float32]:
    """Shares float32 [m, 7] of the rows of a training set: those of their parents, mixed as their pixels are."""
    if soft.shape != (faces, N_CLASSES):
        raise UsageError(f"soft labels have shape {soft.shape}; expected one row for each face, {(faces, N_CLASSES)}.")
    exact, weight = soft.astype(np.float64), rows.weight[:, None]
    return ((1 - weight) * exact[rows.parent_a] + weight * exact[rows.parent_b]).astype(np.float32)


def step_seed(seed: int, step: int) -> int:
    """A seed for everything random within one step."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))
