"""The search on a device of torch."""

from __future__ import annotations

import numpy as np
import pytest

from ensemble_fer.errors import MissingError
from ensemble_fer.neighbors import (
    Mixtures,
    Search,
    nearest,
    on_device,
    search,
)
from ensemble_fer.neighbors.on_device import OnDevice
from tests.neighbors.reference import photographs


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("k", [1, 4])
def test_on_a_device_of_torch_it_finds_the_same(k, device, monkeypatch):
    torch = pytest.importorskip("torch")
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA GPU here")
    pixels = photographs(k, 1400)
    draw = np.random.default_rng(0)
    a, b = draw.integers(0, 1400, (2, 800))
    every = np.arange(1400)
    points = Mixtures(pixels, np.append(every, a), np.append(every, b), np.append(np.zeros(1400), draw.random(800)))
    others = Mixtures.faces(photographs(9, 100))
    by_numpy = nearest(points, k), nearest(points, k, queries=others)
    tiles = []
    candidates = OnDevice.candidates
    monkeypatch.setattr(OnDevice, "candidates", lambda self, ids: tiles.append(len(ids)) or candidates(self, ids))
    monkeypatch.setattr(search, "torch_device", lambda name: torch.device(name))
    with_torch = Search(pixels, device=device)
    for ours, asked in zip(by_numpy, (None, others), strict=True):
        found = with_torch.nearest(points, k, queries=asked)
        assert np.array_equal(found.rows, ours.rows)
        np.testing.assert_allclose(found.squared, ours.squared, rtol=1e-12)
    assert sum(tiles) == 2300


def test_which_device_searches(monkeypatch):
    assert on_device.torch_device("cpu") is None
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert on_device.torch_device("auto") is None
    with pytest.raises(MissingError, match="--device cpu"):
        on_device.torch_device("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert on_device.torch_device("cuda:1") == torch.device("cuda:1")
