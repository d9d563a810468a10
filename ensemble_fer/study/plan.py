"""What a study asks for: its file, at a scale, as the runs and ensembles it stands for. Nothing is computed here.

A study is a TOML file::

    title = "Which schedule?"
    asks = "One sentence: what is not known before."
    system = "C"                                # of the published figures that are set beside ours
    metric = "macro_f1"                         # by which a later stage takes the best of an earlier one

    [recipe]                                    # keys of Recipe, for every run
    model = "vggnet"

    [[stage]]                                   # every combination of the values in grid is an arm
    name = "schedules"
    recipe = { learning_rate = 0.01 }
    grid = { schedule = ["plateau", "cosine"] }

    [[stage]]
    name = "tuned"
    start = "best of schedules"                 # weights and recipe of the best arm, on the select part
    grid = { train_on = ["train", "train+select"] }

    [[stage]]
    name = "balanced"
    resample = [{ method = "none" }, { method = "hybrid", target = 3000 }]

    [[ensemble]]
    name = "pair"
    of = ["balanced/none", "balanced/hybrid-3000"]

    [scale.small]                               # and smoke, paper
    data = "fer2013"                            # or drawn:400, so many faces drawn by the program
    seeds = [0, 1, 2]
    recipe = { epochs = 3 }
    keep = { schedule = ["plateau"] }           # of a key's values; all others stay as they are
"""

from __future__ import annotations

import hashlib
import itertools
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ensemble_fer.config import Recipe
from ensemble_fer.errors import MissingError, UsageError, unknown_name

SCALES = ("smoke", "small", "paper")
BEST = "best of "
LONGEST = 80
"""Characters of a name in the store, without seed and fold."""
_TOP = {"title": str, "asks": str, "system": str, "metric": str, "recipe": dict, "stage": list, "ensemble": list,
        "scale": dict}  # fmt: skip
_STAGE = {"name": str, "start": str, "recipe": dict, "grid": dict, "resample": list, "scales": list}
_ENSEMBLE = {"name": str, "of": list, "rule": str, "calibrate": str, "tta": str}
_SCALE = {"data": str, "seeds": list, "folds": int, "recipe": dict, "keep": dict, "stages": list, "look": bool}
_RESAMPLE = {"method": str, "target": int, "classes": list, "space": str}
METRICS = ("macro_f1", "accuracy")


@dataclass(frozen=True)
class Arm:
    """What is compared: one recipe, whatever its seeds and folds.

    Parameters
    ----------
    name : str
        ``STAGE/VALUES``, or the stage's name where it is one arm.
    recipe : dict
        Keys of ``Recipe`` that are not the defaults.
    resample : dict
        ``method``, and maybe ``target``, ``classes``, ``space``, as ``make_resampling`` takes them; empty for none.
    start : str
        Stage or arm whose best run it goes on from; empty for none.
    """

    name: str
    recipe: Mapping[str, Any]
    resample: Mapping[str, Any] = field(default_factory=dict)
    start: str = ""


@dataclass(frozen=True)
class Blend:
    """An ensemble of arms, for each seed and fold."""

    name: str
    of: tuple[str, ...]
    rule: str = "mean"
    calibrate: str = "none"
    tta: str = "none"


@dataclass(frozen=True)
class Study:
    """A study at one scale.

    Parameters
    ----------
    data : str
        Name of an imported set, or ``drawn:N``.
    seeds : tuple of int
    folds : int
        0 for the split of the recipe; else every arm is trained on each of so many folds, and scored on all rows.
    look : bool
        Whether the test part is scored when all is done: a look for each run and ensemble.
    """

    name: str
    scale: str
    title: str
    asks: str
    system: str
    metric: str
    data: str
    seeds: tuple[int, ...]
    folds: int
    look: bool
    arms: tuple[Arm, ...]
    blends: tuple[Blend, ...]

    def splits(self, arm: Arm) -> list[str]:
        """The splits an arm is trained on."""
        if self.folds:
            return [f"kfold:{self.folds}:{fold}" for fold in range(self.folds)]
        return [str(arm.recipe.get("split", Recipe.split))]

    def cells(self) -> Iterator[tuple[Arm, int, str]]:
        """Every run: arm, seed, split, in the order in which they can be made."""
        for arm in self.arms:
            for seed, split in itertools.product(self.seeds, self.splits(arm)):
                yield arm, seed, split

    def run_name(self, of: str, seed: int, split: str) -> str:
        """The reference of a run or ensemble in the store."""
        fold = f"-f{split.rpartition(':')[2]}" if self.folds else ""
        whole = f"{self.name}.{self.scale}.{re.sub(r'[^A-Za-z0-9._+-]', '.', of)}"
        if len(whole) > LONGEST:  # of a long grid: what is cut off stands in a digest
            whole = f"{whole[: LONGEST - 9]}.{hashlib.sha256(whole.encode()).hexdigest()[:8]}"
        return f"{whole}-s{seed}{fold}"


def read_study(file: str | Path, scale: str = "smoke") -> Study:
    """A study file at a scale.

    Raises
    ------
    MissingError
        There is no such file.
    UsageError
        It is not TOML, has an unknown key, or does not have this scale; a stage starts from nothing that comes before.
    """
    path = Path(file)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingError(f"there is no study file {path}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not TOML: {error}.") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    where = str(path)
    _check(content, _TOP, where, needed=("title", "asks", "stage", "scale"))
    scales = content["scale"]
    if scale not in SCALES or scale not in scales:
        raise unknown_name(f"scale of {where}", scale, [known for known in SCALES if known in scales])
    at = scales[scale]
    _check(at, _SCALE, f"{where}, scale.{scale}", needed=("data", "seeds"))
    arms = tuple(_arms(content, at, where, scale))
    names = [arm.name for arm in arms]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"{where}: several arms are called {', '.join(twice)}. Give their stages other names.")
    metric = content.get("metric", METRICS[0])
    if metric not in METRICS:
        raise unknown_name(f"metric of {where}", metric, METRICS)
    return Study(
        name=path.stem,
        scale=scale,
        title=content["title"],
        asks=content["asks"],
        system=content.get("system", ""),
        metric=metric,
        data=at["data"],
        seeds=tuple(at["seeds"]),
        folds=at.get("folds", 0),
        look=at.get("look", False),
        arms=arms,
        blends=tuple(_blends(content, names, where)),
    )


def _arms(content: dict, at: dict, where: str, scale: str) -> Iterator[Arm]:
    """The arms of all stages of this scale."""
    known: list[str] = []
    used: set[str] = set()
    for stage in content["stage"]:
        _check(stage, _STAGE, f"{where}, stage", needed=("name",))
        name, here = stage["name"], f"{where}, stage {stage['name']}"
        if name not in at.get("stages", [name]) or scale not in stage.get("scales", [scale]):
            continue
        start = stage.get("start", "")
        wanted = start.removeprefix(BEST)
        if start and wanted not in known:
            raise unknown_name(f"start of {here}", wanted, known)
        fixed = {**content.get("recipe", {}), **stage.get("recipe", {}), **at.get("recipe", {})}
        grid = {key: _kept(key, values, at.get("keep", {}), used) for key, values in stage.get("grid", {}).items()}
        resamplings = stage.get("resample", [{}])
        for each in resamplings:
            _check(each, _RESAMPLE, f"{here}, resample")
        for chosen in itertools.product(*grid.values()):
            values = dict(zip(grid, chosen, strict=True))
            _check(values, dict.fromkeys(Recipe.__dataclass_fields__, object), f"{here}, grid")
            for resample in resamplings:
                parts = [*_said(values), *([_title(resample)] if "resample" in stage else [])]
                arm = Arm(
                    "/".join([name, *(["-".join(parts)] if parts else [])]), {**fixed, **values}, resample, wanted
                )
                known.append(arm.name)
                yield arm
        known.append(name)
    unused = set(at.get("keep", {})) - used
    if unused:
        raise UsageError(f"{where}, scale.{scale}: keep names {', '.join(sorted(unused))}, which no grid has.")


def _kept(key: str, values: list, keep: dict, used: set[str]) -> list:
    """The values of a grid's key that a scale keeps."""
    if key not in keep:
        return values
    used.add(key)
    kept = [value for value in values if value in keep[key]]
    if not kept:
        raise UsageError(f"keep of {key} leaves none of {values}: found {keep[key]}.")
    return kept


def _said(values: Mapping[str, Any]) -> list[str]:
    """Values of a grid as parts of a name: texts as they are, numbers and switches with their key."""
    return [value if isinstance(value, str) else f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
            for key, value in values.items()]  # fmt: skip


def _title(resample: Mapping[str, Any]) -> str:
    """``hybrid-3000``, ``ros-disgust``, ``smote-embedding``."""
    parts = [
        resample.get("method", "none"),
        *resample.get("classes", []),
        resample.get("target"),
        resample.get("space"),
    ]
    return "-".join(str(part) for part in parts if part is not None)


def _blends(content: dict, arms: list[str], where: str) -> Iterator[Blend]:
    """The ensembles whose arms are all there at this scale."""
    for each in content.get("ensemble", []):
        _check(each, _ENSEMBLE, f"{where}, ensemble", needed=("name", "of"))
        if set(each["of"]) <= set(arms):
            yield Blend(**{**each, "of": tuple(each["of"])})


def _check(given: Any, keys: Mapping[str, type], where: str, needed: tuple[str, ...] = ()) -> None:
    """Raise unless every key is known, of its type, and all that are needed are there."""
    if not isinstance(given, dict):
        raise UsageError(f"{where}: expected a table, found {given!r}.")
    for key, value in given.items():
        if key not in keys:
            raise unknown_name(f"key of {where}", key, keys)
        if not isinstance(value, keys[key]) or (keys[key] is int and isinstance(value, bool)):
            raise UsageError(f"{where}: {key} = {value!r}; expected {keys[key].__name__}.")
    missing = [key for key in needed if key not in given]
    if missing:
        raise UsageError(f"{where} lacks {', '.join(missing)}.")
