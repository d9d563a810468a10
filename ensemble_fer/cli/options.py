"""The options that mean the same on every command, written once."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ensemble_fer.store import Store

DEFAULT_STORE, STORE_VARIABLE = Path("artifacts"), "ENSEMBLE_FER_STORE"


def store_path(given: str | Path) -> Path:
    """The store's folder. What was given comes as text, the default as a path.

    An empty text would be the folder one stands in, and an empty variable the default: neither was meant.
    """
    empty = not os.environ.get(STORE_VARIABLE, "unset").strip() if isinstance(given, Path) else not given.strip()
    if empty:
        from ensemble_fer.errors import UsageError

        what = STORE_VARIABLE if isinstance(given, Path) else f"--store (or {STORE_VARIABLE})"
        raise UsageError(f"{what} is empty; expected a folder, e.g. {DEFAULT_STORE}.")
    return Path(given)


StoreOption = Annotated[
    Path,
    typer.Option(
        "--store",
        envvar=STORE_VARIABLE,
        help="Folder of everything that is made.",
        metavar="PATH",
        parser=store_path,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout instead of a table.")]
EnsembleOption = Annotated[
    str | None,
    typer.Option("--ensemble", help="An ensemble of the store, by name or id: the shipped one.", metavar="NAME"),
]
GraphOption = Annotated[
    Path | None, typer.Option("--graph", help="An ONNX file made by fuse or export, instead.", metavar="ONNX")
]
ThresholdOption = Annotated[
    float | None,
    typer.Option("--threshold", help="Abstain below this probability: 0.5 if calibrated, else 0.", metavar="P"),
]
StorageOption = Annotated[
    str | None,
    typer.Option(
        "--storage",
        help="A database for several machines, e.g. postgresql://USER:PASSWORD@HOST/DATABASE: a file in the store.",
        metavar="URL",
    ),
]
ProcessesOption = Annotated[
    int,
    typer.Option(
        "--processes",
        min=1,
        help="So many train it together, each with a share of every batch, or a GPU of its own.",
        metavar="N",
    ),
]
GraphThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, help="Processor threads: all there are.", metavar="N")
]
DataOption = Annotated[
    str | None,
    typer.Option(
        "--data", help="Data set by name or id: fer2013 if imported, else the only one imported.", metavar="NAME"
    ),
]
SplitOption = Annotated[
    str,
    typer.Option(
        "--split",
        help="official, official-clean, official-swapped, stratified:0.8,0.1,0.1 or kfold:5:0.",
        metavar="NAME",
    ),
]
MOST_SEED = 2**32 - 1
"""numpy and scikit-learn take no larger one."""
SeedOption = Annotated[
    int, typer.Option("--seed", min=0, max=MOST_SEED, help="The same seed gives the same result.", metavar="N")
]
DeviceOption = Annotated[
    str,
    typer.Option(
        "--device", help="auto, cpu, cuda, cuda:N or mps; auto takes a GPU where torch finds one.", metavar="NAME"
    ),
]
# Of work that Apple's GPUs cannot do.
CpuOrCudaOption = Annotated[
    str,
    typer.Option(
        "--device", help="auto, cpu, cuda or cuda:N; auto takes a CUDA GPU where torch finds one.", metavar="NAME"
    ),
]


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


def writable(path: Path) -> bool:
    """Whether files can be made in the folder, or the folder itself, without making either."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path.is_dir() and os.access(path, os.W_OK | os.X_OK)


def check_written(store: Path, outputs: Iterable[tuple[str, Path | None]], inputs: Iterable[str | Path] = ()) -> None:
    """Raise unless what a command was asked for can be written: over nothing it reads, and nothing a store keeps.

    All commands with such an option ask here, before the work.
    """
    from ensemble_fer.files import check_outputs
    from ensemble_fer.store import Store

    check_outputs(outputs, inputs, Store(store).own_places)


def check_png(option: str, path: Path, store: Path, inputs: Iterable[str | Path] = ()) -> Path:
    """The path itself if a PNG can be written there, see ``check_written``."""
    from ensemble_fer.errors import UsageError

    if path.is_dir():
        raise UsageError(f"{option} {path} is a folder; expected the name of a PNG in it, e.g. {path / 'figure.png'}")
    if path.suffix.lower() != ".png":
        raise UsageError(f"{option} {path}: what is written is a PNG; expected a name that ends in .png")
    if not writable(path.parent) or (path.exists() and not os.access(path, os.W_OK)):
        raise UsageError(f"{option} {path} cannot be written: expected a folder to write to. Choose another place.")
    check_written(store, [(option, path)], inputs)
    return path
