"""Augmentation as it was in version 3 of training, for gray faces: what trained runs have seen must stay as it is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

FILL = 127.5


@dataclass(frozen=True)
class Policy:
    scale: float = 0.0
    shift: float = 0.0
    degrees: float = 0.0
    flip: float = 0.0
    erase: float = 0.0
    apply: float = 1.0
    jitter: bool = False


POLICIES: dict[str, Policy] = {
    "none": Policy(),
    # Khaireddin & Chen 2021, section 3.2; one random crop where they train on ten. The released code mirrors too.
    "khaireddin": Policy(scale=0.2, shift=0.2, degrees=10, flip=0.5, erase=0.5, apply=0.5, jitter=True),
    "light": Policy(scale=0.1, shift=0.04, degrees=10, flip=0.5, jitter=True),
    "strong": Policy(scale=0.2, shift=0.06, degrees=15, flip=0.5, erase=0.5, jitter=True),
}


def augment(faces: Tensor, crop: int, policy: str, generator: torch.Generator) -> Tensor:
    chosen = POLICIES[policy]
    if chosen == Policy():
        top, left = (faces.shape[1] - crop) // 2, (faces.shape[2] - crop) // 2
        return faces[:, top : top + crop, left : left + crop].to(torch.float32)
    matrix = _draw_maps(len(faces), faces.shape[1:], crop, chosen, generator).to(faces.device)
    # Coordinates of the crop's pixel centres in pixels from its middle.
    line = torch.arange(crop, dtype=torch.float32, device=faces.device) - (crop - 1) / 2
    x, y = line[None, None, :], line[None, :, None]
    m = matrix[:, :, :, None, None]
    grid = torch.stack([m[:, i, 0] * x + m[:, i, 1] * y + m[:, i, 2] for i in (0, 1)], dim=-1)
    source = (faces.to(torch.float32) - FILL).unsqueeze(1)
    out = torch.nn.functional.grid_sample(source, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    out = out.squeeze(1)
    if chosen.erase:
        out = out * _draw_kept(len(faces), crop, chosen.erase, generator).to(out.device)
    return out + FILL


def _draw_maps(n: int, size: torch.Size, crop: int, policy: Policy, generator: torch.Generator) -> Tensor:
    """Affine maps [n, 2, 3] from crop pixels around the middle to ``grid_sample`` coordinates (-1 to 1)."""
    height, width = size

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(n, generator=generator) * (high - low) + low

    def sometimes(values: Tensor) -> Tensor:
        return values * (torch.rand(n, generator=generator) < policy.apply)

    zoom = torch.exp(sometimes(uniform(-1, 1) * math.log1p(policy.scale)))
    angle = sometimes(uniform(-1, 1) * math.radians(policy.degrees))
    dx, dy = sometimes(uniform(-1, 1) * policy.shift * width), sometimes(uniform(-1, 1) * policy.shift * height)
    if policy.jitter:
        dx = dx + uniform(-1, 1) * (width - crop) / 2
        dy = dy + uniform(-1, 1) * (height - crop) / 2
    mirror = torch.where(torch.rand(n, generator=generator) < policy.flip, -1.0, 1.0)
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    row_x = torch.stack([cos * mirror, -sin, dx], dim=1) * (2 / width)
    row_y = torch.stack([sin * mirror, cos, dy], dim=1) * (2 / height)
    return torch.stack([row_x, row_y], dim=1)


def _draw_kept(n: int, crop: int, probability: float, generator: torch.Generator) -> Tensor:
    """Masks [n, crop, crop]: 0 in one rectangle (Zhong et al. 2020: 2 to 20 % of the area, aspect 0.3 to 3.3)."""
    area = (torch.rand(n, generator=generator) * 0.18 + 0.02) * crop * crop
    aspect = torch.exp((torch.rand(n, generator=generator) * 2 - 1) * math.log(1 / 0.3))
    height, width = torch.sqrt(area * aspect).clamp(1, crop), torch.sqrt(area / aspect).clamp(1, crop)
    # A rectangle without area where nothing is to be erased.
    height = height * (torch.rand(n, generator=generator) < probability)
    top = torch.rand(n, generator=generator) * (crop - height)
    left = torch.rand(n, generator=generator) * (crop - width)
    line = torch.arange(crop, dtype=torch.float32)
    rows = (line >= top[:, None]) & (line < (top + height)[:, None])
    columns = (line >= left[:, None]) & (line < (left + width)[:, None])
    return (~(rows[:, :, None] & columns[:, None, :])).to(torch.float32)
