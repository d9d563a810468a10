"""The training recipe: a strict TOML schema with layers, defaults < recipe file < flags.

An unknown key, an unknown value of a named choice, or a number out of range is an error that says
what was expected and names the near match.
"""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ensemble_fer.errors import MissingError, UsageError, unknown_name

MODELS = ("compact", "vggnet")
OPTIMIZERS = ("sgd", "nesterov", "adam", "adamw")
SCHEDULES = ("constant", "plateau", "cosine", "one_cycle")
AUGMENTATIONS = ("none", "khaireddin", "light", "strong")
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a member's weights, given the data.

    Parameters
    ----------
    model : str
        One of ``MODELS``.
    resampling : str
        ``none``, a resampling's name or id, or a method that ``resample`` knows.
    split : str
        Name of the split; see ``docs/protocol.md``. Its own seed is 0, so that members of several seeds share it.
    seed : int
        Decides the first weights, the order of rows, augmentation and dropout. 0 or more.
    epochs : int
        At most this many; 1 or more.
    epoch_rows : int
        Faces drawn for one epoch; 0 means as many as the training set has. Gives balanced sets of
        different size equal numbers of optimizer steps.
    patience : int
        Stop after this many epochs without a better macro-F1 on the select part; 0 never stops.
    batch_size : int
        2 or more.
    optimizer, schedule, augmentation : str
        One of ``OPTIMIZERS``, ``SCHEDULES``, ``AUGMENTATIONS``.
    learning_rate : float
        The highest one of the schedule; above 0.
    momentum : float
        For sgd and nesterov; 0 to below 1.
    weight_decay : float
        On weights with two or more dimensions; not on biases and batch norm. 0 or more.
    label_smoothing : float
        0 to below 1.
    dropout : float
        0 to below 1.
    precision : str
        ``auto`` trains in bfloat16 where the processor or GPU has it. Scores are always float32.
    """

    model: str = "compact"
    resampling: str = "none"
    split: str = "official"
    seed: int = 0
    epochs: int = 24
    epoch_rows: int = 0
    patience: int = 0
    batch_size: int = 128
    optimizer: str = "nesterov"
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "one_cycle"
    label_smoothing: float = 0.1
    dropout: float = 0.1
    augmentation: str = "light"
    precision: str = "auto"

    def __post_init__(self) -> None:
        for key, table in _CHOICES.items():
            if getattr(self, key) not in table:
                raise unknown_name(key, str(getattr(self, key)), table)
        for key, (low, high, text) in _RANGES.items():
            value = getattr(self, key)
            if not low <= value < high or value != value:
                raise UsageError(f"{key} = {value} is out of range; expected {text}.")

        if self.optimizer == "nesterov" and self.momentum == 0:
            raise UsageError("optimizer nesterov needs a momentum above 0. Set momentum, or take optimizer sgd.")

    def to_dict(self) -> dict:
        return asdict(self)

    def to_toml(self) -> str:
        """The recipe as TOML, every key written out."""
        return "".join(f"{key} = {_toml(value)}\n" for key, value in self.to_dict().items())


_CHOICES = {
    "model": MODELS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "augmentation": AUGMENTATIONS,
    "precision": PRECISIONS,
}
_INF = float("inf")
_RANGES: dict[str, tuple[float, float, str]] = {
    "seed": (0, 2**31, "0 to 2147483647"),
    "epochs": (1, 100_000, "1 or more"),
    "epoch_rows": (0, _INF, "0 (all rows) or more"),
    "patience": (0, _INF, "0 (never stop early) or more"),
    "batch_size": (2, 100_000, "2 or more"),
    "learning_rate": (1e-12, 1e6, "a number above 0"),
    "momentum": (0, 1, "0 to below 1"),
    "weight_decay": (0, _INF, "0 or more"),
    "label_smoothing": (0, 1, "0 to below 1"),
    "dropout": (0, 1, "0 to below 1"),
}

# What a model is trained with where nothing else is said. Khaireddin & Chen 2021 (arXiv 2105.03588)
# for vggnet: Nesterov at 0.01, falling by 0.75 after 5 epochs without gain, 1e-4 decay, 300 epochs.
MODEL_DEFAULTS: dict[str, dict[str, Any]] = {
    "compact": {},
    "vggnet": {
        "epochs": 300,
        "learning_rate": 0.01,
        "weight_decay": 1e-4,
        "schedule": "plateau",
        "label_smoothing": 0.0,
        "dropout": 0.2,
        "augmentation": "khaireddin",
        "batch_size": 64,
    },
}


@dataclass(frozen=True)
class Setting:
    """One value of a resolved recipe and the layer that set it: default, model, file or flag."""

    key: str
    value: Any
    source: str


def resolve(file: str | Path | None = None, **flags: Any) -> list[Setting]:
    """Each setting with its source, from defaults < the model's defaults < recipe file < flags.

    Parameters
    ----------
    file : path, optional
        A TOML file of ``Recipe`` keys.
    **flags
        ``Recipe`` keys; None means not given.

    Raises
    ------
    UsageError
        A key or value is unknown or of the wrong type.
    MissingError
        The file does not exist.
    """
    given = {key: value for key, value in flags.items() if value is not None}
    from_file = read_recipe(file) if file is not None else {}
    _check_keys(given, "flags")
    model = given.get("model", from_file.get("model", Recipe.model))
    layers = {
        "default": {f.name: f.default for f in fields(Recipe)},
        "model": MODEL_DEFAULTS.get(model, {}),
        "file": from_file,
        "flag": given,
    }
    merged: dict[str, Setting] = {}
    for source, layer in layers.items():
        for key, value in layer.items():
            merged[key] = Setting(key, value, source)
    return list(merged.values())


def resolve_recipe(file: str | Path | None = None, **flags: Any) -> Recipe:
    """The recipe of ``resolve``, checked."""
    return Recipe(**{setting.key: setting.value for setting in resolve(file, **flags)})


def read_recipe(file: str | Path) -> dict[str, Any]:
    """The keys of a recipe file, their names and types checked."""
    try:
        content = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingError(f"there is no recipe file {file}. Write one with:  ensemble-fer config show") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is not TOML: {error}.") from error
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.") from error
    return _check_keys(content, str(file))


def _check_keys(content: dict[str, Any], where: str) -> dict[str, Any]:
    known = {f.name: type(f.default) for f in fields(Recipe)}
    for key, value in content.items():
        if key not in known:
            raise unknown_name(f"key in {where}", key, known)
        kind = known[key]
        if kind is float and type(value) is int:
            content[key] = value = float(value)
        if type(value) is not kind:
            raise UsageError(f"{key} = {value!r} in {where}: expected {kind.__name__}, found {type(value).__name__}.")
    return content


def _toml(value: Any) -> str:
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return repr(value)
