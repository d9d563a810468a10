"""npz files, and every way one can be bad."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ensemble_fer.data.csv_reader import Header
from ensemble_fer.data.npz import read_npz
from ensemble_fer.data.readers import SIDE
from ensemble_fer.errors import BadData, UsageError
from ensemble_fer.types import OFFICIAL
from tests.data.pictures import faces

HEADER = Header(emotion=0, pixels=1, usage=2, columns=3)


def write_npz(path: Path, **changed: np.ndarray) -> Path:
    arrays = {"images": faces(3), "labels": np.array([0, 3, 6]), "usage": np.array(OFFICIAL)}
    np.savez(path, **{**arrays, **changed})
    return path


@pytest.mark.parametrize(
    ("changed", "converted"),
    [
        ({}, 0),
        ({"images": faces(3).reshape(3, -1)}, 0),
        ({"images": faces(3)[..., None]}, 0),
        ({"images": faces(3).astype(np.float64)}, 0),
        ({"images": faces(3).astype(np.int64)}, 0),
        ({"images": np.stack([faces(3)] * 3, axis=-1)}, 3),
        ({"usage": np.array([0, 1, 2])}, 0),
        ({"labels": np.array(["Anger", "happy", "6"])}, 0),
        ({"labels": np.array([0.0, 3.0, 6.0])}, 0),
    ],
)
def test_npz_shapes_and_types(tmp_path: Path, changed: dict, converted: int) -> None:
    rows = read_npz(write_npz(tmp_path / "f.npz", **changed))
    assert rows.problems == []
    assert rows.converted == converted
    assert np.array_equal(rows.images, faces(3))
    assert rows.labels.tolist() == [0, 3, 6]
    assert rows.usage.tolist() == [0, 1, 2]


def test_npz_resizes(tmp_path: Path) -> None:
    rows = read_npz(write_npz(tmp_path / "f.npz", images=np.full((3, 96, 64), 77, np.uint8)))
    assert rows.converted == 3
    assert rows.images.shape == (3, SIDE, SIDE)
    assert (rows.images == 77).all()


def test_npz_names_bad_rows(tmp_path: Path) -> None:
    images = faces(3).astype(np.int32)
    images[1, 5, 5] = 256
    rows = read_npz(write_npz(tmp_path / "f.npz", images=images, labels=np.array([7, 3, 6]), usage=np.array([0, 1, 3])))
    assert len(rows.images) == 0
    assert rows.problems[0].startswith("row 0: label '7'")
    assert rows.problems[1].startswith("row 1: levels between")
    assert rows.problems[2].startswith("row 2: unknown usage '3'")
    assert rows.left_out == {"Training": 1, "PublicTest": 1, "PrivateTest": 0, "unknown": 1}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"images": np.array([[1], "a"], dtype=object)}, "never loaded"),
        ({"images": faces(3) / 255}, "images \\* 255"),
        ({"images": faces(3) + np.nan}, "fractions"),
        ({"images": np.zeros((3, 5, 5, 4), np.uint8)}, "shape"),
        ({"images": np.zeros((3, 0, 48), np.uint8)}, "shape"),
        ({"images": np.array(["a", "b", "c"])}, "expected uint8"),
        ({"labels": np.array([1, 2])}, "as many of each"),
        ({"labels": np.eye(3)}, "expected \\[n\\]"),
    ],
)
def test_npz_refusals(tmp_path: Path, changed: dict, reason: str) -> None:
    with pytest.raises(BadData, match=reason):
        read_npz(write_npz(tmp_path / "f.npz", **changed))


def test_npz_broken_or_incomplete(tmp_path: Path) -> None:
    (tmp_path / "f.npz").write_bytes(write_npz(tmp_path / "g.npz").read_bytes()[:3000])
    with pytest.raises(BadData, match="not an npz archive"):
        read_npz(tmp_path / "f.npz")
    np.savez(tmp_path / "f.npz", images=faces(1), label=np.array([1]), usage=np.array([1]))
    with pytest.raises(
        UsageError, match=r"no array 'labels'; it holds images, label, usage.*mean 'label' to be 'labels'"
    ):
        read_npz(tmp_path / "f.npz")
    np.savez(tmp_path / "f.npz", images=faces(1), labels=np.array([1]))
    with pytest.raises(
        UsageError, match=r"no array 'usage'; it holds images, labels\. Expected images, labels, usage\."
    ):
        read_npz(tmp_path / "f.npz")


def with_entries(content: bytes, change: Callable[[bytearray, int, int], None]) -> bytes:
    """A zip archive with ``change(bytes, flags at, method at)`` done to both headers of every member."""
    changed = bytearray(content)
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(mark)
        while at >= 0:
            change(changed, at + flags, at + flags + 2)
            at = content.find(mark, at + 4)
    return bytes(changed)


def encrypted(content: bytes) -> bytes:
    def change(data: bytearray, flags: int, method: int) -> None:
        data[flags] |= 1

    return with_entries(content, change)


def unknown_compression(content: bytes) -> bytes:
    def change(data: bytearray, flags: int, method: int) -> None:
        data[method : method + 2] = (77).to_bytes(2, "little")

    return with_entries(content, change)


def broken_stream(content: bytes) -> bytes:
    """The first member claims a deflate block of a type that does not exist."""
    name, extra = (int.from_bytes(content[at : at + 2], "little") for at in (26, 28))
    start = 30 + name + extra
    return content[:start] + b"\xff" + content[start + 1 :]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [(encrypted, "encrypted"), (unknown_compression, "compression"), (broken_stream, "invalid block type")],
)
def test_npz_that_cannot_be_unpacked_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes], reason: str) -> None:
    np.savez_compressed(tmp_path / "good.npz", images=faces(3), labels=np.array([0, 3, 6]), usage=np.array(OFFICIAL))
    (tmp_path / "f.npz").write_bytes(damage((tmp_path / "good.npz").read_bytes()))
    with pytest.raises(BadData, match=f"not an npz archive, or a damaged one.*{reason}"):
        read_npz(tmp_path / "f.npz")


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (b"0,3,6", "labels: not stored as a numpy array"),
        (b"", "labels: not stored as a numpy array|damaged"),
        (b"\x93NUMPY\x01\x00\x10\x00{'descr': (((   \n", "damaged"),
        (b"\x93NUMPY\x01\x00", "damaged"),
    ],
)
def test_npz_whose_member_is_no_array_is_refused(tmp_path: Path, member: bytes, reason: str) -> None:
    np.savez(tmp_path / "f.npz", images=faces(3), usage=np.array(OFFICIAL))
    with zipfile.ZipFile(tmp_path / "f.npz", "a") as archive:
        archive.writestr("labels.npy", member)
    with pytest.raises(BadData, match=reason):
        read_npz(tmp_path / "f.npz")


def test_npz_that_declares_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**17,)})
    np.savez(tmp_path / "f.npz", labels=np.array([0, 3, 6]), usage=np.array(OFFICIAL))
    with zipfile.ZipFile(tmp_path / "f.npz", "a") as archive:
        archive.writestr("images.npy", header.getvalue())
    with pytest.raises(BadData, match="damaged"):
        read_npz(tmp_path / "f.npz")
