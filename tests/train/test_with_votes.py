"""Trainings on annotators' votes: which rows and labels they see, what the stamp says, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ensemble_fer.config import Recipe
from ensemble_fer.data.importing import load_faces
from ensemble_fer.data.votes import join_votes, left_out, need_votes, soft_labels
from ensemble_fer.ensemble import combine
from ensemble_fer.errors import MissingError
from ensemble_fer.evaluate.predictions import load_predictions
from ensemble_fer.store import Store, need_data
from ensemble_fer.train import train
from ensemble_fer.train.preparing import prepare
from ensemble_fer.train.running import SELECT, votes_text
from tests.data.test_votes import file_of, votes_on
from tests.evaluate.examples import some_predictions

SHORT = Recipe(epochs=1, epoch_rows=32, batch_size=16, labels="votes", leave_out="no_majority")


def test_a_training_on_votes_sees_shares_and_says_so(prepared: Store, tmp_path: Path) -> None:
    data = need_data(prepared, None)
    faces = load_faces(data)
    counts = votes_on(faces)
    counts[::9] = 0
    counts[::9, 0] = counts[::9, 1] = 5  # no class has more than half of the votes
    with pytest.raises(MissingError, match="votes"):
        prepare(prepared, SHORT, quiet=True)
    join_votes(prepared, file_of(tmp_path / "votes.csv", faces, counts), data)
    _, votes = need_votes(prepared, data)

    ready = prepare(prepared, SHORT, quiet=True)
    out = left_out(votes, "no_majority")
    assert out[::9].all()
    assert ready.soft is not None
    np.testing.assert_array_equal(ready.soft, soft_labels(votes, faces.labels))
    assert set(ready.rows.parent_a) == set(ready.split.train_rows) - set(np.flatnonzero(out))
    assert len(ready.select_rows) == len(ready.split.select), "what selects keeps all its rows"

    run = train(prepared, SHORT, quiet=True, threads=1)
    stamp = load_predictions(run.file(SELECT)).protocol
    assert stamp.votes == "annotators' votes as soft labels, rows without a majority of votes left out"
    assert f"trained on train ({stamp.votes}) ·" in stamp.line()
    assert run.metrics["protocol"]["votes"] == stamp.votes


def test_what_votes_did_is_said_of_each_use_and_of_an_ensemble() -> None:
    assert votes_text(Recipe()) == ""
    assert votes_text(Recipe(labels="votes")) == "annotators' votes as soft labels"
    assert votes_text(Recipe(leave_out="not_a_face")) == "rows voted not a face left out"
    plain = some_predictions(50)
    assert "votes" not in plain.protocol.line()
    voted = replace(plain, source="other", protocol=replace(plain.protocol, votes="annotators' votes as soft labels"))
    assert combine([plain, voted]).protocol.votes == "annotators' votes as soft labels"
