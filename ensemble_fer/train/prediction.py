"""Logits of a member, always in float32, with test-time augmentation by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensemble_fer.errors import unknown_name
from ensemble_fer.models import Member

BATCH = 256


def _centre(faces: Tensor, crop: int) -> list[Tensor]:
    top, left = (faces.shape[1] - crop) // 2, (faces.shape[2] - crop) // 2
    return [faces[:, top : top + crop, left : left + crop]]


def _flip(faces: Tensor, crop: int) -> list[Tensor]:
    (centre,) = _centre(faces, crop)
    return [centre, centre.flip(2)]


def _ten_crop(faces: Tensor, crop: int) -> list[Tensor]:
    """Four corners and the centre, each mirrored too (Krizhevsky et al. 2012)."""
    bottom, right = faces.shape[1] - crop, faces.shape[2] - crop
    corners = [faces[:, y : y + crop, x : x + crop] for y in (0, bottom) for x in (0, right)]
    crops = corners + _centre(faces, crop)
    return crops + [c.flip(2) for c in crops]


TTA: dict[str, Callable[[Tensor, int], list[Tensor]]] = {"none": _centre, "flip": _flip, "ten_crop": _ten_crop}


def predict_rows(
    member: Member,
    images: NDArray[np.uint8],
    tta: str = "none",
    *,
    device: torch.device | str | None = None,
    advance: Callable[[int], None] = lambda n: None,
) -> NDArray[np.float32]:
    """Logits float32 [n, 7] of faces uint8 [n, h, w] or [n, h, w, 3].

    Parameters
    ----------
    tta : str
        ``none`` (centre crop), ``flip`` or ``ten_crop``. With more than one crop the logits are the
        logarithm of the mean probability over the crops.
    device : optional
        The member's own by default.
    advance : callable
        Is given the number of faces done, after each batch.
    """
    if tta not in TTA:
        raise unknown_name("test-time augmentation", tta, TTA)
    device = device or next(member.parameters()).device
    was_training = member.training
    member.eval()
    out = []
    # TensorFloat-32, cuDNN's default for convolutions, keeps ten bits of the fraction.
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for start in range(0, len(images), BATCH):
            faces = torch.tensor(images[start : start + BATCH], device=device)
            crops = TTA[tta](faces, member.crop_of(faces.shape[1]))
            if len(crops) == 1:
                out.append(member.of_crops(crops[0]).cpu())
            else:
                total = torch.stack([member.of_crops(c).double().softmax(1) for c in crops]).mean(0)
                out.append(total.clamp_min(1e-30).log().float().cpu())
            advance(len(faces))
    member.train(was_training)
    return torch.cat(out).numpy() if out else np.empty((0, 7), np.float32)
