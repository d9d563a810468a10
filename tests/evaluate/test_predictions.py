"""Stored predictions come back exactly, and whatever is not predictions is refused in words."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ensemble_fer.errors import BadData, StoreError
from ensemble_fer.evaluate.predictions import load_predictions, load_protocol, save_predictions
from ensemble_fer.types import Protocol, Role
from tests.evaluate.examples import some_predictions

ARRAYS = ("logits", "labels", "rows", "groups", "twin_in_train")


def test_what_is_saved_comes_back_exactly(tmp_path: Path) -> None:
    protocol = Protocol("fer2013", "kfold:5:0", "select", "ros + smote", seed=None, looks=3, leaks=("before", "äöü"))
    p = some_predictions(300, protocol=protocol, role=Role.SELECT, source="0123456789ab")
    save_predictions(tmp_path / "p.npz", p)
    back = load_predictions(tmp_path / "p.npz")
    for key in ARRAYS:
        np.testing.assert_array_equal(getattr(back, key), getattr(p, key))
        assert getattr(back, key).dtype == getattr(p, key).dtype
    assert (back.role, back.source, back.protocol) == (Role.SELECT, "0123456789ab", protocol)
    assert load_protocol(tmp_path / "p.npz") == protocol


def test_a_stamp_from_before_a_field_was_added_is_read(tmp_path: Path) -> None:
    stamp = some_predictions(20).protocol.to_dict()
    del stamp["twins_in_select"]
    old = load_predictions(_written(tmp_path / "p.npz", protocol=np.array(json.dumps(stamp))))
    assert old.protocol.twins_in_select == 0


def test_a_test_part_takes_about_100_kb_and_equal_predictions_equal_bytes(tmp_path: Path) -> None:
    p = some_predictions(3589)
    for name in ("a.npz", "b.npz"):
        save_predictions(tmp_path / name, p)
    assert 80_000 < (tmp_path / "a.npz").stat().st_size < 130_000
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        assert not any(archive[key].dtype.hasobject for key in archive.files)


def _written(path: Path, **changes) -> Path:
    """A good file with some of its arrays changed, or taken out where None."""
    save_predictions(path, some_predictions(20))
    with np.load(path) as archive:
        arrays = {key: archive[key] for key in archive.files} | changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


GOOD = some_predictions(20)
NOT_FINITE = GOOD.logits.copy()
NOT_FINITE[3, 2] = np.inf
BAD_FILES = {
    "key missing": ({"groups": None}, StoreError, "lacks groups"),
    "float64 logits": ({"logits": GOOD.logits.astype(np.float64)}, BadData, "logits: expected float32, found float64"),
    "six classes": ({"logits": GOOD.logits[:, :6]}, BadData, r"expected shape \(20, 7\)"),
    "a row short": ({"labels": GOOD.labels[1:]}, BadData, "labels: expected shape"),
    "infinite": ({"logits": NOT_FINITE}, BadData, "1 of 20 rows are not finite"),
    "label 7": ({"labels": np.full(20, 7, np.uint8)}, BadData, "found 7"),
    "row twice": ({"rows": np.full(20, 5)}, BadData, "more than once"),
    "negative row": ({"rows": np.arange(-1, 19)}, BadData, "below 0"),
    "role unknown": ({"role": np.array("exam")}, BadData, "'exam'"),
    "role against stamp": ({"role": np.array("select")}, BadData, "protocol says 'test'"),
    "bytes as text": ({"source": np.array(b"abc")}, BadData, "source: expected one text"),
    "stamp no JSON": ({"protocol": np.array("{")}, BadData, "protocol"),
    "stamp a list": ({"protocol": np.array("[]")}, BadData, "protocol"),
    "stamp short": ({"protocol": np.array('{"data": "x"}')}, BadData, "protocol.*split"),
    "stamp with more": ({"protocol": np.array(json.dumps({"data": "", "sprit": ""}))}, BadData, "sprit"),
    "objects": ({"source": np.array(["x", 1], dtype=object)}, StoreError, r"it has shape \(2,\) of object"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_wrong_file_is_refused_with_the_reason(tmp_path: Path, case: str) -> None:
    changes, error, message = BAD_FILES[case]
    path = _written(tmp_path / "p.npz", **changes)
    with pytest.raises(error, match=message) as caught:
        load_predictions(path)
    assert "p.npz" in str(caught.value)


def test_torn_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    with pytest.raises(StoreError, match="no predictions file"):
        load_predictions(path)
    save_predictions(path, some_predictions(50))
    whole = path.read_bytes()
    torn = [whole[: len(whole) * part // 10] for part in range(10)]
    flipped = whole[:200] + bytes([whole[200] ^ 0xFF]) + whole[201:]
    for content in (*torn, flipped, b"emotion,pixels\n0,1 2 3\n"):
        path.write_bytes(content)
        with pytest.raises(StoreError, match=r"p\.npz"):
            load_predictions(path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(StoreError, match="not a whole npz"):
        load_predictions(path)


def test_nothing_is_written_that_could_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    save_predictions(path, GOOD)
    before = path.read_bytes()
    with pytest.raises(BadData, match="not finite"):
        save_predictions(path, replace(GOOD, logits=NOT_FINITE))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["p.npz"]


def test_members_that_are_encrypted_or_say_they_are_huge_are_refused(tmp_path: Path) -> None:
    save_predictions(tmp_path / "p.npz", some_predictions(3))
    content = bytearray((tmp_path / "p.npz").read_bytes())
    # The flag of an encrypted member, in its own header and in the directory at the end: found by a fuzzer.
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "encrypted.npz").write_bytes(content)
    with pytest.raises(StoreError, match=r"encrypted.*save_predictions"):
        load_predictions(tmp_path / "encrypted.npz")
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 7)})
    with (
        zipfile.ZipFile(tmp_path / "p.npz") as good,
        zipfile.ZipFile(tmp_path / "huge.npz", "w", zipfile.ZIP_DEFLATED) as out,
    ):
        for name in good.namelist():
            out.writestr(name, head.getvalue() if name == "logits.npy" else good.read(name))
    with pytest.raises(StoreError, match=r"for shape \(1000000000000, 7\)"):
        load_predictions(tmp_path / "huge.npz")
