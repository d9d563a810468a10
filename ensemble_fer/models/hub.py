"""ImageNet weights from where timm has them: the cache folder first, then the network if it answers at once."""

from __future__ import annotations

import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from ensemble_fer.errors import MissingError, UsageError
from ensemble_fer.models.transfer import PREFIX, one_line, settings_of

NETWORKS = {
    "vgg16": "vgg16",
    "resnet50v2": "resnetv2_50",
    "xception": "legacy_xception",
    "mobilenetv3_large_100": "mobilenetv3_large_100",
    "efficientnet_b0": "efficientnet_b0",
    "resnet18": "resnet18",
    "vit_base_patch16_224": "vit_base_patch16_224",
}
"""The members of the table with ImageNet weights, and the network of timm whose weights these are."""
FILES = ("model.safetensors", "pytorch_model.bin")
SECONDS = 5
"""How long the hub may take to answer at all; the hub's own client tries for half a minute."""


def weights_from_hub(name: str) -> tuple[Path, str]:
    """File of the ImageNet weights of a model, and what they are called.

    Parameters
    ----------
    name : str
        A model's name, as ``models.build`` takes it.

    Raises
    ------
    UsageError
        The model has no weights on a hub.
    MissingError
        They are not in the cache, and the hub cannot be reached or does not give them.
    """
    network = name.removeprefix(PREFIX) if name.startswith(PREFIX) else NETWORKS.get(name)
    settings = settings_of(network) if network else {}
    repository, url = settings.get("hf_hub_id"), settings.get("url")
    if repository:
        repository = repository.partition("@")[0]
        if repository.endswith("/"):
            repository += f"{settings['architecture']}.{settings['tag']}"
        return _of_repository(repository, settings.get("hf_hub_filename")), repository
    if url:
        return _of_url(url), Path(urlsplit(url).path).name
    having = f"those that have: {', '.join(NETWORKS)}, and most of timm:NAME"
    raise UsageError(
        f"model {name!r} has no ImageNet weights on a hub. Give --weights FILE, or --weights none to train from "
        f"scratch ({having})."
    )


def _of_repository(repository: str, filename: str | None) -> Path:
    """A file of a repository of the Hugging Face hub."""
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    names = [filename] if filename else FILES
    for each in names:
        try:
            return Path(hf_hub_download(repository, each, local_files_only=True))
        except LocalEntryNotFoundError:
            continue
    where = f"the cache {constants.HF_HUB_CACHE}"
    if constants.HF_HUB_OFFLINE:
        raise _missing(repository, where, "HF_HUB_OFFLINE is set")
    _reach(repository, where, constants.ENDPOINT)
    reason = f"it has no file {' or '.join(names)}"
    for each in names:
        try:
            return Path(hf_hub_download(repository, each))
        except LocalEntryNotFoundError as error:
            raise _missing(repository, where, one_line(error)) from error
        except EntryNotFoundError:
            continue
        except Exception as error:  # whatever the network, the disk or the hub's client raises
            raise _missing(repository, where, one_line(error)) from error
    raise _missing(repository, where, reason)


def _of_url(url: str) -> Path:
    """A file that timm has outside of the hub, kept in torch's cache folder."""
    from torch.hub import HASH_REGEX, download_url_to_file, get_dir

    name = Path(urlsplit(url).path).name
    file = Path(get_dir()) / "checkpoints" / name
    if file.is_file():
        return file
    where = f"the cache {file.parent}"
    _reach(name, where, url)
    digest = HASH_REGEX.search(name)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        download_url_to_file(url, str(file), digest.group(1) if digest else None, progress=sys.stderr.isatty())
    except Exception as error:  # network, disk, or another digest
        raise _missing(name, where, one_line(error)) from error
    return file


def _reach(what: str, where: str, url: str) -> None:
    """MissingError unless the server answers anything at all within seconds."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=SECONDS):
            return
    except urllib.error.HTTPError:
        return
    except OSError as error:
        reason = getattr(error, "reason", error)
        if not isinstance(reason, ssl.SSLError):  # the hub's client has certificates of its own
            raise _missing(what, where, f"{urlsplit(url).netloc} cannot be reached: {reason}") from error


def _missing(what: str, where: str, reason: str) -> MissingError:
    return MissingError(
        f"the weights {what} are not in {where}, and cannot be had from the hub ({reason}). Two ways out:  "
        "--weights FILE  (a safetensors or torch file brought here), or  --weights none  (train from scratch)."
    )
