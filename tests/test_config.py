"""Recipes are strict and layered."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble_fer.config import Recipe, resolve, resolve_recipe
from ensemble_fer.errors import MissingError, UsageError


def test_layers(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text('model = "vggnet"\nepochs = 7\nlearning_rate = 1\n')
    recipe = resolve_recipe(file, epochs=3, seed=None)
    assert (recipe.model, recipe.epochs, recipe.learning_rate, recipe.seed) == ("vggnet", 3, 1.0, 0)
    sources = {s.key: s.source for s in resolve(file, epochs=3)}
    assert sources["epochs"] == "flag"
    assert sources["learning_rate"] == "file"
    assert sources["schedule"] == "model"
    assert sources["seed"] == "default"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat = 0.1", "learning_rate"),
        ('optimizer = "nestorov"', "nesterov"),
        ('model = "vgnet"', "vggnet"),
        ("epochs = 0", "1 or more"),
        ("epochs = 2.5", "expected int"),
        ("epochs = true", "expected int"),
        ("dropout = 1.0", "below 1"),
        ("learning_rate = nan", "above 0"),
        ("epochs = ", "not TOML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "r.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        resolve_recipe(file)


def test_missing_file_is_missing() -> None:
    with pytest.raises(MissingError, match=r"nowhere\.toml"):
        resolve_recipe("nowhere.toml")


@given(
    st.integers(1, 400),
    st.floats(1e-6, 10, allow_nan=False),
    st.sampled_from(["none", "smote", 'odd "name" \\ here']),
)
def test_toml_round_trip(tmp_path_factory: pytest.TempPathFactory, epochs: int, rate: float, resampling: str) -> None:
    recipe = Recipe(epochs=epochs, learning_rate=rate, resampling=resampling)
    file = tmp_path_factory.mktemp("recipe") / "r.toml"
    file.write_text(recipe.to_toml())
    assert resolve_recipe(file) == recipe
