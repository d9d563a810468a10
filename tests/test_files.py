"""Arrays on disk."""

from __future__ import annotations

import os
import stat
import zipfile

import numpy as np
import pytest

from ensemble_fer.errors import StoreError, UsageError
from ensemble_fer.files import check_outputs, load_arrays, partial_file, save_arrays, write_atomic


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


def packed(path, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


def header_of(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


WHOLE = header_of("{'descr': '<f8', 'fortran_order': False, 'shape': (5,)}") + bytes(40)
BROKEN = {
    "objects": WHOLE.replace(b"<f8", b"|O "),
    "text": b"no array",
    "short": WHOLE[:-3],
    "long": WHOLE + bytes(10**6),
    "newer": WHOLE[:6] + b"\x09" + WHOLE[7:],
    "negative": WHOLE.replace(b"(5,)", b"(-1,)"),
    "endless": header_of("{'descr': '<f8', 'fortran_order': False, 'shape': (2**99,)}"),
    "huge": header_of("{'descr': '<f8', 'fortran_order': False, 'shape': (" + "9" * 40 + ",)}"),
    "no header": header_of("{((("),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_array_of_numbers_is_refused(tmp_path, kind):
    packed(tmp_path / "a.npz", w=WHOLE, x=BROKEN[kind])
    with pytest.raises(StoreError, match=r"a\.npz: x\.npy is no array of numbers or text"):
        load_arrays(tmp_path / "a.npz")


def test_a_file_that_is_no_archive_or_has_a_name_twice_is_refused(tmp_path):
    (tmp_path / "a.npz").write_bytes(WHOLE)
    with pytest.raises(StoreError, match=r"a\.npz is no array"):
        load_arrays(tmp_path / "a.npz")
    packed(tmp_path / "a.npz", w=WHOLE)
    assert load_arrays(tmp_path / "a.npz")["w"].tolist() == [0.0] * 5
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("w.npy", WHOLE)
    with pytest.raises(StoreError, match=r"w\.npy is no array of numbers or text: its name comes twice"):
        load_arrays(tmp_path / "a.npz")


def test_a_partial_file_gets_its_name_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "out.csv"
    with partial_file(path) as partial:
        assert partial.suffix == ".csv"
        partial.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    with pytest.raises(OSError, match="full"), partial_file(path):
        raise OSError("disk full")
    assert path.read_text() == "whole"
    assert [file.name for file in path.parent.iterdir()] == ["out.csv"]
    with partial_file(None) as partial:
        assert partial is None


def test_what_a_link_points_to_is_written_and_the_link_stays(tmp_path):
    (tmp_path / "there").mkdir()
    link, target = tmp_path / "table.csv", tmp_path / "there" / "real.csv"
    link.symlink_to(target)  # to nothing yet
    for content in ("first", "second"):
        write_atomic(link, content)
        assert link.is_symlink()
        assert target.read_text() == content
    assert [path.name for path in target.parent.iterdir()] == ["real.csv"]
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    with pytest.raises(OSError, match="circle"):
        write_atomic(circle, "lost")
    assert circle.is_symlink()


def test_a_pipe_and_a_circle_of_links_are_refused_before_the_work(tmp_path):
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    with pytest.raises(UsageError, match="no file that can be replaced"):
        check_outputs([("--csv", circle)])
    reading, writing = os.pipe()
    try:
        with pytest.raises(UsageError, match="no file that can be replaced"):
            check_outputs([("--csv", f"/dev/fd/{writing}")])
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_who_may_read_a_file_stays_when_it_is_written_again(tmp_path, mode):
    path, pieces = tmp_path / "whole", tmp_path / "pieces"
    for each in (path, pieces):
        each.write_text("old")
        each.chmod(mode)
    write_atomic(path, "new")
    with partial_file(pieces) as place:
        place.write_text("new")
    for each in (path, pieces):
        assert each.read_text() == "new"
        assert stat.S_IMODE(each.stat().st_mode) == mode
