"""The state of an unfinished training in one file: safetensors, its header holding the numbers as JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ensemble_fer.errors import StoreError
from ensemble_fer.files import write_atomic

FILE = "checkpoint.safetensors"


@dataclass
class State:
    """Where a training stands.

    Parameters
    ----------
    step : int
        Optimizer steps done.
    loss_sum, loss_steps : float, int
        Training loss summed over the steps of the epoch under way.
    history : list of dict
        One record an epoch: epoch, step, train_loss, learning_rate, and the select scores.
    best : dict of str to Tensor
        Weights of the epoch with the best select macro-F1 so far; empty before the first.
    best_epoch : int
        1-based; 0 before the first.
    best_logits : float32 [m, 7], optional
        What those weights say of the select part. In memory only: after a resumed training they may have to be computed
        again.
    average : dict of str to Tensor
        The moving average of the weights; empty where there is none.
    seconds : float
        Training time so far, over all sittings.
    made_with : dict
        threads, device and precision, on which the last bits depend.
    """

    step: int = 0
    loss_sum: float = 0.0
    loss_steps: int = 0
    history: list[dict] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    best_logits: NDArray[np.float32] | None = None
    average: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0
    made_with: dict = field(default_factory=dict)

    @property
    def scores(self) -> list[float]:
        """Select macro-F1 of each epoch so far; none where there is no select part."""
        return [record["macro_f1"] for record in self.history if "macro_f1" in record]


def save_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: State) -> None:
    """Replace the checkpoint in ``folder``, atomically."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"best.{k}": v for k, v in state.best.items()}
    tensors |= {f"average.{k}": v for k, v in state.average.items()}
    numbers: dict[str, Any] = {}
    for index, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{key}"] = value
            else:
                numbers[f"{index}.{key}"] = value
    plain = asdict(State(**{**vars(state), "best": {}, "best_logits": None, "average": {}}))
    tensors = apart(tensors)
    header = {"state": json.dumps(plain), "optimizer": json.dumps(numbers)}
    write_atomic(folder / FILE, save(tensors, {**header, "sha256": _digest(tensors, header)}))


def apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as safetensors takes them: on the CPU, contiguous, and none in the memory of another.

    A weight that a module has under two names is written under both, and loaded into the one weight twice.
    """
    out: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        if plain.untyped_storage().data_ptr() in taken:
            plain = plain.clone()
        taken.add(plain.untyped_storage().data_ptr())
        out[name] = plain
    return out


def load_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> State | None:
    """Bring model and optimizer to the checkpointed state; None where there is no checkpoint.

    Raises
    ------
    StoreError
        The file is not what was written, or belongs to another model.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        state = State(**json.loads(header["state"]))
        numbers = json.loads(header["optimizer"])
        if _digest(tensors, {key: header[key] for key in ("state", "optimizer")}) != header["sha256"]:
            raise ValueError("it is not what was written: its sha256 is another")
        model.load_state_dict(_under(tensors, "model."))
        state.best, state.average = _under(tensors, "best."), _under(tensors, "average.")
        slots: dict[int, dict[str, Any]] = {}
        for name, value in {**_under(tensors, "optimizer."), **numbers}.items():
            index, key = name.split(".", 1)
            slots.setdefault(int(index), {})[key] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": slots, "param_groups": groups})
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError, OSError) as error:
        raise StoreError(
            f"the checkpoint {path} cannot be resumed ({error}). Start over with --fresh, or remove {folder}."
        ) from error
    return state


def _digest(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> str:
    """Of all numbers, their names, kinds and shapes, and of the header."""
    sha = hashlib.sha256(json.dumps(sorted(header.items())).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        sha.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
