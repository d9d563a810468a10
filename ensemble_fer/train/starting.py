"""What a training starts from: the code of one's own network, a file of weights, or a run."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from ensemble_fer.config import Recipe
from ensemble_fer.data.derived import leaks_of
from ensemble_fer.errors import MissingError, SplitMisuse, UsageError
from ensemble_fer.files import UnfitFile, opened_file, read_file, sha256_of, write_atomic
from ensemble_fer.models import Member, build, custom
from ensemble_fer.models.paths import typed_path
from ensemble_fer.models.pretrained import MOST_BYTES, read_weights
from ensemble_fer.store import Artifact, Store
from ensemble_fer.train.loading import MODULE, WEIGHTS

COPY = "module"
"""Folder, in that of an unfinished training, of the file of a user's own architecture and nothing else."""


def new_member(recipe: Recipe, module: bytes | None, folder: Path) -> Member:
    """The member of a recipe with fresh weights.

    Parameters
    ----------
    recipe : Recipe
    module : bytes or None
        The file of a user's own architecture as it was when the training was prepared.
    folder : Path
        Of the unfinished training. What is built, and what is kept with the run, is the copy there: the file may be
        edited meanwhile, and what lies beside it will not be there when the run is scored.
    """
    if module is None:
        return build(recipe.model, recipe.dropout)
    shown, function = custom.split_name(recipe.model)
    copy = folder / COPY / MODULE
    write_atomic(copy, module)
    return custom.build(recipe.dropout, f"{copy}:{function}", shown=shown)


def code_of(recipe: Recipe, module: bytes | None, folder: Path) -> custom.Code | None:
    """The copy, in the folder of an unfinished training, of a user's own architecture; None for our own."""
    if module is None:
        return None
    return custom.Code(folder / COPY / MODULE, custom.split_name(recipe.model)[0])


def read_module(path: str | Path) -> bytes:
    """Content of the file of a user's own architecture that a recipe names; raises as ``digest_of_weights``."""
    with _typed(path, "module", "--model FILE.py:FUNCTION") as file:
        return read_file(file, custom.MOST_CODE)


def digest_of_weights(path: str | Path) -> str:
    """sha256 of a file of weights that a recipe names, of which no more than a piece is held at a time.

    Raises
    ------
    MissingError
        It cannot be read from here.
    UsageError
        It is no file on disk, or larger than any that is meant.
    """
    with _typed(path, "file of weights", "--weights FILE") as file:
        return sha256_of(file, MOST_BYTES)


@contextmanager
def _typed(path: str | Path, what: str, flag: str) -> Iterator[Path]:
    """A path that a recipe names; says why where the file cannot be read inside."""
    try:
        yield typed_path(path)
    except UnfitFile as error:
        raise UsageError(f"the {what} {path} cannot be read: {error.strerror}. Give another:  {flag}") from error
    except OSError as error:
        raise MissingError(
            f"the {what} {path} cannot be read from {Path.cwd()} ({error.strerror}). A recipe holds paths as they were "
            f"typed: go to the folder where it was written, or give the path as seen from here:  {flag}"
        ) from error


def run_of_weights(store: Store, file: Path, sha256: str) -> Artifact | None:
    """The run of this store whose kept weights a file holds, in whatever format, order, names and precision.

    Parameters
    ----------
    store : Store
    file : Path
    sha256 : str
        Of the file.

    Raises
    ------
    UsageError
        See ``read_weights``.
    """
    tensors = read_weights(file)
    runs = list(store.all("run"))
    for run in runs:
        if run.manifest["files"].get(WEIGHTS, {}).get("sha256") == sha256:
            return run
    floats = [tensor for tensor in tensors.values() if tensor.is_floating_point()]
    if not floats:
        return None
    # Halving the precision of a run's weights does not make them another's.
    precision = min((tensor.dtype for tensor in floats), key=lambda dtype: dtype.itemsize)
    precision = precision if precision.itemsize < torch.float32.itemsize else torch.float32
    shapes = frozenset(tuple(tensor.shape) for tensor in floats)
    digest = ""
    for run in runs:
        path = run.path / WEIGHTS
        if _shapes_of(path) == shapes:
            # Not before: of a large file of another network no number needs to be read.
            digest = digest or digest_of(tensors, precision)
            if _digest_of_file(path, precision) == digest:
                return run
    return None


def digest_of(tensors: Mapping[str, Tensor], precision: torch.dtype = torch.float32) -> str:
    """sha256 over shapes and values of all floating tensors, rounded to a precision.

    Names do not count, nor how often a tensor is there: a network is the same when its layers are called otherwise,
    and when a weight of two layers is written once.
    """
    each = set()
    for tensor in tensors.values():
        if tensor.is_floating_point():
            values = tensor.detach().to(precision).to(torch.float32).contiguous()
            digest = hashlib.sha256(struct.pack(f"<{values.ndim}q", *values.shape))
            digest.update(values.numpy().tobytes())
            each.add(digest.digest())
    return hashlib.sha256(b"".join(sorted(each))).hexdigest()


@lru_cache(maxsize=4096)
def _shapes_of(path: Path) -> frozenset[tuple[int, ...]]:
    """Shapes of the floating tensors of a run, which are cheaper to read than the tensors; none where it is damaged."""
    try:
        with opened_file(path, MOST_BYTES):  # safetensors would wait for a pipe
            pass
        with safe_open(path, framework="pt") as file:
            slices = [file.get_slice(key) for key in file.keys()]  # noqa: SIM118 - not a dict
            return frozenset(tuple(each.get_shape()) for each in slices if each.get_dtype().startswith(("F", "BF")))
    except (SafetensorError, OSError):
        return frozenset()


@lru_cache(maxsize=4096)
def _digest_of_file(path: Path, precision: torch.dtype) -> str:
    return digest_of(load_file(path), precision)


def start_of(
    store: Store, weights: str, spec: dict[str, Any], recipe: Recipe, data: Artifact, split: Artifact
) -> Artifact:
    """The run whose weights a recipe starts from; one that has seen no other rows than this training may."""
    run = store.get("run", weights.removeprefix("run:"))
    before = run.spec["recipe"]
    own = "model_sha256" in spec
    # A module of one's own is its code, wherever the file lies.
    if run.spec.get("model_sha256") != spec.get("model_sha256") or (not own and before["model"] != recipe.model):
        raise UsageError(
            f"run {run.id} is a {before['model']}, and this recipe trains a {recipe.model}"
            f"{' of another content' if own else ''}. Set model = {before['model']}, or other weights."
        )
    for what, wanted in (("data set", data), ("split", split)):
        # The leak simulator does this on purpose, on sets whose scores are all stamped.
        if wanted.id not in run.inputs and not leaks_of(store, data):
            raise SplitMisuse(
                f"run {run.id} was trained on another {what} than this training uses ({wanted.kind} {wanted.id}): "
                "its training rows may be test rows here. Start from a run of the same split."
            )
    if before.get("train_on", "train") != "train" and recipe.train_on == "train":
        raise SplitMisuse(
            f"run {run.id} was trained on the select part too, which cannot choose anything any more. "
            "Set train_on = train+select, or start from another run."
        )
    return run
