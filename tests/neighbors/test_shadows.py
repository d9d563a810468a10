"""Bounds from a few coordinates."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ensemble_fer.neighbors import (
    Mixtures,
)
from ensemble_fer.neighbors.shadows import Axes, Shadows
from tests.neighbors.reference import random_mixtures


class TestShadows:
    """No two points may be further apart in their shadows than they are, or a neighbour would be lost."""

    def cast(self, points: Mixtures, most: int) -> tuple[Shadows, float]:
        with ThreadPoolExecutor(1) as pool:
            axes = Axes.principal(points.pixels, most, pool)
            return Shadows.of(points, axes.coordinates(points.pixels, pool), axes.scale, pool, most), axes.scale

    @pytest.mark.parametrize("kind", ["noise", "near the mean", "one axis", "outliers", "floats"])
    def test_shadows_are_never_further_apart_than_the_points(self, kind):
        draw = np.random.default_rng(4)
        points, _ = random_mixtures(4, faces=120, mixed=120, pixels=400)
        pixels = points.pixels.astype(float)
        if kind == "near the mean":
            pixels = np.rint(128 + draw.normal(0, 0.6, pixels.shape))
        if kind == "one axis":
            pixels = np.rint(np.linspace(0, 255, 120)[:, None] * np.linspace(0, 1, 400))
        if kind == "outliers":
            pixels = np.where(np.arange(120)[:, None] < 3, pixels, 100 + pixels // 100)
        table = pixels * 1e-3 if kind == "floats" else pixels.astype(np.uint8)
        points = Mixtures(table, points.a, points.b, points.w)
        values = points.values(np.arange(len(points)))
        true = ((values[:, None] - values[None]) ** 2).sum(axis=2)
        cast, scale = self.cast(points, 300)
        assert (cast.near.shape[1], cast.far.shape[1]) == (64, 236)
        apart = np.zeros_like(true)
        for level, part in enumerate((cast.near, cast.far)):
            own, rest = part.astype(float), cast.rests[level].astype(float)
            apart += ((own[:, None] - own[None]) ** 2).sum(axis=2)
            shadow = apart + (rest[:, None] - rest[None]) ** 2
            over = shadow / scale**2 - true
            assert (over <= (cast.slack[:, None] + cast.slack) / scale**2).all()
        if kind != "noise":
            # And they say something: at the last level most of a distance is seen.
            far = true > 0
            assert np.median(shadow[far] / scale**2 / true[far]) > 0.5

    def test_axes_stretch_nothing_even_of_constant_faces(self):
        for pixels in (np.full((50, 90), 7, np.uint8), random_mixtures(1, 60, 1, 90)[0].pixels):
            axes = Axes.principal(pixels, 512, ThreadPoolExecutor(1))
            sizes = np.linalg.svd(axes.directions.astype(float), compute_uv=False)
            assert 1 - 1e-4 < sizes.min() <= sizes.max() <= 1
