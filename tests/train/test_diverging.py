"""A training whose network no longer answers with numbers ends with that, whatever its loss was."""

from __future__ import annotations

import pytest

from ensemble_fer.config import Recipe
from ensemble_fer.store import Store
from ensemble_fer.train import train
from ensemble_fer.train.loop import Diverged

# One step: its loss is that of the first weights; the step itself, by decay, makes numbers that overflow.
BROKEN = Recipe(
    epochs=1, epoch_rows=16, batch_size=16, optimizer="sgd", schedule="constant", learning_rate=0.1, weight_decay=1e38
)


@pytest.mark.parametrize("train_on", ["train", "train+select"])
def test_weights_that_broke_in_the_last_step_are_no_result(prepared: Store, train_on: str) -> None:
    with pytest.raises(Diverged, match=r"after epoch 1\. Lower learning_rate \(now 0\.1\) or weight_decay"):
        train(prepared, Recipe(**{**BROKEN.to_dict(), "train_on": train_on}), quiet=True, threads=1)
    assert prepared.ids("run") == []
