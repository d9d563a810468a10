"""Bounds from a few coordinates."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from ensemble_fer.neighbors import Mixtures, kernels
from ensemble_fer.neighbors.shadows import Axes, Shadows
from tests.neighbors.reference import random_mixtures


class TestShadows:
    """No two points may be further apart in their shadows than they are, or a neighbour would be lost."""

    def cast(self, points: Mixtures, most: int) -> tuple[Shadows, float]:
        with ThreadPoolExecutor(1) as pool:
            axes = Axes.principal(points.pixels, most, pool)
            table = axes.coordinates(points.pixels, np.arange(len(points.pixels)), pool)
            return Shadows.of(points, table, axes.scale, pool, most), axes.scale

    @pytest.mark.parametrize("kind", ["noise", "near the mean", "one axis", "outliers", "floats", "smooth"])
    def test_shadows_are_never_further_apart_than_the_points(self, kind):
        draw = np.random.default_rng(4)
        points, _ = random_mixtures(4, faces=120, mixed=120, pixels=400)
        pixels = points.pixels.astype(float)
        if kind == "smooth":  # of 40 by 40 pixels, blocks of 2 by 2 nearly equal
            pixels = pixels.reshape(120, 20, 1, 20, 1) + draw.integers(-4, 5, (120, 20, 2, 20, 2))
            pixels = np.clip(pixels.reshape(120, 1600), 0, 255)
        if kind == "near the mean":
            pixels = np.rint(128 + draw.normal(0, 0.6, pixels.shape))
        if kind == "one axis":
            pixels = np.rint(np.linspace(0, 255, 120)[:, None] * np.linspace(0, 1, 400))
        if kind == "outliers":
            pixels = np.where(np.arange(120)[:, None] < 3, pixels, 100 + pixels // 100)
        table = pixels * 1e-3 if kind == "floats" else pixels.astype(np.uint8)
        points = Mixtures(table, points.a, points.b, points.w)
        with ThreadPoolExecutor(1) as pool:
            assert Axes.principal(table, 9, pool).side == (40 if kind == "smooth" else 0)
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
            assert axes.directions.shape == (90, 90)
            sizes = np.linalg.svd(axes.directions.astype(float), compute_uv=False)
            assert 1 - 1e-4 < sizes.min() <= sizes.max() <= 1

    def test_sums_over_blocks_are_products_with_directions_of_length_1(self):
        pixels = np.random.default_rng(0).integers(0, 256, (30, 36)).astype(np.uint8)
        pixels[0], pixels[1] = 0, 255
        middle = np.random.default_rng(1).integers(0, 256, 36).astype(np.uint8)
        unit = np.float32(2**-10)
        out, squared = np.empty((20, 9), np.float32), np.empty(20)
        kernels.summed(pixels[:20], middle, 6, unit, out, squared)
        apart = (pixels[:20].astype(float) - middle) * unit
        block = np.zeros((36, 9))
        for y, x in np.ndindex(6, 6):
            block[6 * y + x, 3 * (y // 2) + x // 2] = 0.5
        assert np.array_equal(block.T @ block, np.eye(9))
        assert np.array_equal(out, apart @ block)
        assert np.array_equal(squared, (apart**2).sum(axis=1))

    def test_directions_over_blocks_stretch_nothing_either(self):
        blocks = np.random.default_rng(0).integers(0, 250, (300, 20, 20)).astype(np.uint8)
        pixels = blocks.repeat(2, 1).repeat(2, 2).reshape(300, 1600)
        with ThreadPoolExecutor(1) as pool:
            axes = Axes.principal(pixels, 64, pool)
            assert axes.side == 40
            unit = replace(axes, middle=np.zeros(1600, np.uint8), scale=1.0)
            each = np.eye(1600, dtype=np.uint8)  # products with single pixels are the entries of the directions
            whole = (
                np.concatenate([unit.spread(each[start : start + 512])[0] for start in range(0, 1600, 512)])
                @ axes.directions
            )
        sizes = np.linalg.svd(whole.astype(float), compute_uv=False)
        assert 1 - 1e-4 < sizes.min() <= sizes.max() <= 1 + 1e-6
