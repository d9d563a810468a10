"""Whatever a picture file is, the same face comes out of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ensemble_fer.app.pictures import read_faces
from ensemble_fer.data.importing import import_data, load_faces
from ensemble_fer.data.readers import middle_square
from ensemble_fer.errors import BadData, MissingError, UsageError
from ensemble_fer.store import Store
from tests.export.making import faces

FACE = faces(1)[0]
GRAY = Image.fromarray(FACE)
WIDE = np.tile(np.arange(80, dtype=np.uint8), (48, 1))


def with_orientation(picture: Image.Image, code: int, path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = code
    picture.save(path, exif=exif)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "I;16"])
def test_every_mode_without_loss_gives_the_pixels_themselves(mode: str, tmp_path: Path) -> None:
    picture = Image.fromarray(FACE.astype(np.uint16) << 8) if mode == "I;16" else GRAY.convert(mode)
    assert picture.mode == mode
    picture.save(tmp_path / "face.png")
    (found,) = read_faces([tmp_path / "face.png"])
    np.testing.assert_array_equal(found.pixels[0], FACE)
    assert found.boxes[0] == (0, 0, 48, 48)
    assert found.pixels[0].dtype == np.uint8


def test_modes_with_loss_stay_close(tmp_path: Path) -> None:
    GRAY.convert("CMYK").save(tmp_path / "cmyk.tif")
    GRAY.save(tmp_path / "face.jpg", quality=95)
    for found in read_faces([tmp_path / "cmyk.tif", tmp_path / "face.jpg"]):
        assert np.abs(found.pixels[0].astype(int) - FACE).mean() < 4
    GRAY.point(lambda v: 255 * (v > 127)).convert("1").save(tmp_path / "bits.png")
    (bits,) = read_faces([tmp_path / "bits.png"])
    np.testing.assert_array_equal(bits.pixels[0], np.where(FACE > 127, 255, 0))


def test_orientation_of_the_camera_is_followed(tmp_path: Path) -> None:
    tall = Image.fromarray(np.concatenate([FACE, np.zeros((20, 48), np.uint8)]))
    stored = tall.transpose(Image.Transpose.ROTATE_90)  # code 6: the viewer turns it by 90 degrees clockwise
    with_orientation(stored, 6, tmp_path / "turned.png")
    tall.save(tmp_path / "upright.png")
    turned, upright = read_faces([tmp_path / "turned.png", tmp_path / "upright.png"])
    np.testing.assert_array_equal(turned.pixels[0], upright.pixels[0])
    assert turned.boxes[0] == upright.boxes[0] == (0, 10, 48, 58)


def test_middle_is_cut_out_and_made_small_with_antialiasing(tmp_path: Path) -> None:
    Image.fromarray(WIDE).save(tmp_path / "wide.png")
    (found,) = read_faces([tmp_path / "wide.png"])
    assert found.boxes[0] == (16, 0, 64, 48)
    np.testing.assert_array_equal(found.pixels[0], WIDE[:, 16:64])
    # Stripes of one pixel become their mean; picking single pixels would give black or white.
    stripes = np.tile(np.array([0, 255], np.uint8), (960, 480))
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    (small,) = read_faces([tmp_path / "stripes.png"])
    assert np.abs(small.pixels[0].astype(int) - 127).max() <= 6


@pytest.mark.parametrize(
    ("size", "box"), [((1, 1), (0, 0, 1, 1)), ((4096, 8), (2044, 0, 2052, 8)), ((7, 30), (0, 11, 7, 18))]
)
def test_odd_sizes_work(size: tuple[int, int], box: tuple[int, ...], tmp_path: Path) -> None:
    Image.new("RGB", size, (90, 90, 90)).save(tmp_path / "odd.png")
    (found,) = read_faces([tmp_path / "odd.png"])
    assert found.boxes[0] == box
    np.testing.assert_array_equal(found.pixels[0], np.full((48, 48), 90))


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_middle_square_is_the_largest_and_in_the_middle(width: int, height: int) -> None:
    x0, y0, x1, y1 = middle_square(width, height)
    assert x1 - x0 == y1 - y0 == min(width, height)
    assert 0 <= x0 <= x1 <= width
    assert 0 <= y0 <= y1 <= height
    assert 0 <= (width - x1) - x0 <= 1
    assert 0 <= (height - y1) - y0 <= 1


@pytest.mark.parametrize("size", [(101, 64), (64, 101), (97, 96), (5, 4), (300, 48)])
def test_the_same_pixels_as_data_import(size: tuple[int, int], tmp_path: Path, store: Store) -> None:
    """Odd differences of the sides too: half a pixel beside would be another face."""
    path = tmp_path / "set/train/happy/face.png"
    path.parent.mkdir(parents=True)
    levels = np.random.default_rng(1).integers(0, 256, size, dtype=np.uint8)
    Image.fromarray(levels).save(path)
    imported = load_faces(import_data(store, tmp_path / "set", quiet=True)).images[0]
    (found,) = read_faces([path])
    np.testing.assert_array_equal(found.pixels[0], imported)
    # And what the example in docs/fusing.md does.
    picture = Image.open(path).convert("L").crop(found.boxes[0])
    np.testing.assert_array_equal(found.pixels[0], np.asarray(picture.resize((48, 48), Image.Resampling.BILINEAR)))


def test_what_is_transparent_is_seen_on_white(tmp_path: Path) -> None:
    half = np.repeat(np.array([0, 128, 255], np.uint8), 16)[None].repeat(48, 0)
    expected = np.rint(FACE * (half / 255) + 255 * (1 - half / 255))
    alpha = Image.fromarray(half)
    for mode in ("LA", "RGBA"):
        picture = GRAY.convert(mode)
        picture.putalpha(alpha)
        picture.save(tmp_path / f"{mode}.png")
    for found in read_faces([tmp_path / "LA.png", tmp_path / "RGBA.png"]):
        assert np.abs(found.pixels[0] - expected).max() <= 1
        np.testing.assert_array_equal(found.pixels[0][:, :16], 255)
        np.testing.assert_array_equal(found.pixels[0][:, 32:], FACE[:, 32:])
    # One gray level that the file declares transparent.
    GRAY.save(tmp_path / "key.png", transparency=int(FACE[0, 0]))
    (keyed,) = read_faces([tmp_path / "key.png"])
    np.testing.assert_array_equal(keyed.pixels[0], np.where(FACE[0, 0] == FACE, 255, FACE))


@pytest.mark.parametrize(("scale", "reason"), [(1 / 255, None), (1, None), (257, "0 to 1 or 0 to 255"), (-1, "0 to 1")])
def test_floating_point_levels(scale: float, reason: str | None, tmp_path: Path) -> None:
    Image.fromarray(FACE.astype(np.float32) * np.float32(scale)).save(tmp_path / "face.tif")
    if reason is None:
        np.testing.assert_array_equal(read_faces([tmp_path / "face.tif"])[0].pixels[0], FACE)
    else:
        with pytest.raises(BadData, match=reason):
            read_faces([tmp_path / "face.tif"])


def test_formats_that_are_not_claimed_are_refused(tmp_path: Path) -> None:
    for suffix in ("ico", "tga"):
        GRAY.save(tmp_path / f"face.{suffix}")
        with pytest.raises(BadData, match="not a picture"):
            read_faces([tmp_path / f"face.{suffix}"])


def test_all_missing_files_are_named_and_the_bad_ones_too(tmp_path: Path) -> None:
    GRAY.save(tmp_path / "good.png")
    (tmp_path / "text.jpg").write_text("not a picture at all")
    with pytest.raises(MissingError) as caught:
        read_faces([tmp_path / n for n in ("a.png", "good.png", "b.png", "text.jpg")])
    for part in ("2 of 4 picture files", "a.png: no such file", "b.png: no such file", "text.jpg: not a picture"):
        assert part in str(caught.value)
    assert caught.value.exit_code == 3


def test_all_bad_files_are_named_at_once(tmp_path: Path) -> None:
    GRAY.save(tmp_path / "good.png")
    (tmp_path / "text.jpg").write_text("not a picture at all")
    (tmp_path / "empty.png").touch()
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    # 144 million pixels in a file of some KB.
    Image.new("1", (12_000, 12_000)).save(tmp_path / "bomb.png")
    paths = [tmp_path / n for n in ("good.png", "text.jpg", "empty.png", "cut.png", "bomb.png")]
    with pytest.raises(BadData) as caught:
        read_faces(paths)
    reasons = ("not a picture", "empty", "broken picture", "more than 64,000,000 pixels")
    assert len(caught.value.problems) == 4
    for line, path, reason in zip(caught.value.problems, paths[1:], reasons, strict=True):
        assert line.startswith(f"{path}: ")
        assert reason in line
    assert "5 picture files" in str(caught.value)
    assert "Nothing was predicted" in str(caught.value)


def test_a_folder_is_refused_with_what_to_write(tmp_path: Path) -> None:
    GRAY.save(tmp_path / "good.png")
    with pytest.raises(UsageError, match=r"is a folder; expected picture files.*/\*\.jpg"):
        read_faces([tmp_path / "good.png", tmp_path])
