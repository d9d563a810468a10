"""Faces of noise, and files of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ensemble_fer.data.csv_reader import Header
from ensemble_fer.data.readers import SIDE

HEADER = Header(emotion=0, pixels=1, usage=2, columns=3)


def faces(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, SIDE, SIDE), dtype=np.uint8)


def csv_line(image: np.ndarray, label: object = 3, usage: str = "Training") -> str:
    return f"{label},{' '.join(map(str, image.reshape(-1).tolist()))},{usage}"


def write_csv(path: Path, lines: list[str], header: str = "emotion,pixels,Usage", end: str = "\n") -> Path:
    path.write_bytes((end.join([header, *lines]) + end).encode())
    return path


def save(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path
