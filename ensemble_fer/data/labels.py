"""The names people give the seven classes and the three usages."""

from __future__ import annotations

import difflib
import re

from ensemble_fer.types import CLASSES, N_CLASSES, OFFICIAL

# FER2013's own codes are 0 angry to 6 neutral, the order of CLASSES.
SPELLINGS = {
    "angry": ("anger", "ang", "an"),
    "disgust": ("disgusted", "disgusting", "dis", "di"),
    "fear": ("fearful", "afraid", "scared", "fea", "fe"),
    "happy": ("happiness", "joy", "joyful", "hap", "ha"),
    "sad": ("sadness", "sa"),
    "surprise": ("surprised", "suprise", "surprize", "sur", "su"),
    "neutral": ("neutrality", "neu", "ne"),
}
CLASS_CODES = {
    spelling: code
    for code, name in enumerate(CLASSES)
    for spelling in (name, str(code), f"{code} {name}", *SPELLINGS[name])
}
USAGE_CODES = {name.lower(): code for code, name in enumerate(OFFICIAL)}

# An eighth class that other sets have (AffectNet, CK+, FER+): its faces are none of the seven, and no mistake either.
_EIGHTH = re.compile(r"(\d+ )?(contempt|contemptuous)")

# Image folders: what lies in train is Training, in test PrivateTest, in between PublicTest.
FOLDER_USAGES = {
    **dict.fromkeys(("train", "training"), 0),
    **dict.fromkeys(("val", "valid", "validation", "dev", "publictest", "public test", "public"), 1),
    **dict.fromkeys(("test", "testing", "privatetest", "private test", "private"), 2),
}


def _plain(text: str) -> str:
    """Lower case, with one space for what separates words; "-1" and "3.0" stay numbers."""
    return re.sub(r"(?<=[a-z0-9])[\s_.-]+(?=[a-z])", " ", text.strip().casefold())


def class_code(text: str) -> int | None:
    """Code 0 to 6 of a class in any usual spelling (``anger``, ``Happiness``, ``3``, ``3_happy``), or None."""
    return CLASS_CODES.get(_plain(text))


def eighth_class(text: str) -> str | None:
    """``contempt`` if a text says that in some spelling (``7_Contempt``), else None."""
    found = _EIGHTH.fullmatch(_plain(text))
    return "contempt" if found else None


def usage_code(text: str) -> int | None:
    """Index into ``OFFICIAL`` of a usage, whatever its case, or None."""
    return USAGE_CODES.get(text.strip().casefold())


def folder_usage(text: str) -> int | None:
    """Index into ``OFFICIAL`` that a folder such as ``train`` or ``validation`` stands for, or None."""
    return FOLDER_USAGES.get(_plain(text))


def class_advice(text: str) -> str:
    """Why a text is no class, with the near match."""
    near = difflib.get_close_matches(_plain(text), [s for s in CLASS_CODES if len(s) > 2], n=1, cutoff=0.6)
    guess = f" (did you mean {near[0]!r}?)" if near else ""
    numbers = " (numbers are FER2013's; where they mean something else, write names)" if text.strip().isdigit() else ""
    return f"{text!r} is no class{guess}; expected 0 to {N_CLASSES - 1} or {', '.join(CLASSES)}{numbers}"


def usage_advice(text: str) -> str:
    """Why a text is no usage."""
    return f"unknown usage {text!r}; expected {', '.join(OFFICIAL)}"
