"""The compiled loops against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from ensemble_fer.neighbors import kernels, loops
from ensemble_fer.neighbors.constants import MOST_BYTES
from tests.neighbors.reference import random_mixtures


@pytest.mark.parametrize("pixels", [1, 7, 300, MOST_BYTES, MOST_BYTES + 1])
def test_distances_of_bytes_are_integers_also_of_the_largest(pixels):
    table = np.zeros((4, pixels), np.uint8)
    table[1], table[2] = 255, np.random.default_rng(0).integers(0, 256, pixels)
    rows = np.arange(4)
    faces = (table, rows, rows, np.zeros(4))
    i, j = np.meshgrid(rows, rows)
    found = kernels.squared_distances(faces, faces, i.ravel(), j.ravel())
    wide = table.astype(np.int64)
    assert np.array_equal(found, ((wide[i.ravel()] - wide[j.ravel()]) ** 2).sum(axis=1))
    assert found.max() == 255**2 * pixels


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_distances_of_mixtures_are_those_of_their_pixels(dtype):
    points, values = random_mixtures(3, faces=30, mixed=30, pixels=77)
    fields = (points.pixels.astype(dtype), *points.fields[1:])
    i, j = (part.ravel() for part in np.meshgrid(np.arange(60), np.arange(60)))
    found = kernels.squared_distances(fields, fields, i, j)
    np.testing.assert_allclose(found, ((values[i] - values[j]) ** 2).sum(axis=1), rtol=1e-12, atol=1e-20)
    assert not found[i == j].any()


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_gaps_and_coordinates_of_mixtures(dtype):
    points, _ = random_mixtures(5, faces=20, mixed=25, pixels=33)
    fields = (points.pixels.astype(dtype), *points.fields[1:])
    table = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    apart, out = np.full(45, np.nan), np.full((45, 6), np.nan, np.float32)
    kernels.gaps(fields, 0, 45, apart)
    kernels.mixed(table, fields, 0, 45, out)
    wide = points.pixels.astype(float)
    assert np.array_equal(apart, ((wide[points.a] - wide[points.b]) ** 2).sum(axis=1) * (points.w > 0))
    expected = table[points.a] + points.w[:, None] * (table[points.b] - table[points.a])
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


def test_put_keeps_the_lowest_in_order():
    values, places = np.full(4, np.inf), np.zeros(4, np.int64)
    for place, value in enumerate([5.0, 1.0, 9.0, 3.0, 3.0, 0.5]):
        if value < values[-1]:
            loops.put(values, places, value, place)
    assert values.tolist() == [0.5, 1.0, 3.0, 3.0]
    assert places.tolist() == [5, 1, 3, 4]
