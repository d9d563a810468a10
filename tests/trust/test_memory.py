"""Small files that would take gigabytes, or messages of megabytes, are refused with little of either."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ensemble_fer.config import resolve_recipe
from ensemble_fer.config.layers import parse_flag
from ensemble_fer.data.csv_reader import read_csv
from ensemble_fer.data.npz import read_npz
from ensemble_fer.data.predictions_csv import read_said
from ensemble_fer.data.readers import picture_limits, read_whole
from ensemble_fer.errors import BadData, EnsembleFerError, UsageError
from ensemble_fer.evaluate.predictions import load_predictions
from ensemble_fer.files import load_arrays
from ensemble_fer.models import build
from ensemble_fer.models.pretrained import start_weights
from ensemble_fer.study.reading import read_study
from tests.trust.campaign import within_memory


def test_a_hundred_thousand_members_are_refused_in_a_short_message(tmp_path: Path) -> None:
    path = tmp_path / "many.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(100_000):
            archive.writestr(f"\x1b[31m{number}.npy", b"")
    with within_memory():
        for read in (read_npz, load_arrays, load_predictions):
            with pytest.raises(EnsembleFerError) as refusal:
                read(path)
            assert len(str(refusal.value)) < 2000, read
            assert "\x1b" not in str(refusal.value), read


def test_what_is_packed_or_empty_takes_no_more_memory_than_its_file_lets_expect(tmp_path: Path) -> None:
    """Bombs within what a reader would take of a file that is as large as it says."""
    npz, csv, said = tmp_path / "a.npz", tmp_path / "a.csv", tmp_path / "b.csv"
    zeros = np.zeros((80_000, 48, 48), np.uint8)  # 184 MB in 180 KB
    np.savez_compressed(npz, images=zeros, labels=np.zeros(80_000, np.int64), usage=np.zeros(80_000, np.int64))
    del zeros
    with within_memory(150), pytest.raises(BadData, match="in a file of this size"):
        read_npz(npz)
    csv.write_bytes(b"emotion,pixels,Usage\n" + b"x\n" * 2_000_000)
    with within_memory(150), pytest.raises(BadData, match=r"(?s)bad rows.*and 99,002 more.*were not read") as refusal:
        read_csv(csv, quiet=True)
    assert len(str(refusal.value)) < 200_000
    said.write_bytes(b"angry,disgust,fear,happy,sad,surprise,neutral\n" + b"\n" * 20_000_000)
    with within_memory(50), pytest.raises(BadData, match="no line of numbers"):
        read_said(said)
    weights = tmp_path / "w.pt"
    torch.save({"a": torch.zeros(20_000_000)}, weights)
    with zipfile.ZipFile(weights) as whole, zipfile.ZipFile(tmp_path / "z.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in whole.infolist():
            packed.writestr(entry.filename, whole.read(entry))
    with within_memory(50), pytest.raises(UsageError, match="torch packs nothing"):
        start_weights(build("compact", 0.0), "compact", str(tmp_path / "z.pt"))


def test_the_largest_picture_that_is_taken_stays_within_memory(tmp_path: Path) -> None:
    """64 million pixels, seen through, lying on their side: nine copies of it would be two gigabytes."""
    path = tmp_path / "large.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGBA", (8000, 8000), (200, 10, 10, 128)).save(path, exif=exif, compress_level=1)
    with within_memory(), picture_limits():
        face, whole = read_whole(path)
    assert (whole.shape, face.pixels.shape) == ((8000, 8000, 3), (48, 48))
    assert whole[0, 0].tolist() == [227, 132, 132]


def test_toml_that_would_take_gigabytes_or_cannot_be_said_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.toml"
    huge = "0x" + "f" * 5000
    for content, reason in (
        (".".join("a" * 20_000) + " = 1", "a line of more than"),
        ("# a\n" * 50_000, "more than 100,000 bytes"),
        (f"epochs = {huge[:1900]}", "beyond 64 bits"),
        (f"epochs = [{{ a = {huge[:1900]} }}]", "beyond 64 bits"),
    ):
        path.write_text(content)
        with within_memory(200):
            for read in (resolve_recipe, read_study):
                with pytest.raises(UsageError, match=reason):
                    read(path)
    with pytest.raises(UsageError, match=r"epochs = an? .*too long to be written in --set: expected int"):
        parse_flag(f"epochs={huge}")
    grid = "[[stage]]\nname='a'\ngrid={seed=%s, epochs=%s, batch_size=%s}" % ((str(list(range(1, 21))),) * 3)
    path.write_text(f"title='t'\nasks='a'\n{grid}\n[scale.smoke]\ndata='drawn:9'\nseeds=[0]")
    with pytest.raises(UsageError, match="8,000 combinations"):
        read_study(path)
