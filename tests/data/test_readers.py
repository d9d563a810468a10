"""csv files and folders, and every way a row can be bad."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ensemble_fer.data.csv_reader import BadLine, Header, parse_line, read_csv
from ensemble_fer.data.folders import read_folders
from ensemble_fer.data.labels import class_advice, class_code, eighth_class, folder_usage
from ensemble_fer.data.readers import SIDE
from ensemble_fer.errors import BadData
from ensemble_fer.types import CLASSES, OFFICIAL
from tests.data.pictures import csv_line, faces, save, write_csv

HEADER = Header(emotion=0, pixels=1, usage=2, columns=3)


# -- csv ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "order"),
    [
        ("emotion,pixels,Usage", "lpu"),
        ("emotion, Usage, pixels", "lup"),
        (" Usage ,EMOTION,  Pixels", "ulp"),
        ('"emotion","pixels","Usage"', "lpu"),
    ],
)
def test_csv_columns_in_any_order(tmp_path: Path, header: str, order: str) -> None:
    images = faces(3)
    lines = []
    for code, image in enumerate(images):
        cells = {"l": str(code), "u": OFFICIAL[code], "p": " ".join(map(str, image.reshape(-1).tolist()))}
        lines.append(",".join(cells[c] for c in order))
    rows = read_csv(write_csv(tmp_path / "f.csv", lines, header), quiet=True)
    assert rows.problems == []
    assert np.array_equal(rows.images, images)
    assert rows.labels.tolist() == [0, 1, 2]
    assert rows.usage.tolist() == [0, 1, 2]


def test_csv_accepts_bom_crlf_quotes_blank_lines_and_no_last_newline(tmp_path: Path) -> None:
    images = faces(3)
    quoted = [f'"{line.split(",")[0]}","{line.split(",")[1]}","Training"' for line in map(csv_line, images[1:])]
    text = "\r\n".join(["emotion,pixels,Usage", csv_line(images[0]), "", *quoted])
    path = tmp_path / "f.csv"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    rows = read_csv(path, quiet=True)
    assert rows.problems == []
    assert np.array_equal(rows.images, images)


@pytest.mark.parametrize("start", [b"\n", b"\r\n \n\n", b"\xef\xbb\xbf\n", b"\n\xef\xbb\xbf"])
def test_csv_may_begin_with_empty_lines_and_still_counts_them(tmp_path: Path, start: bytes) -> None:
    good = csv_line(faces(1)[0])
    body = f"emotion,pixels,Usage\n{good}\n9{good[1:]}\n".encode()
    (tmp_path / "f.csv").write_bytes(start + body)
    rows = read_csv(tmp_path / "f.csv", quiet=True)
    assert np.array_equal(rows.images, faces(1))
    (problem,) = rows.problems
    assert problem.startswith(f"line {start.count(10) + 3}: label '9'")
    (tmp_path / "f.csv").write_bytes(start + b"emotion,pixels\n")
    with pytest.raises(BadData, match=f"line {start.count(10) + 1}: the header"):
        read_csv(tmp_path / "f.csv", quiet=True)
    (tmp_path / "f.csv").write_bytes(start)
    with pytest.raises(BadData, match="the file is empty"):
        read_csv(tmp_path / "f.csv", quiet=True)


def test_csv_names_every_bad_line_with_its_reason(tmp_path: Path) -> None:
    good = csv_line(faces(1)[0])
    pixels = good.split(",")[1]
    short = " ".join(pixels.split()[:-1])
    first = pixels.split(" ", 1)[1]
    cases = {
        f"3,{short},Training": ["2,303 pixels"],
        f"3,{pixels} 7,Training": ["2,305 pixels"],
        f"3,256 {first},Training": ["pixel 0", "'256'"],
        f"3,-1 {first},Training": ["pixel 0", "'-1'"],
        f"3,1.5 {first},Training": ["pixel 0", "'1.5'"],
        f"3,abc {first},Training": ["pixel 0", "'abc'"],
        f"3,{'9' * 5000} {first},Training": ["pixel 0"],
        f"7,{pixels},Training": ["label '7'"],
        f",{pixels},Training": ["label ''"],
        f"happi,{pixels},Training": ["did you mean 'happy'"],
        f"3,{pixels},Train": ["unknown usage 'Train'"],
        f"8,{short},Nowhere": ["label '8'", "usage 'Nowhere'", "2,303 pixels"],
        good[:4000]: ["truncated", "2 of 3 columns"],
        good + ",1": ["4 of 3 columns"],
        good[:100] + "\0\0" + good[102:]: ["2 NUL bytes"],
        "\ufeff" + good: ["byte-order mark"],
        "x" * (1 << 20): ["longer than"],
        "emotion,pixels,Usage": ["label 'emotion'"],
    }
    lines = [line for case in cases for line in (good, case)]
    rows = read_csv(write_csv(tmp_path / "f.csv", lines), quiet=True)
    assert len(rows.images) == len(cases)
    assert len(rows.problems) == len(cases)
    # Unknown: a usage that is none (2), cut off (1), of a line too long to hold (1), of a header (1).
    assert rows.left_out == {"Training": 13, "PublicTest": 0, "PrivateTest": 0, "unknown": 5}
    for number, (problem, reasons) in enumerate(zip(rows.problems, cases.values(), strict=True)):
        assert problem.startswith(f"line {3 + 2 * number}: ")
        for reason in reasons:
            assert reason in problem
        assert len(problem) < 300


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"3,1 2 3,Training\n", "no header"),
        (b"emotion,pixels\n3,1\n", "no column usage"),
        (b"a,b,c\n", "no column emotion and no usage and no pixels"),
        (b"emotion,pixels,Usage,emotion\n", "emotion twice"),
        ("emotion,pixels,Usage\n".encode("utf-16"), "UTF-16"),
        (b"emotion,pixels,Usage\r3,1,Training\r", "CR alone"),
    ],
)
def test_csv_refuses_a_bad_header(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "f.csv").write_bytes(content)
    with pytest.raises(BadData, match=reason):
        read_csv(tmp_path / "f.csv", quiet=True)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(st.integers(0, 260).map(str), st.sampled_from(["", "007", "-3", "1e2", "٣", "0255", "a"])),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from([" ", "  ", "\t"]),
)
def test_csv_fast_path_reads_what_plain_python_reads(words: list[str], gap: str) -> None:
    """Whatever stands in the pixel cell, the reader agrees with split and int, and refuses what they refuse."""
    all_words = words + ["12"] * (SIDE * SIDE - len(words))
    cell = gap.join(all_words)
    values = [int(w) if w.isascii() and w.isdigit() else -1 for w in cell.split()]
    try:
        _, _, image = parse_line(f"3,{cell},Training\n".encode(), HEADER)
    except BadLine:
        assert len(values) != SIDE * SIDE or min(values) < 0 or max(values) > 255
    else:
        assert image.tolist() == values


# -- names ----------------------------------------------------------------------------------------


def test_class_spellings() -> None:
    for code, name in enumerate(CLASSES):
        for text in (name, name.upper(), f" {name.title()} ", str(code), f"{code}_{name}", f"{code}-{name}"):
            assert class_code(text) == code
    for text, name in {"Anger": "angry", "happiness": "happy", "Fearful": "fear", "SURPRISED": "surprise"}.items():
        assert class_code(text) == CLASSES.index(name)
    for text in ("7", "-1", "contempt", "", "3.5", "33"):
        assert class_code(text) is None
    assert [folder_usage(t) for t in ("Train", "valid", "PublicTest", "test", "happy")] == [0, 1, 1, 2, None]


# -- folders --------------------------------------------------------------------------------------


def test_folders_recover_usage_and_order_from_file_names(tmp_path: Path) -> None:
    images = faces(6)
    for path, image in zip(
        [
            "test/happiness/PrivateTest_2.png",
            "test/Anger/PrivateTest_10.png",
            "test/6/PublicTest_00007.png",
            "train/sadness/Training_0009.png",
            "train/fearful/Training_00010.png",
            "train/disgusted/photo.png",
        ],
        images,
        strict=True,
    ):
        save(tmp_path / path, image)
    for rubbish in (
        "train/Thumbs.db",
        "train/sadness/.DS_Store",
        ".hidden/happy/a.png",
        "README.md",
        "__MACOSX/x/a.png",
    ):
        (tmp_path / rubbish).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / rubbish).write_bytes(b"no picture")
    rows = read_folders(tmp_path, quiet=True)
    assert rows.problems == []
    assert rows.converted == 0
    assert rows.usage.tolist() == [0, 0, 0, 1, 2, 2]
    assert rows.labels.tolist() == [4, 2, 1, 6, 3, 0]
    assert np.array_equal(rows.images, images[[3, 4, 5, 2, 0, 1]])
    assert any("README.md" in note for note in rows.notes)


def test_folders_without_official_names(tmp_path: Path) -> None:
    for part in ("train", "validation", "Test"):
        save(tmp_path / "archive/images" / part / "happy/1.png", faces(1)[0])
    rows = read_folders(tmp_path, quiet=True)
    assert rows.usage.tolist() == [0, 1, 2]
    assert rows.notes == []
    (tmp_path / "archive/images/validation/happy/1.png").unlink()
    assert any("no PublicTest rows" in note for note in read_folders(tmp_path, quiet=True).notes)


def test_flat_class_folders_are_training(tmp_path: Path) -> None:
    for number, name in enumerate(("angry", "happy")):
        save(tmp_path / name / f"deeper/im{number}.png", faces(1)[0])
    save(tmp_path / "angry/im10.png", faces(1, 1)[0])
    save(tmp_path / "angry/im9.png", faces(1, 2)[0])
    rows = read_folders(tmp_path, quiet=True)
    assert rows.usage.tolist() == [0, 0, 0, 0]
    assert rows.labels.tolist() == [0, 0, 0, 3]
    assert np.array_equal(rows.images[1:3], np.stack([faces(1, 2)[0], faces(1, 1)[0]]))  # im9 before im10
    assert any("are Training" in note for note in rows.notes)


def test_folders_name_every_bad_file(tmp_path: Path) -> None:
    root, good = tmp_path / "set", faces(1)[0]
    save(root / "train/happy/ok.png", good)
    whole = save(tmp_path / "whole.jpg", np.kron(good, np.ones((8, 8), np.uint8))).read_bytes()
    bad = {
        "train/happy/text.png": b"this is text",
        "train/happy/empty.png": b"",
        "train/happy/cut.jpg": whole[: len(whole) // 2],
        "train/happy/list.csv": b"a,b",
        "train/lost.png": (root / "train/happy/ok.png").read_bytes(),
        "train/happi/a.png": b"x",
        "test/awe/a.png": b"x",
        "odd/happy/a.png": b"x",
    }
    for path, content in bad.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    Image.new("1", (20_000, 20_000)).save(root / "train/happy/bomb.png")
    (root / "train/happy/link.png").symlink_to(tmp_path / "whole.jpg")
    (root / "train/sad").symlink_to(root / "train/happy")
    rows = read_folders(root, quiet=True)
    assert np.array_equal(rows.images, good[None])
    listed = dict(problem.split(": ", 1) for problem in rows.problems)
    expected = {
        "train/happy/text.png": "not a picture",
        "train/happy/empty.png": "empty",
        "train/happy/cut.jpg": "broken picture",
        "train/happy/bomb.png": "64,000,000 pixels",
        "train/happy/link.png": "leads outside",
        "train/sad": "a link to a folder",
        "train/lost.png": "outside a class folder",
        "train/happi": "did you mean 'happy'",
        "test/awe": "'awe' is no class",
        "odd": "beside train and test",
    }
    assert listed.keys() == expected.keys()
    for place, reason in expected.items():
        assert reason in listed[place]
    assert rows.left_out == {"Training": 8, "PublicTest": 0, "PrivateTest": 1, "unknown": 1}
    assert any("1 other files passed over: train/happy/list.csv" in note for note in rows.notes)


def test_other_files_in_class_folders_are_passed_over_and_counted(tmp_path: Path) -> None:
    save(tmp_path / "train/happy/a.png", faces(1)[0])
    save(tmp_path / "train/awe/c.png", faces(1)[0])
    for path in ("note.txt", "train/note.txt", "train/happy/note.txt", "train/happy/deep/LICENSE", "train/joke/n.md"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("no picture")
    for path in ("train/happy/.DS_Store", "train/happy/Thumbs.db", "train/awe/n.txt"):
        (tmp_path / path).write_text("no picture")
    rows = read_folders(tmp_path, quiet=True)
    assert len(rows.images) == 1
    (problem,) = rows.problems
    assert problem.startswith("train/awe: folder of 1 pictures")
    assert rows.left_out["Training"] == 1
    (note,) = [note for note in rows.notes if "passed over" in note]
    assert note.startswith("6 other files passed over: ")


def test_an_eighth_class_is_dropped_and_counted(tmp_path: Path) -> None:
    image = faces(1)[0]
    save(tmp_path / "train/happy/a.png", image)
    for path in ("train/contempt/a.png", "train/contempt/deep/b.png", "test/7_Contempt/c.png"):
        save(tmp_path / path, image)
    (tmp_path / "train/contempt/note.txt").write_text("no picture")
    rows = read_folders(tmp_path, quiet=True)
    assert (len(rows.labels), rows.problems, rows.dropped) == (1, [], {"contempt": 3})
    assert rows.left_out == dict.fromkeys([*OFFICIAL, "unknown"], 0)
    lines = [csv_line(image), csv_line(image, "contempt"), "Contempt,1 2 3,Training"]
    rows = read_csv(write_csv(tmp_path / "f.csv", lines), quiet=True)
    assert (len(rows.labels), rows.problems, rows.dropped) == (1, [], {"contempt": 2})
    for text in ("7", "8_contemp", "contemptible"):
        assert eighth_class(text) is None
    assert "write names" in class_advice("7")


def test_class_folders_that_are_numbers_are_said_to_be_taken_as_fer2013s(tmp_path: Path) -> None:
    save(tmp_path / "train/3/a.png", faces(1)[0])
    save(tmp_path / "train/happy/7.png", faces(1)[0])
    (note,) = [note for note in read_folders(tmp_path, quiet=True).notes if "numbers" in note]
    assert "0 angry, 1 disgust" in note
    save(tmp_path / "named/happy/7.png", faces(1)[0])
    assert not [note for note in read_folders(tmp_path / "named", quiet=True).notes if "numbers" in note]


def test_pictures_of_other_sizes_and_modes_are_converted_and_counted(tmp_path: Path) -> None:
    face = np.repeat(np.repeat(faces(1)[0][:24, :24], 2, 0), 2, 1)
    folder = tmp_path / "train/happy"
    Image.fromarray(face).save(save(folder / "a.png", face))
    Image.fromarray(np.stack([face] * 3, axis=2)).save(folder / "b_rgb.png")
    Image.fromarray(face.astype(np.uint16) * 257).save(folder / "c_16bit.png")
    Image.fromarray(np.kron(face, np.ones((3, 3), np.uint8))).save(folder / "d_large.png")
    wide = np.zeros((SIDE, 2 * SIDE), np.uint8)
    wide[:, 24:72] = face
    Image.fromarray(wide).save(folder / "e_wide.png")
    turned = Image.Exif()
    turned[0x0112] = 6  # shown turned by a quarter clockwise
    Image.fromarray(np.ascontiguousarray(np.rot90(face))).save(folder / "f_turned.png", exif=turned)
    Image.fromarray(face).convert("P").save(folder / "g_palette.png")
    Image.fromarray(np.stack([face] * 3 + [face * 0 + 255], axis=2)).save(folder / "h_alpha.png")
    rows = read_folders(tmp_path, quiet=True)
    assert rows.problems == []
    assert rows.converted == 7
    for image in rows.images[[1, 2, 4, 5, 6, 7]]:
        assert np.array_equal(image, face)
    # Made smaller with antialiasing: the filter reaches one row of neighbours at most, so the middle of
    # each flat 2x2 block stays near its level, and the mean is kept.
    assert abs(rows.images[3].mean() - face.mean()) < 1
    assert np.corrcoef(rows.images[3].ravel(), face.ravel())[0, 1] > 0.95


def test_a_folder_without_classes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(BadData, match="expected train/<class>"):
        read_folders(tmp_path, quiet=True)
