"""The fine-tuning stage: on from a run's kept weights, for some epochs at a small rate."""

from __future__ import annotations

from typing import Any

from ensemble_fer.config import Recipe, resolve_recipe
from ensemble_fer.store import Store
from ensemble_fer.train.loading import MODULE

EPOCHS, RATE = 50, 1e-4


def finetuning_recipe(store: Store, run: str, **changes: Any) -> Recipe:
    """The recipe that goes on from a run: its own, from its kept weights, 50 epochs of a cosine from 1e-4 to 0.

    Rates, epochs and schedules are those of Khaireddin & Chen 2021 (arXiv 2105.03588, section 4.3), who take ``cosine``
    and ``cosine_restarts``, on the training part and on training and validation part together.

    Parameters
    ----------
    store : Store
    run : str
        Name or id.
    **changes
        ``Recipe`` keys that shall differ, for instance ``train_on="train+select"``; None means as above.

    Raises
    ------
    UsageError
        An unknown run, key or value.
    """
    found = store.get("run", run)
    stage = {
        "weights": f"run:{found.id}",
        "epochs": EPOCHS,
        "learning_rate": RATE,
        "schedule": "cosine",
        "warmup_epochs": 0.0,
        "patience": 0,
        "kept_epoch": "best",
        "frozen_stages": 0,
        "unfreeze_epoch": 0,
    }
    recipe = found.spec["recipe"]
    if ".py:" in recipe["model"]:
        # The code that was kept with the run, whatever has become of the file since.
        stage["model"] = f"{found.file(MODULE)}:{recipe['model'].rpartition(':')[2]}"
    given = {key: value for key, value in changes.items() if value is not None}
    return resolve_recipe(found.file("recipe.toml"), **{**stage, **given})
