"""Arrays on disk."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

from ensemble_fer.errors import StoreError
from ensemble_fer.files import load_arrays, save_arrays


def test_arrays_come_back_as_they_were_and_read_only(tmp_path):
    written = {
        "faces": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big_endian": np.arange(3, dtype=">i4"),
        "none": np.empty((0, 7), np.float32),
        "one": np.array(2.5),
        "text": np.array(["disgust", "fear"]),
        "yes": np.array([True, False]),
    }
    save_arrays(tmp_path / "a.npz", **written)
    np.savez(tmp_path / "b.npz", allow_pickle=False, **written)
    for name in ("a.npz", "b.npz"):
        found = load_arrays(tmp_path / name)
        assert list(found) == list(written)
        for key, value in written.items():
            assert found[key].dtype == value.dtype
            assert found[key].shape == value.shape
            assert np.array_equal(found[key], value)
            with pytest.raises(ValueError, match="read-only"):
                found[key][...] = value


@pytest.mark.parametrize("kind", ["objects", "text", "short", "newer"])
def test_what_is_no_array_of_numbers_is_refused(tmp_path, kind):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.array([{}], object) if kind == "objects" else np.arange(5.0))
    if kind != "objects":
        with zipfile.ZipFile(path) as archive:
            content = archive.read("x.npy")
        broken = {"text": b"no array", "short": content[:-3], "newer": content[:6] + b"\x09" + content[7:]}
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", broken[kind])
    with pytest.raises(StoreError, match=r"a\.npz: x\.npy is no array of numbers or text"):
        load_arrays(path)
