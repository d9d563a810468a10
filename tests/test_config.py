"""Recipes are strict and layered."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble_fer.config import NoEffect, Recipe, checked_recipe, parse_flag, resolve, resolve_recipe
from ensemble_fer.config.choices import RANGES
from ensemble_fer.config.recipe import _toml
from ensemble_fer.errors import MissingError, UsageError
from tests.cli.running import run


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
        ("epochs = 0", "1 to 99999"),
        ("epochs = 2.5", "expected int"),
        ("epochs = true", "expected int"),
        ("dropout = 1.0", "below 1"),
        ("learning_rate = nan", "1e-12 to below 1000000"),
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
        ({"head_rate": 0.0}, "0.000001 to"),
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


def test_what_a_search_has_noted_no_flag_can_change(tmp_path: Path) -> None:
    file = tmp_path / "best.toml"
    file.write_text('tuned = "study x, 30 trials"\nepochs = 3\n')
    for flags in (["tuned="], ['tuned=""'], ["tuned=study x, 3 trials"]):
        with pytest.raises(UsageError, match=r"best\.toml says who chose this recipe: tuned = 'study x, 30 trials'"):
            resolve_recipe(file, flags)
    assert resolve_recipe(file, ["tuned=study x, 30 trials"], epochs=4).tuned == "study x, 30 trials"
    assert resolve_recipe(None, ["tuned=by hand"]).tuned == "by hand"
    file.write_text(Recipe().to_toml())
    assert resolve_recipe(file, ["tuned=by hand"]).tuned == "by hand"


def test_a_grid_lies_between_the_model_and_the_file(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text("epochs = 7\n")
    grid = {"model": "vggnet", "epochs": 300, "batch_size": 32}
    recipe = resolve_recipe(file, grid=grid)
    assert (recipe.model, recipe.epochs, recipe.batch_size, recipe.schedule) == ("vggnet", 7, 32, "plateau")
    assert {s.key: s.source for s in resolve(file, grid=grid)}["batch_size"] == "grid"
    assert resolve_recipe(file, grid=grid, model="resnet18").schedule == "cosine"


@pytest.mark.parametrize(
    ("settings", "key", "why"),
    [
        (["focal_gamma=3"], "focal_gamma", "belongs to loss focal, and loss is cross_entropy"),
        (["step_epochs=5", "schedule=cosine"], "step_epochs", "schedule step, and schedule is cosine"),
        (["restart_growth=2"], "restart_growth", "cosine_restarts"),
        (["plateau_patience=2"], "plateau_patience", "schedule plateau"),
        (["momentum=0.5", "optimizer=adam"], "momentum", "optimizer sgd or nesterov or muon, and optimizer is adam"),
        (["class_counts=original", "loss=focal"], "class_counts", "loss weighted or effective"),
        (["logit_tau=2"], "logit_tau", "balanced_softmax"),
        (["unfreeze_epoch=3"], "unfreeze_epoch", "frozen_stages, which is 0"),
        (["train_norms=true"], "train_norms", "frozen_stages, which is 0"),
        (["weights=hub", "frozen_stages=1", "unfreeze_epoch=9", "epochs=8"], "unfreeze_epoch", "there are 8 epochs"),
    ],
)
def test_a_flag_that_changes_nothing_is_refused_and_in_a_file_named(
    tmp_path: Path, settings: list[str], key: str, why: str
) -> None:
    with pytest.raises(UsageError, match=rf"^{key} = \S+ would change nothing: .*{why}.* Leave it out"):
        checked_recipe(resolve(None, settings))
    file = tmp_path / "r.toml"
    file.write_text("".join(f"{k} = {_toml(v)}\n" for text in settings for k, v in parse_flag(text).items()))
    with pytest.warns(NoEffect, match=rf"^{key} = \S+ of the recipe file would change nothing: .*{why}"):
        assert checked_recipe(resolve(file)) == resolve_recipe(None, settings)


def test_commands_say_what_would_change_nothing(tmp_path: Path) -> None:
    file = tmp_path / "best.toml"
    file.write_text('step_epochs = 5\ntuned = "study x, 30 trials"\n')
    for command in (["train", "--store", tmp_path], ["config", "show"]):
        done = run(*command, "--set", "focal_gamma=3")
        assert done.exit_code == 2
        assert "error: focal_gamma = 3.0 would change nothing" in done.stderr
        done = run(*command, "--recipe", file, "--set", "tuned=")
        assert done.exit_code == 2
        assert "says who chose this recipe" in done.stderr
    done = run("config", "show", "--recipe", file)
    assert done.exit_code == 0
    assert "warning: step_epochs = 5 of the recipe file would change nothing" in done.stderr


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("split=kfold:5:9", "expected kfold:K:I"),
        ("split=offical", "Did you mean 'official'"),
        ("model=timm:", "expected timm:NAME"),
        ("model=mine.py:", "expected FILE.py:FUNCTION"),
        ("model=mine.py:two words", "expected FILE.py:FUNCTION"),
    ],
)
def test_config_show_refuses_what_train_would_refuse(setting: str, said: str) -> None:
    done = run("config", "show", "--set", setting)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr


@pytest.mark.parametrize("setting", ["split=kfold:5:4", "model=timm:resnet26d", "model=/a:b/mine.py:build"])
def test_config_show_takes_what_train_may_take(setting: str) -> None:
    done = run("config", "show", "--set", setting)
    assert done.exit_code == 0
    assert setting.partition("=")[2] in done.stdout


def test_what_changes_something_or_was_nobodys_setting_is_taken(tmp_path: Path) -> None:
    """Defaults of the key and of the model, written out as a run's recipe.toml has them, are nobody's."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for settings in (
            ["focal_gamma=2.0"],
            ["focal_gamma=3", "loss=focal"],
            ["effective_beta=0.9", "loss=ldam"],
            ["weights=hub", "frozen_stages=1", "unfreeze_epoch=8", "epochs=8"],
            ["model=mobilenet_compact", "schedule=cosine"],
            ["model=vit_base_patch16_224", "weights=none"],
        ):
            recipe = checked_recipe(resolve(None, settings))
            file = tmp_path / "r.toml"
            file.write_text(recipe.to_toml())
            assert checked_recipe(resolve(file)) == recipe


@pytest.mark.parametrize("key", list(RANGES))
def test_out_of_range_says_both_ends(key: str) -> None:
    low, high, text = RANGES[key]
    first, *rest = re.split(r" to (?:below )?| or more", re.sub(r" \(.*?\)", "", text))
    assert float(first) == low
    last = float(rest[0] or "inf")
    assert last == (high - 1 if type(getattr(Recipe, key)) is int and high < float("inf") else high)
    with pytest.raises(UsageError, match=re.escape(f"expected {text}.")):
        Recipe(**{key: type(getattr(Recipe, key))(low - 1)})


def test_a_short_training_of_a_model_that_warms_up_does_without() -> None:
    assert resolve_recipe(model="resnet18").warmup_epochs > 0
    assert resolve_recipe(model="resnet18", epochs=1).warmup_epochs == 0
