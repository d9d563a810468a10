"""What a recipe may name is what there is."""

from __future__ import annotations

import pytest

from ensemble_fer import config
from ensemble_fer.config import MODELS, resolve_recipe
from ensemble_fer.config.choices import CHOICES, RANGES
from ensemble_fer.train import augment, losses, optimizers, schedules


@pytest.mark.parametrize(
    ("named", "table"),
    [
        (config.OPTIMIZERS, optimizers.OPTIMIZERS),
        (config.SCHEDULES, schedules.SCHEDULES),
        (config.LOSSES, losses.LOSSES),
        (config.AUGMENTATIONS, augment.POLICIES),
    ],
    ids=["optimizers", "schedules", "losses", "augmentations"],
)
def test_recipes_name_what_the_tables_hold(named: tuple[str, ...], table: dict) -> None:
    assert set(named) == set(table)
    assert len(set(named)) == len(named)


@pytest.mark.parametrize("model", MODELS)
def test_the_defaults_of_each_model_are_a_recipe(model: str) -> None:
    recipe = resolve_recipe(model=model)
    assert recipe.model == model
    assert resolve_recipe(model=model, weights="none").frozen_stages == 0


def test_every_key_with_a_choice_or_range_is_a_key() -> None:
    assert set(CHOICES) | set(RANGES) <= set(config.Recipe().to_dict())
