"""Accuracy by annotator agreement: against a walk over rows, and where evaluate shows it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ensemble_fer.cli.evaluation import print_agreement, votes_text
from ensemble_fer.data.votes import agreement_of, is_top, join_votes, votes_of
from ensemble_fer.evaluate.agreement import by_agreement
from ensemble_fer.evaluate.metrics import score
from ensemble_fer.models import MODELS
from ensemble_fer.report import evaluate
from ensemble_fer.store import Store
from tests.data.test_votes import file_of, votes_on
from tests.evaluate.examples import some_predictions
from tests.export import making


def test_bins_against_a_walk_over_rows() -> None:
    p = some_predictions(600)
    rng = np.random.default_rng(0)
    votes = rng.integers(0, 11, 600)
    agreement = np.where(rng.random(600) < 0.1, np.nan, votes / 10)
    top = rng.random(600) < 0.7
    found = by_agreement(p, agreement, top, n_boot=200)
    said = p.logits.argmax(1) == p.labels
    expected: dict[object, list[int]] = {}
    for row in range(600):
        share = None if np.isnan(agreement[row]) else int(votes[row])
        place = share and next((low, high) for low, high in ((0, 5), (5, 7), (7, 9), (9, 10)) if share <= high)
        expected.setdefault((0, 5) if share == 0 else place, []).append(row)
    assert [one["agreement"] for one in found] == [[0, 0.5], [0.5, 0.7], [0.7, 0.9], [0.9, 1], None]
    for one in found:
        edges = one["agreement"]
        rows = expected[None if edges is None else (round(10 * edges[0]), round(10 * edges[1]))]
        assert one["rows"] == len(rows)
        assert one["accuracy"] == pytest.approx(said[rows].mean())
        assert one["ci95"][0] <= one["accuracy"] <= one["ci95"][1]
        assert one["label_is_top"] == (None if edges is None else pytest.approx(top[rows].mean()))
    assert json.loads(json.dumps(found)) == found
    assert sum(one["rows"] for one in found) == 600


def test_bins_without_rows_are_left_out() -> None:
    p = some_predictions(50)
    (one,) = by_agreement(p, np.full(50, 0.7), np.ones(50, bool), n_boot=20)
    assert one["agreement"] == [0.5, 0.7]
    assert score(p, n_boot=20).to_dict()["by_agreement"] is None


def test_evaluate_shows_it_where_votes_were_joined(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(MODELS, "tiny", making.tiny)
    run = making.untrained_run(store, "first", 0)
    before = evaluate(store, "first", role="select", quiet=True)
    assert before.report.by_agreement is None
    data = store.by_id("data", run.inputs[0])
    join_votes(store, file_of(tmp_path / "v.csv", making.face_set(), votes_on(making.face_set())), data)
    done = evaluate(store, "first", role="select", quiet=True)
    assert done.stored
    found = done.report.to_dict()["by_agreement"]
    votes = votes_of(store, data)
    assert votes is not None
    rows = done.predictions.rows
    top = is_top(votes.seven[rows], done.predictions.labels)
    assert found == by_agreement(done.predictions, agreement_of(votes)[rows], top)
    assert sum(one["rows"] for one in found) == len(rows)
    assert done.votes is not None
    print_agreement(found, votes_text(done.votes))
    shown = capsys.readouterr().out
    assert f"Accuracy by annotator agreement, votes {done.votes.id} of v.csv" in shown
    assert "70 to 90" in shown
    other = file_of(tmp_path / "w.csv", making.face_set(), votes_on(making.face_set(), seed=1))
    join_votes(store, other, data)
    now = evaluate(store, "first", role="select", quiet=True)
    assert now.votes is not None
    assert votes_text(now.votes) == f"votes {now.votes.id} of w.csv"
    assert now.votes.id != done.votes.id
    # A score that is kept can be read when the faces are gone.
    data.path.rename(tmp_path / "elsewhere")
    assert evaluate(store, "first", role="select", quiet=True).report.by_agreement is None
