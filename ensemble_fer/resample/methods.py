"""The table of methods. A new one is a function from ``Request`` to ``Rows`` and a line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ensemble_fer.resample import adasyn as adaptive
from ensemble_fer.resample import augmenting, borderline, cleaning, combined, random_sampling
from ensemble_fer.resample import smote as smote_family
from ensemble_fer.resample.rows import Request, Rows


@dataclass(frozen=True)
class Method:
    """One entry.

    Parameters
    ----------
    run : callable
    title : str
        As people write it.
    summary : str
        What it does, in a line.
    over : bool
        It adds rows, so that ``classes`` may limit it.
    target : bool
        It needs ``target``.
    cleans : bool
        It removes rows by their neighbours: counts are known only afterwards.
    mixes : bool
        It makes synthetic rows.
    transforms : bool
        It makes transformed copies, and leaves what has the target already as it is.
    surveys : bool
        It looks at the classes that it fills among all rows first.
    shares : bool
        Each row of a class gets a rounded share of what is missing: the sum is known only afterwards.
    """

    run: Callable[[Request], Rows]
    title: str
    summary: str
    over: bool = False
    target: bool = False
    cleans: bool = False
    mixes: bool = False
    transforms: bool = False
    surveys: bool = False
    shares: bool = False


METHODS: dict[str, Method] = {
    "none": Method(random_sampling.keep_all, "none", "every training row once"),
    "ros": Method(
        random_sampling.random_oversample, "ROS", "copies of random rows, up to the largest class", over=True
    ),
    "rus": Method(random_sampling.random_undersample, "RUS", "random rows only, down to the rarest class"),
    "hybrid": Method(
        random_sampling.hybrid,
        "hybrid",
        "random rows dropped and copied until every class has the target",
        over=True,
        target=True,
    ),
    "augment": Method(
        augmenting.augment,
        "augment",
        "turned, moved, zoomed and mirrored copies until every class has at least the target",
        over=True,
        target=True,
        transforms=True,
    ),
    "smote": Method(
        smote_family.smote, "SMOTE", "mixtures of a face and a near one of its class", over=True, mixes=True
    ),
    "borderline_smote": Method(
        borderline.borderline_smote,
        "Borderline-SMOTE",
        "SMOTE from the faces that have other classes around them, but not only",
        over=True,
        mixes=True,
        surveys=True,
    ),
    "adasyn": Method(
        adaptive.adasyn,
        "ADASYN",
        "SMOTE with more mixtures from faces that have more of other classes around them",
        over=True,
        mixes=True,
        surveys=True,
        shares=True,
    ),
    "tomek": Method(
        cleaning.tomek, "Tomek links", "without rows that are nearest to a row of another class", cleans=True
    ),
    "enn": Method(cleaning.enn, "ENN", "without rows that have a near neighbour of another class", cleans=True),
    "smote_tomek": Method(
        combined.smote_tomek, "SMOTE-Tomek", "SMOTE, then Tomek links removed", over=True, cleans=True, mixes=True
    ),
    "smote_enn": Method(
        combined.smote_enn,
        "SMOTE-ENN",
        "SMOTE, then rows with a foreign neighbour removed",
        over=True,
        cleans=True,
        mixes=True,
    ),
}
