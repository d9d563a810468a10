"""Augmentation policies by name: ranges from which each sample draws. A new policy is one entry of ``POLICIES``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Policy:
    """Ranges from which each sample draws.

    Parameters
    ----------
    scale : float
        Enlarged or shrunk by up to 1 + scale, log-uniform.
    shift : float
        Moved by up to this share of the face's side, in both directions.
    degrees : float
        Rotated by up to this angle.
    flip, erase, apply : float
        Probabilities: of mirroring, of erasing a rectangle, of each of the others but crop.
    jitter : bool
        The crop lies anywhere in the face instead of at its centre.
    shear : float
        Columns are slanted by up to this angle in degrees.
    brightness, contrast : float
        Grey levels, or their distances from the face's mean, are multiplied by up to 1 + this and down to 1 - this.
    noise : float
        Gaussian noise with a standard deviation of up to so many grey levels.
    largest : float
        The erased rectangle covers 2 % up to this share of the crop.
    ten_crops : bool
        The four corners and the centre of the face, and their mirror images, instead of one crop.
    """

    scale: float = 0.0
    shift: float = 0.0
    degrees: float = 0.0
    flip: float = 0.0
    erase: float = 0.0
    apply: float = 1.0
    jitter: bool = False
    shear: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    noise: float = 0.0
    largest: float = 0.2
    ten_crops: bool = False


POLICIES: dict[str, Policy] = {
    "none": Policy(),
    # Ours.
    "light": Policy(scale=0.1, shift=0.04, degrees=10, flip=0.5, jitter=True),
    "strong": Policy(scale=0.2, shift=0.06, degrees=15, flip=0.5, erase=0.5, jitter=True),
    # Khaireddin & Chen 2021, section 3.2; one random crop where they train on ten. The released code mirrors too.
    "khaireddin": Policy(scale=0.2, shift=0.2, degrees=10, flip=0.5, erase=0.5, apply=0.5, jitter=True),
    # As their released code: all ten crops, each with an erased rectangle of its own, of 2 to 33 % of its area.
    "khaireddin_tencrop": Policy(
        scale=0.2, shift=0.2, degrees=10, flip=0.5, erase=0.5, apply=0.5, largest=0.33, ten_crops=True
    ),
    # System A names rotation, crop, mirroring, brightness and contrast. All numbers are ours.
    "atasoy": Policy(scale=0.1, shift=0.04, degrees=10, flip=0.5, jitter=True, brightness=0.2, contrast=0.2),
    # System D names rotation, affine maps and mirroring; the numbers are those of its released notebooks.
    "pazos": Policy(shift=0.2, degrees=5, shear=10, flip=0.5),
    # System B names mirroring, resizing, crop and brightness. All numbers are ours.
    "group14": Policy(scale=0.1, shift=0.04, flip=0.5, jitter=True, brightness=0.2),
    # System E names mirroring, rotation and Gaussian noise, "none, one, or multiple" of them. All numbers are ours.
    "gaballa": Policy(degrees=10, flip=0.5, apply=0.5, noise=10),
}
