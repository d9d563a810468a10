"""Recipes: what a member is trained with, strict, in layers, defaults < model < file < flags."""

from __future__ import annotations

from ensemble_fer.config.choices import (
    AUGMENTATIONS,
    COUNTING_LOSSES,
    LOSSES,
    MODEL_DEFAULTS,
    MODELS,
    OPTIMIZERS,
    PRECISIONS,
    SCHEDULES,
    defaults_of,
)
from ensemble_fer.config.effects import NoEffect, checked_recipe, without_effect
from ensemble_fer.config.layers import Setting, flags_of, parse_flag, read_recipe, resolve, resolve_recipe
from ensemble_fer.config.recipe import Recipe

__all__ = [
    "AUGMENTATIONS",
    "COUNTING_LOSSES",
    "LOSSES",
    "MODELS",
    "MODEL_DEFAULTS",
    "OPTIMIZERS",
    "PRECISIONS",
    "SCHEDULES",
    "NoEffect",
    "Recipe",
    "Setting",
    "checked_recipe",
    "defaults_of",
    "flags_of",
    "parse_flag",
    "read_recipe",
    "resolve",
    "resolve_recipe",
    "without_effect",
]
