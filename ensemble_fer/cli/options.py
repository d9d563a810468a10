"""The options that mean the same on every command, written once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ensemble_fer.store import Store

StoreOption = Annotated[
    Path,
    typer.Option("--store", envvar="ENSEMBLE_FER_STORE", help="Folder of everything that is made.", metavar="PATH"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout instead of a table.")]
DataOption = Annotated[
    str | None,
    typer.Option("--data", help="Data set by name or id: fer2013 if imported, else the only one.", metavar="NAME"),
]
SplitOption = Annotated[
    str,
    typer.Option(
        "--split",
        help="official, official-clean, official-swapped, stratified:0.8,0.1,0.1 or kfold:5:0.",
        metavar="NAME",
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same result.", metavar="N")]
DeviceOption = Annotated[
    str,
    typer.Option(
        "--device", help="auto, cpu, cuda, cuda:N or mps; auto takes a GPU where torch finds one.", metavar="NAME"
    ),
]

DEFAULT_STORE = Path("artifacts")


def check_device(name: str) -> str:
    """The name itself if it can be a device; torch, which knows whether it is here, takes seconds to import."""
    from ensemble_fer.errors import unknown_name

    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise unknown_name("device", name, ["auto", "cpu", "cuda", "cuda:N", "mps"])
    return name


def bytes_of(text: str) -> int:
    """``600MB`` or ``1.5GB`` as a number of bytes."""
    from ensemble_fer.errors import UsageError

    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(MB|GB)", text.strip(), re.IGNORECASE)
    size = float(found[1]) * {"MB": 1e6, "GB": 1e9}[found[2].upper()] if found else 0.0
    if size < 50e6:
        raise UsageError(f"--memory {text!r}: expected a size of 50MB or more, such as 600MB or 1GB.")
    return int(size)


def open_store(path: Path) -> Store:
    """The store at the path. Imported here because the store needs numpy, and ``--help`` does not."""
    from ensemble_fer.errors import UsageError
    from ensemble_fer.store import Store

    if path.exists() and not path.is_dir():
        raise UsageError(f"--store {path} is a file; expected a folder (it is made if it does not exist).")
    return Store(path)
