"""Recipes are strict and layered."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble_fer.config import Recipe, parse_flag, resolve, resolve_recipe
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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("focal_gamma=1", {"focal_gamma": 1.0}),
        ("loss = focal", {"loss": "focal"}),
        ('loss="focal"', {"loss": "focal"}),
        ("train_norms=true", {"train_norms": True}),
        ("epochs=12", {"epochs": 12}),
        ("weights=my = file.safetensors", {"weights": "my = file.safetensors"}),
        ("model=own.py:build", {"model": "own.py:build"}),
    ],
)
def test_any_key_can_be_set(text: str, expected: dict) -> None:
    assert parse_flag(text) == expected
    assert type(next(iter(parse_flag(text).values()))) is type(next(iter(expected.values())))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("focal_gama=1", "focal_gamma"),
        ("loss", "KEY=VALUE"),
        ("epochs=many", "expected int"),
        ("epochs=1.5", "expected int"),
        ("train_norms=yes", "expected bool"),
        ("=3", "unknown key"),
        ("epochs=1\nseed=2", "expected int"),
        (f"learning_rate={'9' * 400}", "expected float"),
        (f"seed={'9' * 5000}", "expected int"),
        (f"seed={'[' * 5000}", "expected int"),
    ],
)
def test_what_cannot_be_set_is_named(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_flag(text)


def test_a_key_is_set_once() -> None:
    assert resolve_recipe(None, ["epochs=3"], epochs=3).epochs == 3
    with pytest.raises(UsageError, match="given twice"):
        resolve_recipe(None, ["epochs=3"], epochs=4)
    with pytest.raises(UsageError, match="given twice"):
        resolve_recipe(None, ["epochs=3", "epochs=4"])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"loss": "focl"}, "focal"),
        ({"frozen_stages": 2}, "random weights"),
        ({"head_rate": 0.0}, "above 0"),
        ({"model": "timm"}, "timm:NAME"),
        ({"train_on": "all"}, "train"),
        ({"step_factor": 1.0}, "below 1"),
        ({"ema": 1.0}, "below 1"),
        ({"weights": "a\nb"}, "line break"),
        ({"warmup_epochs": 3.0, "epochs": 3}, "never end"),
    ],
)
def test_combinations_that_cannot_be_meant_are_refused(keys: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Recipe(**keys)


def test_a_short_training_of_a_model_that_warms_up_does_without() -> None:
    assert resolve_recipe(model="resnet18").warmup_epochs > 0
    assert resolve_recipe(model="resnet18", epochs=1).warmup_epochs == 0
