"""First weights from elsewhere: the hub that timm names, or a file. Nothing but tensors is read from a file."""

from __future__ import annotations

import sys
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ensemble_fer.errors import MissingError, UsageError
from ensemble_fer.files import UnfitFile, opened_file, sha256_of
from ensemble_fer.models.hub import weights_from_hub
from ensemble_fer.models.member import Member
from ensemble_fer.models.paths import typed_path
from ensemble_fer.models.transfer import one_line

WRAPPERS = ("state_dict", "model_state_dict", "model", "weights")
"""Under which key a torch file may hold the tensors, beside an optimizer and the like."""
PREFIXES = ("", "body.", "module.", "model.", "_orig_mod.")
"""Before all keys: of a run of this program, or of what other trainers wrap a network in."""
SHOWN = 3
MOST_BYTES = 4_000_000_000
"""Of a file of weights: twice what an ONNX file can hold, for what else trainers keep there. It is mapped into memory,
so that only the tensors that are taken from it are read."""
MOST_OLD = 800_000_000
"""Of a torch file of before 2020, which is read whole; the largest that torchvision gives have 600 MB."""
MOST_LISTED = 10_000_000
"""Bytes of the names, kinds and shapes; those of timm's largest networks have 200,000."""


@dataclass(frozen=True)
class Pretrained:
    """Where first weights came from.

    Parameters
    ----------
    text : str
        For the stamp: ``timm/resnet18.a1_in1k from the hub``, or ``file NAME sha256 0123456789ab, trained on rows
        unknown here``.
    digest : str
        sha256 of the weights file.
    """

    text: str
    digest: str


def start_weights(member: Member, name: str, weights: str) -> Pretrained:
    """Load first weights into a member, all but a classifier of another shape, which stays as it is.

    Parameters
    ----------
    member : Member
        Of ``models.build``; changed in place, or not at all where this fails.
    name : str
        The model's name, as ``build`` takes it.
    weights : str
        ``hub``: those that timm names for the network, from the hub's cache folder or over the network. Else a file:
        safetensors, or of torch and then read with ``weights_only``; of timm, torchvision, or a run of this program.

    Raises
    ------
    MissingError
        The file is not here; or the hub cannot be reached and its cache has no such weights.
    UsageError
        The model has no weights on a hub; or the file is no file of weights, or of another network, or its numbers
        are not finite.
    """
    file, source = weights_from_hub(name) if weights == "hub" else (weights_file(weights), "")
    tensors = read_weights(file)
    load_into(member, tensors, f"{source or file} for model {name}")
    digest = sha256_of(file)
    unknown = f"file {file.name} sha256 {digest[:12]}, trained on rows unknown here"
    return Pretrained(f"{source} from the hub" if source else unknown, digest)


def weights_file(text: str) -> Path:
    """The path of a file of weights as it was typed; whether it is there shows when it is read.

    Raises
    ------
    UsageError
        There is no path, or a folder.
    MissingError
        It begins with the home folder of nobody here.
    """
    expected = "Expected none, hub, run:NAME, or a safetensors or torch file"
    if not text.strip():
        raise UsageError(f"weights is {text!r}. {expected}.")
    file = typed_path(text)
    try:
        folder = file.is_dir()
    except OSError:  # what stands in the way is said when it is read
        folder = False
    if folder:
        raise UsageError(f"weights {text} is a folder. {expected}.")
    return file


def read_weights(file: Path) -> dict[str, Tensor]:
    """Tensors by name, of a safetensors file or a torch file; which of the two is seen from its first bytes.

    Raises
    ------
    MissingError
        There is no such file.
    UsageError
        It is neither, damaged, or holds more than plain tensors by name.
    """
    try:
        with opened_file(file, MOST_BYTES) as opened:
            start = opened.read(9)
    except UnfitFile as error:
        raise UsageError(f"the weights {file} cannot be read: {error.strerror}.") from error
    except OSError as error:
        raise MissingError(
            f"there are no weights {file} ({error.strerror}). Expected none, hub, run:NAME, or a safetensors or torch "
            "file."
        ) from error
    try:
        if start[8:9] == b"{":
            from safetensors.torch import load_file

            _check_header(file, int.from_bytes(start[:8], "little"))
            content = load_file(file)
        elif start[:2] == b"PK" or start[:1] == b"\x80":
            packed = start[:2] == b"PK"
            if packed:
                _check_packed(file)
            elif file.stat().st_size > MOST_OLD:
                raise UsageError(
                    f"{file} is a torch file of before 2020 of more than {MOST_OLD:,} bytes. Save it anew with torch."
                )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of how torch stores things, which is nobody's concern here
                content = torch.load(file, map_location="cpu", weights_only=True, mmap=packed)
        else:
            raise UsageError(f"{file} is neither a safetensors nor a torch file. Save the tensors as one of these.")
    except UsageError:
        raise
    except Exception as error:  # damaged files raise a dozen kinds
        if type(error).__name__ == "UnpicklingError":
            raise UsageError(
                f"{file} holds more than tensors, or is damaged. What could run code is not read: save "
                "module.state_dict(), best as safetensors."
            ) from error
        raise UsageError(f"{file} cannot be read, it seems damaged: {one_line(error)}. Copy it again.") from error
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not tensors or not all(isinstance(name, str) for name in tensors):
        raise UsageError(f"{file} holds no tensors by name; expected those of module.state_dict().")
    for name, tensor in tensors.items():
        if kind := _special(tensor):
            raise UsageError(f"{file}: {name} is a {kind} tensor. Save plain ones, which hold all of their numbers.")
    return tensors


def _check_header(file: Path, size: int) -> None:
    """Raise where more tensors are listed than any network has: each takes a kilobyte once it is read."""
    if size > MOST_LISTED:
        raise UsageError(f"{file} lists its tensors in {size:,} bytes; expected at most {MOST_LISTED:,}.")


def _check_packed(file: Path) -> None:
    """Raise unless a torch file is as large as what it holds: torch packs nothing, and what is packed may be a bomb.

    What is packed would also be taken for numbers as it lies there. What is no tensor is read whole, and has limits.
    """
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    held = sum(entry.file_size for entry in entries)
    _check_header(file, held - sum(e.file_size for e in entries if e.filename.partition("/")[2].startswith("data/")))
    if held > file.stat().st_size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise UsageError(
            f"{file} holds {held:,} bytes in {file.stat().st_size:,}, and torch packs nothing. Save it with torch.save."
        )


def _special(tensor: Tensor) -> str:
    """What a tensor is that holds its numbers otherwise than one after the other; nothing if it is plain."""
    if tensor.is_nested:
        return "nested"
    if tensor.is_meta:
        return "meta"
    if tensor.is_quantized:
        return "quantized"
    return "" if tensor.layout is torch.strided else "sparse"


def load_into(member: Member, tensors: Mapping[str, Tensor], what: str) -> int:
    """Copy tensors into a member's body by name; the head stays as it is where it is missing or of another shape.

    Parameters
    ----------
    what : str
        Names the weights in errors.

    Returns
    -------
    int
        How many tensors were copied.

    Raises
    ------
    UsageError
        Anything before the head is missing, of another shape, or more than the member has; or numbers are not finite,
        or of another kind than the member's. Nothing is copied then.
    """
    net = member.body
    fitting, problems = _fit(member, tensors)
    if problems and (converted := _converted(net, tensors)) is not None:
        fitting, still = _fit(member, converted)
        problems = still and problems
    if not fitting:
        raise UsageError(
            f"nothing in {what} fits: it holds {_some(tensors)}; expected {_some(net.state_dict())}. "
            "Give weights of the same network."
        )
    if problems:
        raise UsageError(
            f"{what}: {len(problems)} tensors do not fit, first {'; '.join(problems[:SHOWN])}. "
            "Give weights of the same network."
        )
    expected = net.state_dict()
    for name, tensor in fitting.items():
        if not name.endswith("num_batches_tracked") and (problem := _unfit(tensor, expected[name])):
            raise UsageError(f"{what}: {name} {problem}. Give the weights of a training that came to its end.")
    net.load_state_dict(fitting, strict=False)
    return len(fitting)


def _unfit(given: Tensor, expected: Tensor) -> str:
    """Why the numbers of a tensor cannot take the place of others of the same shape; nothing if they can."""
    if (given.is_floating_point(), given.is_complex()) != (expected.is_floating_point(), expected.is_complex()):
        return f"holds {given.dtype}, expected {expected.dtype}"
    if not given.is_floating_point():
        return ""
    try:
        wide = given.to(expected.dtype)
        # Where the network has infinite numbers itself, as in a mask, these may be too.
        wrong = ~wide.isfinite() & expected.isfinite()
        if not wrong.any():
            return ""
        infinite = (wrong & given.to(torch.float64).isfinite()).any()
    except RuntimeError:  # kinds of numbers that torch only stores
        return f"holds {given.dtype}, which cannot be made {expected.dtype}"
    if infinite:
        return f"holds numbers too large for {expected.dtype}"
    return f"holds {int(wrong.sum()):,} of {wrong.numel():,} numbers that are not finite"


def _fit(member: Member, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors that fit by the body's names, and what does not."""
    expected = member.body.state_dict()
    # Of the whole network, or of one part of the body, such as the convolutions under another head.
    parts = ("", *(f"{name}." for name, _ in member.body.named_children()))
    best: dict[str, str] = {}
    bare: dict[str, str] = {}
    for prefix in PREFIXES:
        without = {key: key.removeprefix(prefix) for key in tensors if key.startswith(prefix)}
        for part in parts:
            renamed = {part + name: key for key, name in without.items() if part + name in expected}
            if len(renamed) > len(best):
                best, bare = renamed, without
    fitting = {name: tensors[key] for name, key in best.items() if tensors[key].shape == expected[name].shape}
    head = {name.rpartition(".")[0] for name in member.stages[-1]}
    problems = []
    for name, tensor in expected.items():
        if name in fitting or name.rpartition(".")[0] in head or name.endswith("num_batches_tracked"):
            continue
        found = f"found {list(tensors[best[name]].shape)}" if name in best else "missing"
        problems.append(f"{name}: {found}, expected {list(tensor.shape)}")
    # What stands beside the parts of the body is another classifier; what is more within them, of a larger network.
    used = set(best.values())
    roots = {bare[best[name]].split(".")[0] for name in fitting if name.rpartition(".")[0] not in head}
    for key, name in bare.items():
        if key not in used and name.split(".")[0] in roots and not name.endswith("num_batches_tracked"):
            problems.append(f"{key}: found {list(tensors[key].shape)}, expected none")
    return fitting, problems


def _converted(net: nn.Module, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor] | None:
    """As timm's own reader of older or foreign files names them; None where it has none for this network."""
    home = type(net).__module__
    rename = getattr(sys.modules.get(home), "checkpoint_filter_fn", None) if home.startswith("timm.") else None
    if rename is None:
        return None
    try:
        return rename(dict(tensors), net)
    except Exception:  # it expects certain keys; then these are no weights of this network
        return None


def _some(tensors: Mapping[str, Tensor]) -> str:
    return ", ".join(list(tensors)[:SHOWN]) + (" …" if len(tensors) > SHOWN else "")
