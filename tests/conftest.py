"""What all tests share: a fresh store, and the real faces where they are on this machine."""

from __future__ import annotations

import os
import signal
from pathlib import Path

# Read when numpy and torch are first imported, here and in the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell lets what it begins with & ignore Ctrl-C, and all that is begun there; tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import numpy as np
import pytest

from ensemble_fer.store import Store
from ensemble_fer.types import OFFICIAL, FaceSet

REAL = Path(os.environ.get("ENSEMBLE_FER_REAL", Path(__file__).parents[2] / "shared/data/fer2013"))

LONG = (
    "study/test_smokes.py",
    "contracts/test_model_learning.py",
    "study/test_running.py",
    "train/test_together.py",
    "study/test_cluster.py",
    "contracts/test_model_export_timm.py",
    "study/test_mistakes.py",
    "test_package.py",
    "study/test_reporting.py",
    "neighbors/test_compiling.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of minutes first: one that begins last would leave the other process with nothing to do."""
    here = Path(__file__).parent
    place = {here / name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path, len(LONG)))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(scope="session")
def real_folder() -> Path:
    """Folder with export.py and one tall PNG a split."""
    if not (REAL / "Training.png").is_file():
        pytest.skip(f"the real FER2013 is not at {REAL} (set ENSEMBLE_FER_REAL)")
    return REAL


@pytest.fixture(scope="session")
def real_faces(real_folder: Path) -> FaceSet:
    """All 35,887 faces in the order Training, PublicTest, PrivateTest."""
    from PIL import Image

    images, labels, usage = [], [], []
    for code, split in enumerate(OFFICIAL):
        Image.MAX_IMAGE_PIXELS = None
        images.append(np.asarray(Image.open(real_folder / f"{split}.png")).reshape(-1, 48, 48))
        labels.append(np.loadtxt(real_folder / f"{split}.labels", dtype=np.uint8))
        usage.append(np.full(len(labels[-1]), code, np.uint8))
    return FaceSet(np.concatenate(images), np.concatenate(labels), np.concatenate(usage), "fer2013")
