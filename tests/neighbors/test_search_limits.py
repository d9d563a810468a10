"""The search at its limits: of numbers, of memory, of threads, and of what it is given."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ensemble_fer.errors import UsageError
from ensemble_fer.neighbors import (
    Mixtures,
    Search,
    count_ties,
    kernels,
    nearest,
    search,
    shadows,
)
from tests.neighbors.reference import photographs

ROOT = Path(__file__).parents[2]


BEYOND = """
import numpy as np
from ensemble_fer.neighbors import Mixtures, nearest
draw = np.random.default_rng(0)
table = draw.normal(size=(1501, 20)) * 1e152
table[::250] *= 300  # squared distances from these are beyond float64
found = nearest(Mixtures.faces(table), 3)
assert ((found.rows >= 0) & (found.rows < 1501)).all()
near = np.delete(np.arange(1501), np.arange(0, 1501, 250))
for i in near[::100]:
    apart = ((table[near] / 1e152 - table[i] / 1e152) ** 2).sum(axis=1)
    assert sorted(found.rows[i]) == sorted(near[np.argsort(apart)[:3]])
"""


@pytest.mark.filterwarnings("ignore")
def test_numbers_of_which_float64_cannot_hold_the_squares_do_no_harm():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", BEYOND], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("weight", [np.nan, -0.1, 1.1, np.inf])
def test_weights_that_make_no_mixture_are_refused(weight):
    pixels, rows = photographs(1, 1500), np.arange(1500)
    points = Mixtures(pixels, rows, rows[::-1].copy(), np.where(rows == 3, weight, 0.5))
    for asked in ({"points": points}, {"points": Mixtures.faces(pixels), "queries": points}):
        with pytest.raises(UsageError, match="between 0 and 1"):
            nearest(**asked, k=3)


def test_rows_that_do_not_exist_are_refused():
    pixels = photographs(1, 60)
    for wrong in (10**9, -(10**9)):
        points = Mixtures(pixels, np.full(500, wrong), np.arange(500) % 60, np.full(500, 0.5))
        with pytest.raises(IndexError):
            nearest(points, 2)


def test_a_table_that_lies_otherwise_is_copied_once_and_counted():
    pixels = np.asfortranarray(photographs(4, 1500))
    wanted = nearest(Mixtures.faces(np.ascontiguousarray(pixels)), 3)
    looking = Search(pixels, memory=2 * pixels.nbytes + search.LEAST)
    found = looking.nearest(Mixtures.faces(pixels), 3, queries=Mixtures.faces(pixels, np.arange(1500)))
    assert np.array_equal(found.rows, wanted.rows)
    with pytest.raises(UsageError, match="not enough"):
        Search(pixels, memory=pixels.nbytes + search.LEAST)


def test_ties_are_not_counted_behind_the_last_neighbour():
    inf = np.inf
    assert count_ties(np.array([[0, 4, inf], [0, 4, 9], [1, inf, inf], [4, 4, inf]])) == 1


def test_candidates_for_which_there_is_no_room_yet(monkeypatch):
    pixels = np.concatenate([photographs(seed, 700) for seed in (5, 6)] * 2)  # each face twice
    expected = nearest(Mixtures.faces(pixels), 4)
    monkeypatch.setattr(kernels, "_FOUND", 0)
    rooms, settle = [], kernels._settle
    monkeypatch.setattr(kernels, "_settle", lambda *given: rooms.append(len(given[10][0])) or settle(*given))
    found = nearest(Mixtures.faces(pixels), 4)
    assert len(set(rooms)) > 2, "room was never added"
    assert np.array_equal(found.rows, expected.rows)
    assert np.array_equal(found.squared, expected.squared)


def test_points_of_another_table_are_refused():
    with pytest.raises(UsageError, match="another table"):
        Search(np.zeros((9, 4), np.uint8)).nearest(Mixtures.faces(np.zeros((9, 4), np.uint8)), 1)


def test_coordinates_of_a_row_are_made_once_and_only_if_it_is_asked_for(monkeypatch):
    pixels = photographs(3, 2800)
    made, spread = [], shadows.Axes.spread
    looking, one, other = Search(pixels), np.arange(0, 2800, 2), np.arange(1, 2800, 2)
    with ThreadPoolExecutor(1) as pool:
        axes = shadows.Axes.principal(pixels, 256, pool)
    monkeypatch.setattr(shadows.Axes, "spread", lambda self, rows: made.append(len(rows)) or spread(self, rows))
    monkeypatch.setattr(shadows.Axes, "principal", classmethod(lambda *given: axes))
    for rows, total in [(one, 1400), (one[:1300], 1400), (other, 2800), (np.arange(2800), 2800)]:
        found = looking.nearest(Mixtures.faces(pixels, rows), 2)
        assert sum(made) == total
        wide = pixels[rows].astype(float)
        for i in range(0, len(rows), 400):
            squared = ((wide - wide[i]) ** 2).sum(axis=1)
            assert found.squared[i].tolist() == np.sort(squared)[:2].tolist()


def test_a_search_stays_within_its_memory():
    """In a process of its own, beside what it held before; the table is within the cap too."""
    code = (
        "import numpy as np\n"
        "from ensemble_fer.neighbors import Mixtures, nearest\n"
        "from ensemble_fer.runtime import peak_mb\n"
        "from tests.neighbors.reference import photographs\n"
        "nearest(Mixtures.faces(photographs(0, 1500)), 2)\n"
        "pixels = np.concatenate([photographs(seed, 1000) for seed in range(40)])\n"
        "start, cap = int(peak_mb()), 120\n"
        "nearest(Mixtures.faces(pixels), 2, memory=cap * 10**6)\n"
        "print(peak_mb() - start + pixels.nbytes / 1e6, cap)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    taken, cap = (float(word) for word in done.stdout.split())
    assert 40 < taken < cap


def test_faces_that_are_nearly_all_one_picture_stay_within_the_memory():
    """All that are as far as the last neighbour are ties, and they are nearly all there are."""
    code = (
        "import numpy as np\n"
        "from ensemble_fer.neighbors import Mixtures, nearest\n"
        "from ensemble_fer.runtime import peak_mb\n"
        "draw = np.random.default_rng(0)\n"
        "pixels = np.repeat(draw.integers(0, 256, (1, 256)).astype(np.uint8), 20_000, axis=0)\n"
        "pixels[:1000] = draw.integers(0, 256, (1000, 256))\n"
        "nearest(Mixtures.faces(pixels[:1500].copy()), 5)\n"
        "start = peak_mb()\n"
        "asked = Mixtures.faces(pixels, np.arange(19_400, 20_000))\n"
        "found = nearest(Mixtures.faces(pixels), 5, queries=asked, memory=100 * 10**6)\n"
        "assert (found.rows == np.arange(1000, 1005)).all() and not found.squared.any()\n"
        "print(peak_mb() - start)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert float(done.stdout) < 95


@pytest.mark.parametrize("tiny", [1e-15, 1e-21, 1e-25])
def test_a_cluster_so_small_that_float32_cannot_hold_its_squares(tiny):
    draw = np.random.default_rng(1)
    large = draw.integers(-1, 2, (400, 40)) * draw.integers(1, 3, 40).astype(float)
    cluster = draw.normal(0, tiny, (700, 6)) @ draw.normal(0, 1, (6, 40))
    table = np.concatenate([large, -large, cluster])
    found = nearest(Mixtures.faces(table), 3)
    for i in range(800, 1500, 9):
        squared = ((table - table[i]) ** 2).sum(axis=1)
        np.testing.assert_allclose(squared[found.rows[i]], np.sort(squared)[:3], rtol=1e-9)


def test_two_threads_on_one_search(monkeypatch):
    """One wants many coordinates and one wants few: neither may take the axes of the other."""
    pixels = photographs(1, 3000)
    looking, every = Search(pixels), Mixtures.faces(pixels)
    monkeypatch.setattr(search, "FEW_PAIRS", 5_000_000)
    monkeypatch.setattr(search, "FEW_COORDINATES", 70)
    coordinates = shadows.Axes.coordinates
    monkeypatch.setattr(shadows.Axes, "coordinates", lambda *given: time.sleep(0.1) or coordinates(*given))
    some = Mixtures.faces(pixels, np.arange(300))
    with ThreadPoolExecutor(2) as pool:
        few, all_ = pool.submit(looking.nearest, every, 3, queries=some), pool.submit(looking.nearest, every, 3)
    monkeypatch.undo()
    expected = nearest(every, 3)
    assert np.array_equal(all_.result().rows, expected.rows)
    assert np.array_equal(few.result().rows, expected.rows[:300])
