"""From a study's file to the runs and ensembles it stands for; nothing that is misspelled passes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ensemble_fer.config import Recipe
from ensemble_fer.config.toml import read_toml
from ensemble_fer.errors import MissingError, UsageError, unknown_name
from ensemble_fer.study.checking import (
    check_classes,
    check_keys,
    check_lists,
    check_resampling,
    check_scale,
    check_search,
    check_set,
    check_stages,
    check_study,
    check_texts,
)
from ensemble_fer.study.finding import known_studies
from ensemble_fer.study.plan import DIVISIONS, SPACE_OF, Arm, Blend, Study

SCALES = ("smoke", "small", "paper")
BEST = "best of "
MOST_ARMS = 1000
"""Of a stage."""
_TOP = {"title": str, "asks": str, "system": str, "metric": str, "recipe": dict, "stage": list, "ensemble": list,
        "scale": dict, "memory": bool, "against": str, "pairs": list}  # fmt: skip
_STAGE = {"name": str, "start": str, "recipe": dict, "grid": dict, "resample": list, "scales": list, "leak": str,
          "combine": list, "aligned": bool, "inject": dict, "search": dict, "tuned": str}  # fmt: skip
_ENSEMBLE = {"name": str, "of": list, "rule": str, "calibrate": str, "tta": str, "across_seeds": bool}
_SCALE = {"data": str, "seeds": list, "folds": int, "recipe": dict, "keep": dict, "stages": list, "look": bool,
          "most": int, "sets": dict, "trials": int, "ensembles": list}  # fmt: skip
_INJECT = {"name": str, "classes": list}
_RESAMPLE = {"method": str, "target": int, "classes": list, "space": str}
METRICS = ("macro_f1", "accuracy")


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
        content = read_toml(path)
    except FileNotFoundError as error:
        raise MissingError(f"there is no study file {path}.") from error
    where = str(path)
    check_keys(content, _TOP, where, needed=("title", "asks", "stage", "scale"))
    scales = content["scale"]
    if scale not in SCALES or scale not in scales:
        raise unknown_name(f"scale of {where}", scale, [known for known in SCALES if known in scales])
    at = scales[scale]
    check_keys(at, _SCALE, f"{where}, scale.{scale}", needed=("data", "seeds"))
    for stage in content["stage"]:
        check_keys(stage, _STAGE, f"{where}, stage", needed=("name",))
    check_stages(content["stage"], SCALES, where)
    check_scale(at, [stage["name"] for stage in content["stage"]], f"{where}, scale.{scale}")
    arms = tuple(_arms(content, at, where, scale))
    names = [arm.name for arm in arms]
    # Of any scale, whatever it keeps: an ensemble of arms that another scale has is no mistake.
    anywhere = {arm.name for arm in _arms(content, {}, where, "")}
    metric = content.get("metric", METRICS[0])
    if metric not in METRICS:
        raise unknown_name(f"metric of {where}", metric, METRICS)
    against = content.get("against", "")
    if against and against not in names:
        raise unknown_name(f"against of {where}", against, names)
    blends = tuple(_blends(content, at, names, anywhere, where))
    all_of_it = [*anywhere, *(each["name"] for each in content.get("ensemble", []))]
    others = [stage["inject"]["name"] for stage in content["stage"] if "inject" in stage]
    for name in at.get("sets", {}):
        if name not in others:
            raise unknown_name(f"set of {where}, scale.{scale}", name, others)
    study = Study(
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
        blends=blends,
        memory=content.get("memory", False),
        against=against,
        pairs=tuple(_pairs(content.get("pairs", []), [*names, *(blend.name for blend in blends)], all_of_it, where)),
        file=_given(path),
    )
    check_study(study, where)
    return study


def _given(path: Path) -> str:
    shipped = known_studies().get(path.stem)
    return path.stem if shipped is not None and path.resolve() == shipped.resolve() else path.as_posix()


def _arms(content: dict, at: dict, where: str, scale: str) -> Iterator[Arm]:
    """The arms of all stages of this scale; of no scale all that there are."""
    known: list[str] = []
    made: list[str] = []
    searches: list[str] = []
    used: set[str] = set()
    for stage in content["stage"]:
        name, here = stage["name"], f"{where}, stage {stage['name']}"
        if name not in at.get("stages", [name]) or (scale and scale not in stage.get("scales", [scale])):
            continue
        start = stage.get("start", "")
        wanted = start.removeprefix(BEST)
        if start and wanted not in known:
            raise unknown_name(f"start of {here}", wanted, known)
        leak, combine = stage.get("leak", ""), tuple(stage.get("combine", ()))
        if leak and leak not in DIVISIONS:
            raise unknown_name(f"leak of {here}", leak, DIVISIONS)
        if leak and at.get("folds"):
            raise UsageError(f"{here}: leaky sets have one division of their own, and this scale has folds.")
        if combine:
            check_texts(combine, f"combine of {here}")
        for name_of in combine:
            if name_of not in known:
                raise unknown_name(f"combine of {here}", name_of, known)
        inject = dict(stage.get("inject", {}))
        if inject:
            check_keys(inject, _INJECT, f"{here}, inject", needed=tuple(_INJECT))
            check_classes(inject["classes"], here)
            inject["name"] = at.get("sets", {}).get(inject["name"], inject["name"])
            check_set(inject["name"], f"{here}, inject")
        search, tuned = dict(stage.get("search", {})), stage.get("tuned", "")
        if search:
            check_search(stage, search, here)
            search |= {"trials": at["trials"]} if "trials" in at else {}
            searches.append(name)
        if tuned and tuned not in searches:
            raise unknown_name(f"tuned of {here}", tuned, searches)
        set_here = {**stage.get("recipe", {}), **at.get("recipe", {})}
        fixed = {**content.get("recipe", {}), **set_here}
        check_lists(stage.get("grid", {}), f"{here}, grid")
        grid = {key: _kept(key, values, at.get("keep", {}), used) for key, values in stage.get("grid", {}).items()}
        check_lists({key: stage[key] for key in ("resample", "scales") if key in stage}, here)
        resamplings = stage.get("resample", [{}])
        for each in resamplings:
            check_keys(each, _RESAMPLE, f"{here}, resample")
            check_resampling(each, leak, here)
        if "resample" in stage:
            methods = _kept("method", [each.get("method") for each in resamplings], at.get("keep", {}), used)
            resamplings = [each for each in resamplings if each.get("method") in methods]
        count = math.prod(len(values) for values in grid.values()) * len(resamplings)
        if count > MOST_ARMS:
            raise UsageError(f"{here} has {count:,} combinations; expected at most {MOST_ARMS:,}. Search some of them.")
        for chosen in itertools.product(*grid.values()):
            values = dict(zip(grid, chosen, strict=True))
            check_keys(values, dict.fromkeys(Recipe.__dataclass_fields__, object), f"{here}, grid")
            for resample in resamplings:
                parts = [*_said(values), *([_title(resample)] if "resample" in stage else [])]
                own = "/".join([name, *(["-".join(parts)] if parts else [])])
                arm = Arm(
                    name=own,
                    recipe={**fixed, **values},
                    resample=_capped(resample, at.get("most")),
                    start=wanted,
                    leak=leak,
                    combine=combine,
                    aligned=stage.get("aligned", False),
                    inject=inject,
                    search=search,
                    tuned=tuned,
                    own=frozenset({*set_here, *values}),
                )
                if arm.space_of and arm.space_of not in made:
                    raise unknown_name(f"space of {here}", arm.space_of, made)
                made.append(arm.name)
                known.append(arm.name)
                yield arm
        known.append(name)
    unused = set(at.get("keep", {})) - used
    if unused:
        raise UsageError(
            f"{where}, scale.{scale}: keep names {', '.join(sorted(unused))}, which no grid and no resampling has."
        )


def _kept(key: str, values: list, keep: dict, used: set[str]) -> list:
    """The values of a grid's key, or the methods of resampling, that a scale keeps."""
    if key not in keep:
        return values
    used.add(key)
    kept = [value for value in values if value in keep[key]]
    if not kept:
        raise UsageError(f"keep of {key} leaves none of {values}: found {keep[key]}.")
    return kept


def _capped(resample: Mapping[str, Any], most: int | None) -> Mapping[str, Any]:
    """A resampling whose target is at most what the scale allows; its name stays."""
    if most is None or "target" not in resample:
        return resample
    return {**resample, "target": min(most, resample["target"])}


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
        "embedding" if str(resample.get("space", "")).startswith(SPACE_OF) else resample.get("space"),
    ]
    return "-".join(str(part) for part in parts if part is not None)


def _blends(content: dict, at: dict, arms: list[str], anywhere: set[str], where: str) -> Iterator[Blend]:
    """The ensembles of this scale whose arms are all there."""
    names = [each.get("name") for each in content.get("ensemble", [])]
    for name in (kept := at.get("ensembles", names)):
        if name not in names:
            raise unknown_name(f"ensemble of {where}", str(name), names)
    for each in content.get("ensemble", []):
        check_keys(each, _ENSEMBLE, f"{where}, ensemble", needed=("name", "of"))
        here = f"{where}, ensemble {each['name']}"
        check_texts(each["of"], f"{here}: of")
        for name in each["of"]:
            if name not in anywhere:
                raise unknown_name(f"arm of {here}", name, anywhere)
        if each["name"] in kept and set(each["of"]) <= set(arms):
            yield Blend(**{**each, "of": tuple(each["of"])})


def _pairs(given: list, here: list[str], anywhere: list[str], where: str) -> Iterator[tuple[str, str]]:
    """The pairs of which both are there at this scale."""
    for each in given:
        if not isinstance(each, list) or len(each) != 2:
            raise UsageError(f"{where}: pairs has {each!r}; expected lists of two names.")
        check_texts(each, f"{where}: pairs")
        for name in each:
            if name not in anywhere:
                raise unknown_name(f"pairs of {where}", name, anywhere)
        if set(each) <= set(here):
            yield each[0], each[1]
