"""What ``finetune`` does where nothing is said: the stage of Khaireddin & Chen 2021, section 4.3."""

from __future__ import annotations

from ensemble_fer.config import resolve_recipe
from ensemble_fer.store import Artifact, Store
from ensemble_fer.train.finetuning import finetuning_recipe

FIRST = resolve_recipe(
    model="vggnet", epochs=7, learning_rate=0.02, patience=4, warmup_epochs=1.0, seed=3, dropout=0.3, batch_size=48
)


def run_in(store: Store) -> Artifact:
    """A run of which only the recipe is asked for."""
    spec = {"recipe": FIRST.to_dict()}
    return store.put("run", spec, [], lambda into: {"n": (into / "recipe.toml").write_text(FIRST.to_toml())}, name="a")


def test_fifty_epochs_of_a_cosine_from_a_small_rate(store: Store) -> None:
    run = run_in(store)
    stage = {
        "weights": f"run:{run.id}",
        "epochs": 50,
        "learning_rate": 0.0001,
        "schedule": "cosine",
        "warmup_epochs": 0.0,
        "patience": 0,
    }
    assert finetuning_recipe(store, "a").to_dict() == {**FIRST.to_dict(), **stage}


def test_what_is_said_stands_above_the_stage(store: Store) -> None:
    run_in(store)
    found = finetuning_recipe(store, "a", epochs=3, learning_rate=None, schedule="constant")
    assert (found.epochs, found.learning_rate, found.schedule) == (3, 0.0001, "constant")
