"""Mixed batches: mixup (Zhang et al. 2018) and cutmix (Yun et al. 2019), each pair by its own draw.

A label becomes a share of each class. A share is what the picture shows: with cutmix the area that was really cut.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ensemble_fer.types import N_CLASSES


def soften(labels: Tensor) -> Tensor:
    """Shares float32 [n, 7] of labels int64 [n]; shares are returned as they are."""
    return labels if labels.ndim == 2 else torch.nn.functional.one_hot(labels, N_CLASSES).to(torch.float32)


def mix(
    crops: Tensor, labels: Tensor, rng: np.random.Generator, *, mixup: float = 0.0, cutmix: float = 0.0
) -> tuple[Tensor, Tensor]:
    """A batch of which every picture is mixed with another one of the batch.

    Parameters
    ----------
    crops : float32 Tensor [n, h, w] or [n, h, w, 3]
    labels : int64 Tensor [n], or shares float32 [n, 7]
    rng : numpy Generator
        The only source of chance.
    mixup, cutmix : float
        Alpha of the Beta distribution of the first picture's share; 0 is off. With both one of them is taken,
        evenly; with neither the batch is returned as it is.

    Returns
    -------
    Crops of the same shape, and shares float32 [n, 7].
    """
    if not mixup and not cutmix:
        return crops, labels
    n, device = len(crops), crops.device
    cut = bool(cutmix) and (not mixup or rng.random() < 0.5)
    other = torch.from_numpy(rng.permutation(n)).to(device)
    alpha = cutmix if cut else mixup
    share = rng.beta(alpha, alpha, n)
    shape = (n, *[1] * (crops.ndim - 1))
    if cut:
        kept = _kept(share, crops.shape[1], crops.shape[2], rng)
        # Of whole pixels, so the share is a quotient of integers, rounded once.
        share = kept.mean(axis=(1, 2), dtype=np.float64)
        mask = torch.from_numpy(kept).to(device).reshape(*kept.shape, *[1] * (crops.ndim - 3))
        crops = torch.where(mask, crops, crops[other])
        first = torch.from_numpy(share.astype(np.float32)).to(device)
    else:
        first = torch.from_numpy(share.astype(np.float32)).to(device)
        weight = first.reshape(shape)
        crops = weight * crops + (1 - weight) * crops[other]
    shares = soften(labels)
    return crops, first[:, None] * shares + (1 - first)[:, None] * shares[other]


def _kept(share: np.ndarray, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Masks bool [n, h, w], false in a rectangle around a point drawn evenly, clipped at the edges.

    Its sides are those of the picture times the root of 1 - share (Yun et al. 2019, section 3.1).
    """
    n = len(share)
    sides = np.sqrt(1 - share)
    spans = []
    for length in (height, width):
        half = (length * sides).astype(np.int64) // 2
        middle = rng.integers(0, length, n)
        line = np.arange(length)
        low, high = np.clip(middle - half, 0, length), np.clip(middle + half, 0, length)
        spans.append((line >= low[:, None]) & (line < high[:, None]))
    return ~(spans[0][:, :, None] & spans[1][:, None, :])
