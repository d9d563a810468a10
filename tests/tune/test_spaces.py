"""Every recipe that a space can give is a recipe; numbers are asked for only where they have a meaning."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_fer.config import LOSSES, MODELS, SCHEDULES, NoEffect, Recipe, resolve_recipe
from ensemble_fer.errors import UsageError
from ensemble_fer.tune.choosing import points, same_as
from ensemble_fer.tune.planning import base_recipe
from ensemble_fer.tune.published import POINT, PUBLISHED
from ensemble_fer.tune.spaces import SPACES, Space, parse_spaces

# Numbers of which choice: key -> (key of the choice, values under which it has a meaning).
DEPENDENT = {
    "momentum": ("optimizer", ("sgd", "nesterov", "muon")),
    "plateau_factor": ("schedule", ("plateau",)),
    "plateau_patience": ("schedule", ("plateau",)),
    "step_epochs": ("schedule", ("step",)),
    "step_factor": ("schedule", ("step",)),
    "restart_epochs": ("schedule", ("cosine_restarts",)),
    "restart_growth": ("schedule", ("cosine_restarts",)),
    "effective_beta": ("loss", ("effective", "ldam")),
    "focal_gamma": ("loss", ("focal",)),
    "logit_tau": ("loss", ("balanced_softmax",)),
    "class_counts": ("loss", ("weighted", "effective", "balanced_softmax", "ldam")),
}


class Drawn:
    """Answers that hypothesis draws."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self.data.draw(st.sampled_from(list(choices)), name)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return self.data.draw(st.floats(low, high), name)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return self.data.draw(st.integers(low, high), name)


@pytest.mark.parametrize("name", [*SPACES, *PUBLISHED])
@pytest.mark.parametrize("base", ["compact", "vggnet", "mobilenet_compact", "balanced", "one epoch"])
def test_every_combination_is_a_recipe(name: str, base: str) -> None:
    other = {"balanced": {"resampling": "smote"}, "one epoch": {"epochs": 1}}.get(base, {"model": base})
    space = Space((name,), base_recipe((name,), None, **other))
    seen = set()
    for params in space.points():
        answers = dict(params)
        changes = space.changes(Given(answers))
        recipe = space.recipe_of(Given(answers))  # which checks names and ranges
        assert isinstance(recipe, Recipe)
        seen.add(recipe)
        assert recipe.to_dict() == {**space.recipe.to_dict(), **changes}
        for key, (choice, values) in DEPENDENT.items():
            if name in SPACES and key in changes:
                assert changes[choice] in values, f"{key} was asked for with {choice} = {changes[choice]}"
    assert len(seen) == len(space.points()), "two points give the same recipe"


class Given:
    """Answers given by name; asking for another one fails."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        assert self.params[name] in choices
        return self.params[name]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        assert low <= self.params[name] <= high
        return self.params[name]

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        assert type(self.params[name]) is int
        return int(self.suggest_float(name, low, high))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_all_spaces_together_give_recipes_for_every_model(data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(list(SPACES)), min_size=1, unique=True))
    model = data.draw(st.sampled_from(MODELS))
    base = base_recipe(tuple(names), None, model=model, epochs=data.draw(st.integers(1, 400)))
    changed = Space(tuple(names), base).changes(Drawn(data))
    recipe = Recipe(**{**base.to_dict(), **changed})
    assert {key: getattr(recipe, key) for key in changed} == changed


def test_losses_schedules_and_their_numbers_are_all_there() -> None:
    base = resolve_recipe(None, resampling="ros")
    found = {
        key for name in SPACES for p in Space((name,), base).points(2) for key in Space((name,), base).changes(Given(p))
    }
    assert found >= DEPENDENT.keys() | {"learning_rate", "weight_decay", "dropout", "label_smoothing", "mixup", "ema"}
    losses = {p["loss"] for p in Space(("loss",), base).points(2)}
    schedules = {p["schedule"] for p in Space(("schedule",), base).points(2)}
    assert losses == set(LOSSES)
    assert schedules == set(SCHEDULES)


def test_points_are_all_paths_each_once() -> None:
    def ask(chooser: Any) -> None:
        if chooser.suggest_categorical("a", ("x", "y")) == "y":
            chooser.suggest_float("rate", 0.01, 1.0, log=True)
            chooser.suggest_int("n", 1, 2)
        chooser.suggest_categorical("a", ("x", "y"))  # asked again, answered the same
        chooser.suggest_float("b", 0.0, 1.0)

    b = (0.0, 0.5, 1.0)
    wanted = [{"a": "x", "b": v} for v in b]
    wanted += [{"a": "y", "rate": r, "n": n, "b": v} for r in (0.01, 0.1, 1.0) for n in (1, 2) for v in b]
    found = list(points(ask))
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one == pytest.approx(other) if one["a"] == "y" else one == other


def test_the_first_trial_is_the_recipe_itself_where_the_space_has_it() -> None:
    space = Space(("optimizer", "schedule", "loss", "augment", "regularization", "batch"), resolve_recipe(None))
    own = space.own()
    assert own is not None
    assert space.recipe_of(Given(own)) == space.recipe
    assert Space(("batch",), resolve_recipe(None, batch_size=100)).own() is None
    assert Space(("optimizer",), resolve_recipe(None, optimizer="adagrad")).own() is None
    assert same_as(lambda chooser: chooser.suggest_float("dropout", 0.2, 0.3), resolve_recipe(None)) is None


def test_published_grids_are_theirs() -> None:
    optimizers = [PUBLISHED["khaireddin_optimizers"].points[name] for name in PUBLISHED["khaireddin_optimizers"].points]
    seven = {"sgd", "nesterov", "asgd", "adam", "amsgrad", "adadelta", "adagrad"}
    assert {(p["optimizer"], p["learning_rate"], p["schedule"]) for p in optimizers} == {
        *((o, 1e-3, "constant") for o in seven),
        *((o, 1e-2, "plateau") for o in seven),
    }
    schedules = Space(("khaireddin_schedules",), base_recipe(("khaireddin_schedules",)))
    recipes = [schedules.recipe_of(Given(p)) for p in schedules.points()]
    assert {r.schedule for r in recipes} == set(SCHEDULES)
    shared = {(r.model, r.optimizer, r.learning_rate, r.momentum, r.weight_decay, r.epochs) for r in recipes}
    assert shared == {("vggnet", "nesterov", 0.01, 0.9, 1e-4, 300)}
    assert {(r.plateau_factor, r.plateau_patience) for r in recipes} == {(0.75, 5)}
    rows = {}
    for name in ("pazos_resnet", "pazos_mobilenet"):
        space = Space((name,), base_recipe((name,)))
        found = [space.recipe_of(Given(p)) for p in space.points()]
        assert {(r.epochs, r.patience, r.schedule, r.momentum, r.batch_size) for r in found} == {
            (15, 0, "constant", 0.9, 64)
        }
        rows[found[0].model] = {(r.optimizer, r.learning_rate, r.dropout, r.weight_decay) for r in found}
    assert rows == {
        "resnet_compact": {
            ("adam", 1e-3, 0.0, 0.0),
            ("adam", 1e-3, 0.15, 0.0),
            ("adam", 1e-2, 0.15, 0.0),
            ("adam", 1e-3, 0.2, 0.0),
            ("sgd", 1e-3, 0.15, 0.0),
        },
        "mobilenet_compact": {
            ("adam", 1e-3, 0.0, 0.0),
            ("adam", 1e-3, 0.0, 1e-4),
            ("adam", 1e-3, 0.15, 0.0),
            ("adam", 1e-3, 0.15, 1e-4),
            ("sgd", 1e-3, 0.15, 1e-4),
        },
    }


def test_flags_and_file_stand_above_a_published_base(tmp_path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text("epochs = 4\nbatch_size = 32\n")
    base = base_recipe(("pazos_resnet",), file, epochs=2)
    assert (base.model, base.epochs, base.batch_size, base.schedule) == ("resnet_compact", 2, 32, "constant")
    assert base_recipe(("pazos_resnet",), model="compact").model == "compact"


@pytest.mark.parametrize(
    ("names", "flags", "said"),
    [
        (
            ("pazos_resnet",),
            {"dropout": 0.4, "epochs": 2},
            r"^dropout = 0\.4 would change nothing: all points of pazos_resnet",
        ),
        (("pazos_resnet",), {"learning_rate": 0.05}, r"^learning_rate = 0\.05 would change nothing: all points"),
        (("pazos_resnet",), {"dropout": 0.0}, r"^dropout = 0\.0 would"),  # the model's own, and not of all points
        (("khaireddin_schedules",), {"schedule": "step"}, r"^schedule = step would .*khaireddin_schedules"),
        (
            ("batch", "optimizer"),
            {"learning_rate": 0.1},
            r"^learning_rate = 0\.1 would change nothing: the space optimizer",
        ),
        (("optimizer",), {"momentum": 0.8}, r"^momentum = 0\.8 would change nothing: the space opt"),
        (("schedule",), {"step_epochs": 3}, r"^step_epochs = 3 would"),
        (("loss",), {"resampling": "ros", "class_counts": "original"}, r"^class_counts = original would"),
    ],
)
def test_a_flag_that_the_search_sets_is_refused(names: tuple[str, ...], flags: dict, said: str) -> None:
    with pytest.raises(UsageError, match=f"{said}.*Leave it out") as found:
        base_recipe(names, None, **flags)
    assert ("is the first trial" in str(found.value)) == (names[0] in SPACES), "a grid has points of its own only"


def test_flags_that_the_search_leaves_alone_are_taken() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert base_recipe(("khaireddin_schedules",), None, optimizer="adam", learning_rate=0.5).learning_rate == 0.5
        assert base_recipe(("schedule",), None, dropout=0.4, learning_rate=0.5).dropout == 0.4
        # The space may choose the loss that these belong to, or leave them alone: they are nobody's business here.
        assert base_recipe(("schedule",), None, focal_gamma=3.0).focal_gamma == 3.0


def test_a_recipe_file_is_told_what_a_published_grid_sets(tmp_path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text("dropout = 0.4\nlearning_rate = 0.001\nepochs = 3\n")  # the model's own rate is nobody's setting
    with pytest.warns(NoEffect) as said:
        assert base_recipe(("pazos_resnet",), file).epochs == 3
    assert [str(w.message) for w in said] == [
        "dropout = 0.4 of the recipe file would change nothing: all points of pazos_resnet set it."
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        base = base_recipe(("regularization",), file)
    own = Space(("regularization",), base).own()
    assert own is not None
    assert own["dropout"] == 0.4, "of an ordinary space the file's recipe is the first trial"


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ("optimiser", "Did you mean 'optimizer'"),
        ("", "no space to search"),
        ("pazos_resnet,loss", "stands alone"),
    ],
)
def test_wrong_spaces_are_refused(given_: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_spaces(given_)


def test_spaces_are_parsed() -> None:
    assert parse_spaces(" optimizer, loss,optimizer") == ("optimizer", "loss")
    assert parse_spaces(["batch"]) == ("batch",)
    assert POINT == "point"


def test_nothing_can_be_tuned_without_a_select_part() -> None:
    with pytest.raises(UsageError, match="no select part"):
        base_recipe(("loss",), None, train_on="train+select")
