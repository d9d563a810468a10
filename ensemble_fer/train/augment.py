"""Augmentation of whole batches, each sample by its own draw, as one resampling of the pixels.

Scale, shift, rotation, shear, flip and crop are one affine map from the crop's pixels to the face's, so the
face is interpolated once. Brightness and contrast change the face before, noise and erasing the crop after.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ensemble_fer.errors import UsageError, unknown_name
from ensemble_fer.train.policies import POLICIES, Policy

# Outside of the face, and erased: the middle of the grey levels, which members see as 0.
FILL = 127.5
TEN = 10


def augment(faces: Tensor, crop: int, policy: str, generator: torch.Generator) -> Tensor:
    """Augmented crops of a batch.

    Parameters
    ----------
    faces : Tensor [n, h, w] or [n, h, w, 3]
        Grey levels 0 to 255, any dtype, on any device.
    crop : int
        Side of the crops; at most that of the faces.
    policy : str
        One of ``POLICIES``.
    generator : torch.Generator
        On the CPU; the only source of chance, so a seeded one repeats the batch.

    Returns
    -------
    float32 Tensor [n, crop, crop] or [n, crop, crop, 3], grey levels 0 to 255. A policy of ten crops gives those of
    each face behind one another: [10 n, crop, crop].

    Raises
    ------
    UsageError
        An unknown policy, or a crop that is larger than the faces.
    """
    if policy not in POLICIES:
        raise unknown_name("augmentation", policy, POLICIES)
    height, width = faces.shape[1:3]
    if not 0 < crop <= min(height, width):
        raise UsageError(
            f"a crop of {crop}x{crop} was asked for from faces of {height}x{width}; expected 1 to "
            f"{min(height, width)}. A member that takes larger pictures enlarges its crops itself (side=)."
        )
    chosen = POLICIES[policy]
    if chosen == Policy():
        top, left = (height - crop) // 2, (width - crop) // 2
        return faces[:, top : top + crop, left : left + crop].to(torch.float32)
    # Channels before rows, as grid_sample takes them.
    source = faces.to(torch.float32).unsqueeze(1) if faces.ndim == 3 else faces.to(torch.float32).permute(0, 3, 1, 2)
    size = (height, width) if chosen.ten_crops else (crop, crop)
    matrix = _draw_maps(len(faces), (height, width), crop, chosen, generator).to(faces.device)
    if chosen.brightness or chosen.contrast:
        source = _expose(source, chosen, generator)
    out = _sample(source - FILL, matrix, size)
    if chosen.ten_crops:
        out = _ten_crops(out, crop)
    if chosen.noise:
        out = _add_noise(out, chosen, generator)
    if chosen.erase:
        out = out * _draw_kept(len(out), crop, chosen, generator, out.device).unsqueeze(1)
    out = out + FILL
    return out.squeeze(1) if faces.ndim == 3 else out.permute(0, 2, 3, 1)


def _sample(source: Tensor, matrix: Tensor, size: tuple[int, int]) -> Tensor:
    """Pictures [n, channels, *size] of faces through maps [n, 2, 3]; 0 outside of a face."""
    # Coordinates of the picture's pixel centres in pixels from its middle.
    lines = [torch.arange(side, dtype=torch.float32, device=source.device) - (side - 1) / 2 for side in size]
    y, x = lines[0][None, :, None], lines[1][None, None, :]
    m = matrix[:, :, :, None, None]
    grid = torch.stack([m[:, i, 0] * x + m[:, i, 1] * y + m[:, i, 2] for i in (0, 1)], dim=-1)
    return torch.nn.functional.grid_sample(source, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _draw_maps(n: int, size: tuple[int, int], crop: int, policy: Policy, generator: torch.Generator) -> Tensor:
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
    x_of_y, y_of_y = -sin, cos
    if policy.shear:
        # A step down the crop is a step aside as well, before the rotation.
        slant = torch.tan(sometimes(uniform(-1, 1) * math.radians(policy.shear)))
        x_of_y, y_of_y = x_of_y + cos * slant, y_of_y + sin * slant
    row_x = torch.stack([cos * mirror, x_of_y, dx], dim=1) * (2 / width)
    row_y = torch.stack([sin * mirror, y_of_y, dy], dim=1) * (2 / height)
    return torch.stack([row_x, row_y], dim=1)


def _factors(n: int, reach: float, policy: Policy, generator: torch.Generator) -> Tensor:
    """1 - reach to 1 + reach, or 1 where nothing is done, [n, 1, 1, 1]."""
    drawn = (torch.rand(n, generator=generator) * 2 - 1) * reach
    return (1 + drawn * (torch.rand(n, generator=generator) < policy.apply))[:, None, None, None]


def _expose(faces: Tensor, policy: Policy, generator: torch.Generator) -> Tensor:
    """Faces [n, channels, h, w] with other brightness, then other contrast, clipped to grey levels."""
    brighter = _factors(len(faces), policy.brightness, policy, generator).to(faces.device)
    faces = (faces * brighter).clamp(0, 255)
    if not policy.contrast:
        return faces
    steeper = _factors(len(faces), policy.contrast, policy, generator).to(faces.device)
    mean = faces.mean(dim=(1, 2, 3), keepdim=True)
    return (mean + (faces - mean) * steeper).clamp(0, 255)


def _ten_crops(faces: Tensor, crop: int) -> Tensor:
    """Corners and centre of faces [n, channels, h, w], then their mirror images: [10 n, channels, crop, crop]."""
    height, width = faces.shape[2:]
    bottom, right = height - crop, width - crop
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    five = torch.stack([faces[:, :, y : y + crop, x : x + crop] for y, x in corners], dim=1)
    return torch.cat([five, five.flip(-1)], dim=1).flatten(0, 1)


def _add_noise(crops: Tensor, policy: Policy, generator: torch.Generator) -> Tensor:
    """Noise on crops [n, channels, c, c] around 0, the same on every channel, clipped to grey levels."""
    n = len(crops)
    strength = torch.rand(n, generator=generator) * policy.noise * (torch.rand(n, generator=generator) < policy.apply)
    noise = torch.randn(n, 1, *crops.shape[2:], generator=generator) * strength[:, None, None, None]
    return (crops + noise.to(crops.device)).clamp(-FILL, 255 - FILL)


def _draw_kept(n: int, crop: int, policy: Policy, generator: torch.Generator, device: torch.device) -> Tensor:
    """Masks [n, crop, crop]: 0 in one rectangle (Zhong et al. 2020: from 2 % of the area, aspect 0.3 to 3.3)."""
    area = (torch.rand(n, generator=generator) * (policy.largest - 0.02) + 0.02) * crop * crop
    aspect = torch.exp((torch.rand(n, generator=generator) * 2 - 1) * math.log(1 / 0.3))
    height, width = torch.sqrt(area * aspect).clamp(1, crop), torch.sqrt(area / aspect).clamp(1, crop)
    # A rectangle without area where nothing is to be erased.
    height = height * (torch.rand(n, generator=generator) < policy.erase)
    top = torch.rand(n, generator=generator) * (crop - height)
    left = torch.rand(n, generator=generator) * (crop - width)
    bounds = torch.stack([top, top + height, left, left + width], dim=1).to(device)[:, :, None]
    line = torch.arange(crop, dtype=torch.float32, device=device)
    rows = (line >= bounds[:, 0]) & (line < bounds[:, 1])
    columns = (line >= bounds[:, 2]) & (line < bounds[:, 3])
    return (~(rows[:, :, None] & columns[:, None, :])).to(torch.float32)
