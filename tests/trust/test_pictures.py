"""Pictures of every kind, whole and broken: each becomes a face, or is refused with a reason, in bounded memory."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from ensemble_fer.data.readers import BadPicture, picture_limits, read_whole
from tests.trust.campaign import answered, cases, mutated, whole, within_memory

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")


def picture(rng: np.random.Generator) -> bytes:
    """A picture of some mode, size, format and number of frames."""
    while True:
        width, height = (int(value) for value in rng.integers(1, 200, 2))
        mode, kind = str(rng.choice(MODES)), str(rng.choice(FORMATS))
        frames = int(rng.integers(2, 5)) if kind in ("GIF", "TIFF", "WEBP") and rng.random() < 0.3 else 1
        drawn = []
        for _ in range(frames):
            levels = rng.integers(0, 256, (height, width), dtype=np.uint8)
            if mode in ("I;16", "I", "F"):
                kinds = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
                one = Image.fromarray((levels.astype(np.float64) * rng.choice([1, 257, 1e6])).clip(0, 65535 if mode == "I;16" else 2e9).astype(kinds[mode]))  # fmt: skip  # noqa: E501
            else:
                one = Image.fromarray(levels).convert("RGB" if mode in ("PA", "YCbCr") else mode)
                one = one.convert("P").convert(mode) if mode == "PA" else one.convert(mode)
            drawn.append(one)
        out = io.BytesIO()
        more = {"save_all": True, "append_images": drawn[1:]} if frames > 1 else {}
        if rng.random() < 0.2:
            exif = Image.Exif()
            exif[0x0112] = int(rng.integers(0, 12))
            more["exif"] = exif
        try:
            drawn[0].save(out, kind, **more)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # a mode that this format does not have
        return out.getvalue()


def bomb(rng: np.random.Generator) -> bytes:
    """A small file that declares a huge picture."""
    width, height = (int(value) for value in rng.choice([30_000, 100_000, 2**31 - 1], 2))

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, int(rng.choice([0, 2, 6])), 0, 0, 0)
    content = zlib.compress(bytes(1_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def test_pictures_become_faces_or_are_refused() -> None:
    """2,000: a third whole, a tenth bombs, the others broken."""
    faces = refused = 0
    with within_memory(), picture_limits():
        for number, rng in cases("pictures", 2000, quick=150):
            sound = rng.random() < 0.33
            content = picture(rng) if rng.random() < 0.9 else bomb(rng)
            bombed = content[16:24] > struct.pack(">II", 20_000, 0) and content[:4] == b"\x89PNG"
            if not sound:
                content = mutated(content, rng)
            found = answered(lambda content=content: read_whole(content), BadPicture)
            if found is None:
                refused += 1
                continue
            faces += 1
            assert not bombed or not sound, number
            face, shown = found
            assert face.pixels.shape == (48, 48), number
            assert face.pixels.dtype == shown.dtype == np.uint8
            x0, y0, x1, y1 = face.box
            assert 0 <= x0 < x1 <= shown.shape[1], number
            assert 0 <= y0 < y1 <= shown.shape[0], number
    if whole("pictures"):
        assert faces
        assert refused
