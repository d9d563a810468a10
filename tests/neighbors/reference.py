"""Neighbours by definition, and points to look for them among."""

from __future__ import annotations

import numpy as np

from ensemble_fer.neighbors import (
    Mixtures,
)


def plain_lists(squared: np.ndarray, k: int) -> np.ndarray:
    """The k nearest of each row of a matrix of distances, by plain sorting on (distance, row)."""
    rows = np.broadcast_to(np.arange(squared.shape[1]), squared.shape)
    return np.lexsort((rows, squared), axis=1)[:, :k]


def integer_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return ((x[:, None].astype(np.int64) - y[None].astype(np.int64)) ** 2).sum(axis=2)


def random_mixtures(seed: int, faces: int, mixed: int, pixels: int, levels: int = 256) -> tuple[Mixtures, np.ndarray]:
    """Faces, some of them twice, and mixtures of two of one group; with their float64 pixels."""
    draw = np.random.default_rng(seed)
    base = draw.integers(0, levels, (faces, pixels)).astype(np.uint8)
    base[draw.integers(0, faces, faces // 5)] = base[draw.integers(0, faces, faces // 5)]
    group = draw.integers(0, 3, faces)
    a = draw.integers(0, faces, mixed)
    b = np.array([draw.choice(np.flatnonzero(group == group[i])) for i in a], dtype=int)
    a, b = np.append(np.arange(faces), a), np.append(np.arange(faces), b)
    w = np.append(np.zeros(faces), draw.random(mixed))
    points = Mixtures(base, a, b, w)
    return points, base[a] + w[:, None] * (base[b].astype(float) - base[a])


def photographs(seed: int, n: int) -> np.ndarray:
    """Smooth pictures with noise, some many times over, some far from all others, some of one grey: uint8 [n, 256]."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[0:16, 0:16] / 16
    waves = np.stack([np.cos(np.pi * (i * y + j * x)) for i in range(6) for j in range(6)]).reshape(36, -1)
    pixels = 128 + draw.normal(0, 18, (n, 36)) @ waves + draw.normal(0, 4, (n, 256))
    pixels[: n // 50] = draw.choice([0, 255], (n // 50, 256))  # outliers
    pixels[n // 50 : n // 20] = draw.integers(0, 256, (n // 20 - n // 50, 1))
    copies = draw.integers(0, n, n // 10)
    pixels[draw.integers(0, n, n // 10)] = pixels[copies]
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
