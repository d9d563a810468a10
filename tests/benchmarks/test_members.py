"""The table of all members is what its JSON gives, and one command makes both, from where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ensemble_fer.benchmarks import members
from ensemble_fer.config import MODELS
from ensemble_fer.data.synthetic import synth_data
from ensemble_fer.store import Store

ROOT = Path(__file__).parents[2]
KEPT, PAGE = ROOT / "docs/results/data/members/members.json", ROOT / "docs/results/members.md"


def test_a_member_is_trained_once_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(members.BUDGET, "epochs", 1)
    monkeypatch.setitem(members.BUDGET, "epoch_rows", 32)
    monkeypatch.setattr(members, "TIMED", 1)
    store = Store(tmp_path / "store")
    synth_data(store, rows=300, seed=0, name="drawn")
    page = tmp_path / "page.md"
    page.write_text(f"before\n{members.BEGIN}\nold\n{members.END}\nafter\n")
    arguments = ["--store", str(store.root), "--data", "drawn", "--threads", "1", "--out", str(tmp_path / "a/out.json")]
    arguments += ["--page", str(page), "--only"]
    assert members.main([*arguments, "compact"]) == 0
    assert members.main([*arguments, "mobilenet_compact", "--no-times"]) == 0
    assert members.main([*arguments, "compact", "--no-times"]) == 0

    rows = {row["model"]: row for row in json.loads((tmp_path / "a/out.json").read_text())["rows"]}
    assert sorted(rows) == ["compact", "mobilenet_compact"]
    assert len(store.ids("run")) == 2, "trained once"
    compact = rows["compact"]
    assert compact["seconds_an_epoch"] > 0, "a time that was measured stays"
    assert "seconds_an_epoch" not in rows["mobilenet_compact"]
    assert compact["steps"] == 2
    assert compact["parameters"] == 398_223
    assert 0 <= compact["ci95"]["macro_f1"][0] <= compact["macro_f1"] <= compact["ci95"]["macro_f1"][1] <= 1
    assert compact["protocol"]["role"] == "select"
    text = page.read_text()
    assert text == f"before\n{members.BEGIN}\n\n{members.table(list(rows.values()))}\n\n{members.END}\nafter\n"
    assert f"| {compact['seconds_an_epoch']:,.0f} |" in text
    assert "Not trained yet: resnet14, vggnet, alexnet, " in text

    # What is there is neither trained nor timed again, unless it is asked for.
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    assert members.main([*arguments, "compact,mobilenet_compact", "--missing"]) == 0
    assert members.main([*arguments, "mobilenet_compact", "--only-times"]) == 0
    again = {row["model"]: row for row in json.loads((tmp_path / "a/out.json").read_text())["rows"]}
    assert again["compact"] == compact
    assert again["mobilenet_compact"]["run"] == rows["mobilenet_compact"]["run"]
    assert again["mobilenet_compact"]["seconds_an_epoch"] > 0


def test_every_member_has_the_same_budget_but_those_named() -> None:
    for model in MODELS:
        recipe = members.recipe_of(model)
        steps = recipe.epochs * recipe.epoch_rows // recipe.batch_size
        assert (steps, recipe.batch_size, recipe.epochs) == members.FEWER.get(model, (2000, 16, 4)), model
        assert (recipe.optimizer, recipe.learning_rate, recipe.weights) == ("adamw", 5e-4, "none")


def test_the_page_shows_what_was_measured() -> None:
    kept, page = json.loads(KEPT.read_text()), PAGE.read_text()
    assert members.written(page, kept["rows"]) == page
    assert {row["model"] for row in kept["rows"]} == set(MODELS)
    for row in kept["rows"]:
        assert (row["steps"], row["batch_size"]) == members.FEWER.get(row["model"], (2000, 16))[:2]
        assert row["protocol"]["role"] == "select"
        assert row["seconds_an_epoch"] > 0
