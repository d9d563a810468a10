"""What a study's file cannot mean is said when it is read, and not after hours of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ensemble_fer.config import resolve_recipe
from ensemble_fer.data.labels import CLASSES
from ensemble_fer.data.splits import LEAST_FOLDS, MOST_FOLDS
from ensemble_fer.ensemble import CALIBRATE, RULES
from ensemble_fer.errors import EnsembleFerError, UsageError, some_of, unknown_name
from ensemble_fer.resample import METHODS
from ensemble_fer.resample.spaces import PIXELS, pca_space
from ensemble_fer.store import check_name
from ensemble_fer.study.plan import DRAWN, SPACE_OF, Arm, Blend, Study
from ensemble_fer.train.prediction import TTA
from ensemble_fer.tune.spaces import parse_spaces

_SEARCH = {"space": list, "trials": int, "workers": int}


def check_keys(given: Any, keys: Mapping[str, type], where: str, needed: tuple[str, ...] = ()) -> None:
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


def check_texts(values: Sequence[Any], where: str) -> None:
    """Raise unless all are text, and there is one."""
    if not values or not all(isinstance(value, str) for value in values):
        raise UsageError(f"{where} = {list(values)!r}; expected one name or more.")


def check_lists(table: Mapping[str, Any], where: str) -> None:
    """Raise unless every value of a table is a list that is not empty."""
    for key, values in table.items():
        if not isinstance(values, list) or not values:
            raise UsageError(f"{where}: {key} = {values!r}; expected a list of values, one at least.")


def check_scale(at: Mapping[str, Any], stages: Sequence[str], where: str) -> None:
    """Raise unless seeds, folds, stages and kept values of a scale can be."""
    seeds = at["seeds"]
    whole = [isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 for seed in seeds]
    if not seeds or not all(whole) or len(set(seeds)) < len(seeds):
        raise UsageError(f"{where}: seeds = {seeds}; expected different whole numbers from 0, one at least.")
    if at.get("folds", 0) and not LEAST_FOLDS <= at["folds"] <= MOST_FOLDS:
        raise UsageError(f"{where}: folds = {at['folds']}; expected {LEAST_FOLDS} to {MOST_FOLDS:,}, or none.")
    check_set(at["data"], f"{where}: data")
    for key, name in at.get("sets", {}).items():
        check_set(name, f"{where}, sets: {key}")
    for key in ("most", "trials"):
        if at.get(key, 1) < 1:
            raise UsageError(f"{where}: {key} = {at[key]}; expected 1 or more.")
    if "stages" in at:
        check_texts(at["stages"], f"{where}: stages")
        for stage in at["stages"]:
            if stage not in stages:
                raise unknown_name(f"stage of {where}", stage, stages)
    check_lists(at.get("keep", {}), f"{where}, keep")


def check_set(name: Any, where: str) -> None:
    """Raise unless it is the name of a set, or ``drawn:N``."""
    if not isinstance(name, str) or (
        name.startswith(DRAWN) and not (name.removeprefix(DRAWN).isdecimal() and int(name.removeprefix(DRAWN)) > 0)
    ):
        raise UsageError(f"{where} = {name!r}; expected the name of a set, or {DRAWN}N for N drawn faces.")


def check_stages(stages: Sequence[Mapping[str, Any]], scales: Sequence[str], where: str) -> None:
    """Raise unless stages have names of their own, and scales that there are."""
    names = [stage["name"] for stage in stages]
    if not all(name and "/" not in name for name in names):
        raise UsageError(f"{where}: a stage has no name, or one with a slash: {some_of(names)}.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"{where}: several stages are called {', '.join(twice)}. Give them other names.")
    for stage in stages:
        for scale in stage.get("scales", ()):
            if scale not in scales:
                raise unknown_name(f"scale of {where}, stage {stage['name']}", str(scale), scales)


def check_search(stage: Mapping[str, Any], search: dict, where: str) -> None:
    """Raise unless a stage that searches is one recipe, whose values trials may set, with spaces that there are."""
    check_keys(search, _SEARCH, f"{where}, search", needed=("space",))
    other = sorted({"grid", "resample", "start", "combine", "leak", "tuned"} & set(stage))
    if other:
        raise UsageError(f"{where} searches, and has {', '.join(other)} too. Give these a stage of their own.")
    if search.get("workers", 1) < 1 or search.get("trials", 1) < 1:
        raise UsageError(f"{where}, search: expected 1 worker and 1 trial or more.")
    parse_spaces([str(name) for name in search["space"]])


def check_resampling(resample: Mapping[str, Any], leak: str, where: str) -> None:
    """Raise unless a method can make such a set."""
    method = resample.get("method", "none")
    if method not in METHODS:
        raise unknown_name(f"method of {where}", method, METHODS)
    if METHODS[method].target != ("target" in resample):
        needs = "needs a target" if METHODS[method].target else "takes no target"
        raise UsageError(f"{where}: {method} {needs}.")
    if resample.get("target", 1) < 1:
        raise UsageError(f"{where}: target = {resample['target']}; expected 1 or more.")
    check_classes(resample.get("classes", ()), where)
    space = resample.get("space", PIXELS)
    if space != PIXELS and not space.startswith(SPACE_OF):
        pca_space(space)
    more = sorted(set(resample) - {"method"})
    if leak and more:
        raise UsageError(f"{where}: a leaky set is made by a method alone; found {', '.join(more)} too.")


def check_classes(classes: Sequence[Any], where: str) -> None:
    """Raise unless all are names of classes."""
    for given in classes:
        if given not in CLASSES:
            raise unknown_name(f"class of {where}", str(given), CLASSES)


def check_study(study: Study, where: str) -> None:
    """Raise unless all names are different, and every recipe, resampling and ensemble can be.

    Raises
    ------
    UsageError
        What cannot be, with its place in the file.
    """
    names = [each.name for each in (*study.arms, *study.blends)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"{where}: several arms or ensembles are called {', '.join(twice)}. Give them other names.")
    if not study.arms:
        raise UsageError(f"{where}: there is no stage at scale {study.scale}; expected one at least.")
    kept: dict[str, str] = {}
    for name in names:
        other = kept.setdefault(study.run_name(name, 0, ""), name)
        if other != name:
            raise UsageError(f"{where}: {other} and {name} have one name in the store. Give one of them another.")
    for arm in study.arms:
        here = f"{where}, {arm.name}"
        for key, why in (("seed", "the seeds of a scale say it"), ("resampling", "resample of a stage says it")):
            if key in arm.recipe:
                raise UsageError(f"{here}: a recipe sets {key}, and {why}. Leave it out.")
        if study.folds and "split" in arm.recipe:
            raise UsageError(f"{here}: a recipe sets split, and this scale has folds. Leave one of both out.")
        try:
            resolve_recipe(**arm.recipe)
            check_name(study.run_name(arm.name, study.seeds[0], study.splits(arm)[0]))
        except (EnsembleFerError, TypeError) as error:
            raise UsageError(f"{here}: {error}") from error
        _check_kin(study, arm, here)
        _check_combined(study, arm, here)
    for blend in study.blends:
        _check_blend(study, blend, f"{where}, ensemble {blend.name}")


def _check_kin(study: Study, arm: Arm, where: str) -> None:
    """Raise if an arm takes weights, recipe or values from an arm that chose them on other parts than its own."""
    for name in study.needs(arm):
        (other,) = [each for each in study.arms if each.name == name]
        if (study.splits(other), other.leak) != (study.splits(arm), arm.leak):
            raise UsageError(
                f"{where} goes on from {name}, which is of another split: {_part(study, other)}, and not "
                f"{_part(study, arm)}. What was chosen there may have been chosen on rows that test here. "
                "Give both the same split."
            )


def _check_combined(study: Study, arm: Arm, where: str) -> None:
    """Raise if several of what an arm combines resample: one set is trained on."""
    resampling = [
        stage
        for stage in arm.combine
        if any(each.resample.get("method", "none") != "none" for each in study.arms if each.name in study.named(stage))
    ]
    if len(resampling) > 1 and not arm.resample:
        raise UsageError(
            f"{where} combines {' and '.join(resampling)}, which all resample. Take one of them, or give the stage a "
            "resample of its own."
        )


def _part(study: Study, arm: Arm) -> str:
    return f"the leaky division {arm.leak!r}" if arm.leak else study.splits(arm)[0]


def _check_blend(study: Study, blend: Blend, where: str) -> None:
    for what, given, known in (
        ("rule", blend.rule, RULES),
        ("calibrate", blend.calibrate, CALIBRATE),
        ("tta", blend.tta, TTA),
    ):
        if given not in known:
            raise unknown_name(f"{what} of {where}", given, known)
    twice = sorted({name for name in blend.of if blend.of.count(name) > 1})
    if twice:
        raise UsageError(f"{where}: {', '.join(twice)} is named twice. Name each arm once.")
    of = [arm for arm in study.arms if arm.name in blend.of]
    if any(arm.search for arm in of):
        raise UsageError(f"{where}: a search is no member. Name arms that are trained with its choice.")
    parts = {_part(study, arm): arm.name for arm in of if not arm.leak}
    if len(parts) > 1:
        raise UsageError(f"{where}: its arms are of several splits, {', '.join(parts)}. Fuse those of one split.")
    leaky = [arm.name for arm in of if arm.leak]
    if leaky and len(leaky) < len(of):
        raise UsageError(f"{where}: {', '.join(leaky)} are leaky and the others are not. Fuse them apart.")
    if leaky and (blend.rule, blend.calibrate, blend.tta) != (Blend.rule, Blend.calibrate, Blend.tta):
        raise UsageError(f"{where}: what leaky members say is averaged; leave rule, calibrate and tta out.")
