"""The compiled loops against numpy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ensemble_fer.neighbors import kernels
from tests.neighbors.reference import random_mixtures


@pytest.mark.parametrize("pixels", [1, 7, 300, kernels.MOST_BYTES, kernels.MOST_BYTES + 1])
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
            kernels.put(values, places, value, place)
    assert values.tolist() == [0.5, 1.0, 3.0, 3.0]
    assert places.tolist() == [5, 1, 3, 4]


PUT_ONE = """
import resource, sys
if sys.argv[1] == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # every write fails, as on a full disk
import numpy as np
from ensemble_fer.neighbors import kernels
values, places = np.full(2, np.inf), np.zeros(2, np.int64)
kernels.put(values, places, 5.0, 7)
print(values[0], places[0], sum(kernels.put.stats.cache_hits.values()))
"""


def test_compiled_code_that_cannot_be_kept_or_read_is_compiled_again(tmp_path):
    def put_one(disk: str, *, hits: int) -> list[Path]:
        command = [sys.executable, "-c", PUT_ONE, disk]
        kept = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
        done = subprocess.run(command, env=kept, capture_output=True, text=True)
        assert (done.returncode, done.stdout.split()) == (0, ["5.0", "7", str(hits)]), done.stderr
        return [path for path in tmp_path.rglob("kernels.put-*") if path.stat().st_size]

    assert not put_one("full", hits=0)
    files = put_one("room", hits=0)
    assert {path.suffix for path in files} == {".nbi", ".nbc"}
    for path in files:
        path.write_bytes(path.read_bytes()[:40])
    put_one("room", hits=0)
    put_one("full", hits=1)
