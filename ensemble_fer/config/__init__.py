"""Recipes: what a member is trained with, strict, in layers, defaults < model < file < flags."""

from __future__ import annotations

from ensemble_fer.config.choices import (
    AUGMENTATIONS,
    LOSSES,
    MODEL_DEFAULTS,
    MODELS,
    OPTIMIZERS,
    PRECISIONS,
    SCHEDULES,
)
from ensemble_fer.config.layers import Setting, flags_of, parse_flag, read_recipe, resolve, resolve_recipe
from ensemble_fer.config.recipe import Recipe

__all__ = [
    "AUGMENTATIONS",
    "LOSSES",
    "MODELS",
    "MODEL_DEFAULTS",
    "OPTIMIZERS",
    "PRECISIONS",
    "SCHEDULES",
    "Recipe",
    "Setting",
    "flags_of",
    "parse_flag",
    "read_recipe",
    "resolve",
    "resolve_recipe",
]
