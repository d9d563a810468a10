"""The layers of a recipe: defaults < the model's own < a TOML file < flags."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ensemble_fer.config.choices import defaults_of
from ensemble_fer.config.recipe import KEYS, Recipe
from ensemble_fer.config.toml import read_toml
from ensemble_fer.errors import MissingError, UsageError, brief, unknown_name


@dataclass(frozen=True)
class Setting:
    """One value of a resolved recipe and the layer that set it: default, model, grid, file or flag."""

    key: str
    value: Any
    source: str


def resolve(
    file: str | Path | None = None,
    settings: Iterable[str] = (),
    *,
    grid: Mapping[str, Any] | None = None,
    **flags: Any,
) -> list[Setting]:
    """Each setting with its source, from defaults < the model's defaults < a grid's < recipe file < flags.

    Parameters
    ----------
    file : path, optional
        A TOML file of ``Recipe`` keys.
    settings : iterable of str
        ``KEY=VALUE`` each, as ``--set`` takes them.
    grid : mapping, optional
        ``Recipe`` keys that all points of a published grid share.
    **flags
        ``Recipe`` keys; None means not given.

    Raises
    ------
    UsageError
        A key or value is unknown or of the wrong type, or a flag would change what the file says of who chose it.
    MissingError
        The file does not exist.
    """
    given = flags_of(settings, **flags)
    from_file = read_recipe(file) if file is not None else {}
    chosen_by = from_file.get("tuned")
    if chosen_by and given.get("tuned", chosen_by) != chosen_by:
        raise UsageError(
            f"{file} says who chose this recipe: tuned = {chosen_by!r}. The stamp of every score must say so too, and "
            "no flag can change it. Leave tuned out."
        )
    named = {**(grid or {}), **from_file, **given}
    layers = {
        "default": {f.name: f.default for f in fields(Recipe)},
        "model": defaults_of(named.get("model", Recipe.model)),
        "grid": grid or {},
        "file": from_file,
        "flag": given,
    }
    merged: dict[str, Setting] = {}
    for source, layer in layers.items():
        for key, value in layer.items():
            merged[key] = Setting(key, value, source)
    if merged["weights"].value == "none" and merged["frozen_stages"].source == "model":
        # What a model freezes by default are pretrained stages.
        merged["frozen_stages"] = Setting("frozen_stages", 0, "model")
    if merged["warmup_epochs"].source == "model" and merged["warmup_epochs"].value >= merged["epochs"].value:
        merged["warmup_epochs"] = Setting("warmup_epochs", 0.0, "model")
    return list(merged.values())


def resolve_recipe(
    file: str | Path | None = None,
    settings: Iterable[str] = (),
    *,
    grid: Mapping[str, Any] | None = None,
    **flags: Any,
) -> Recipe:
    """The recipe of ``resolve``, checked."""
    return Recipe(**{setting.key: setting.value for setting in resolve(file, settings, grid=grid, **flags)})


def flags_of(settings: Iterable[str] = (), **flags: Any) -> dict[str, Any]:
    """The keys that ``KEY=VALUE`` texts and flags set, checked; a flag of None is not given.

    Raises
    ------
    UsageError
        An unknown key, a value of the wrong type, or a key that is given twice.
    """
    given = {key: value for key, value in flags.items() if value is not None}
    for text in settings:
        for key, value in parse_flag(text).items():
            if repr(given.setdefault(key, value)) != repr(value):
                raise UsageError(f"{key} is given twice, as {given[key]!r} and as {value!r}. Give it once.")
    return _check_keys(given, "flags")


def parse_flag(text: str) -> dict[str, Any]:
    """``KEY=VALUE`` as one key of a recipe; a value that is not TOML stands for itself as text.

    Raises
    ------
    UsageError
        No ``=``, an unknown key or a value of the wrong type.
    """
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals:
        raise UsageError(f"--set {text}: expected KEY=VALUE, for instance --set focal_gamma=1.5")
    if KEYS.get(key) is str:
        return {key: value.strip("\"'")}
    try:
        read = tomllib.loads(f"value = {value}")
    except (ValueError, RecursionError):
        read = {}
    return _check_keys({key: read["value"] if list(read) == ["value"] else value}, "--set")


def read_recipe(file: str | Path) -> dict[str, Any]:
    """The keys of a recipe file, their names and types checked."""
    try:
        content = read_toml(file)
    except FileNotFoundError as error:
        raise MissingError(f"there is no recipe file {file}. Write one with:  ensemble-fer config show") from error
    return _check_keys(content, str(file))


def _check_keys(content: dict[str, Any], where: str) -> dict[str, Any]:
    for key, value in content.items():
        if key not in KEYS:
            raise unknown_name(f"key in {where}", key, KEYS)
        kind = KEYS[key]
        if kind is float and type(value) is int and abs(value) < 2**53:
            content[key] = value = float(value)
        if type(value) is not kind or (kind is int and not -(2**63) <= value < 2**63):
            found = type(value).__name__ if type(value) is not kind else "one beyond 64 bits"
            raise UsageError(f"{key} = {brief(value)} in {where}: expected {kind.__name__}, found {found}.")
    return content
