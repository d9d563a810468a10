"""The shipped ensemble is made from its recipes by one call, and looks at the test part only when told to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ensemble_fer import releasing
from ensemble_fer.data.synthetic import synth_data
from ensemble_fer.errors import MissingError
from ensemble_fer.evaluate.predictions import load_predictions
from ensemble_fer.export import exporting
from ensemble_fer.export.session import open_graph
from ensemble_fer.releasing import FOLDER, release
from ensemble_fer.store import Store
from ensemble_fer.types import softmax

RECIPE = 'model = "compact"\nresampling = "{}"\nseed = {}\nepochs = 1\nepoch_rows = 256\n'


def test_all_of_it_from_the_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What an hour of training would make true.
    monkeypatch.setattr(exporting, "MOST_LOST", 1.0)
    store, folder = Store(tmp_path / "store"), tmp_path / "released"
    data = synth_data(store, rows=1300)
    (folder / "recipes").mkdir(parents=True)
    for method, seed in (("none", 0), ("ros", 1)):
        (folder / "recipes" / f"{method}.toml").write_text(RECIPE.format(method, seed))
    page = "# card\n\n<!-- table:scores:select -->\n\n<!-- end -->\n\n<!-- table:scores:test -->\n\n<!-- end -->\n"
    (folder / "README.md").write_text(page)
    results = tmp_path / "results" / "released.md"
    results.parent.mkdir()
    results.write_text(f"{page}\n{releasing.BEGIN}\nold\n{releasing.END}\nafter\n")
    facts = release(store, folder, page=results, data=data.id, threads=1)
    assert facts["members"] == ["none", "ros"]
    assert not (store.root / "looks.jsonl").exists() or '"role":"test"' not in (store.root / "looks.jsonl").read_text()
    assert [path.name for path in folder.glob("*.npz")] == ["released-select.npz"]
    beside = results.parent / "data" / "released"
    assert sorted(path.name for path in beside.glob("*.npz")) == [
        "ensemble-select.npz", "none-select.npz", "ros-select.npz"
    ]  # fmt: skip
    assert "| released " in (folder / "README.md").read_text()
    assert "| ensemble " in results.read_text()
    shown = f"{releasing.BEGIN}\n{releasing.facts_table(facts)}{releasing.END}\nafter\n"
    assert results.read_text().endswith(shown)
    again = release(store, folder, page=results, data=data.id, threads=1, look=True)
    assert again["runs"] == facts["runs"], "nothing is trained twice"
    kept = load_predictions(folder / "released-test.npz")
    assert kept.protocol.looks == 4, "two members, the ensemble, and the graph as it is shipped"
    said = {path.stem: load_predictions(path).source for path in folder.glob("*.npz")}
    assert set(said.values()) == {again["graph"]}
    third = release(store, folder, page=results, data=data.id, threads=1, look=True)
    assert third == again
    assert load_predictions(folder / "released-test.npz").protocol.looks == 4, "the same graph is not looked at again"
    from ensemble_fer.data.importing import load_faces

    graph = open_graph(folder / "ensemble.onnx")
    shown = graph.run(load_faces(data).images[kept.rows])["probabilities"]
    np.testing.assert_allclose(softmax(kept.logits), shown, atol=1e-4)

    # The same ids with other weights, as another machine makes them: nothing that was said before is of these.
    facts = json.loads((folder / "facts.json").read_text())
    (folder / "facts.json").write_text(json.dumps({**facts, "sha256": "0" * 64}))
    release(store, folder, page=results, data=data.id, threads=1)
    assert json.loads((folder / "facts.json").read_text()) == facts
    assert [path.name for path in folder.glob("*.npz")] == ["released-select.npz"]
    assert sorted(path.name for path in beside.glob("*.npz")) == [
        "ensemble-select.npz", "none-select.npz", "ros-select.npz"
    ]  # fmt: skip

    # Another member: what was said of the test part by the former ensemble goes from the pages.
    (folder / "recipes" / "ros.toml").rename(folder / "recipes" / "other.toml")
    (folder / "recipes" / "other.toml").write_text(RECIPE.format("ros", 5))
    release(store, folder, page=results, data=data.id, threads=1)
    assert [path.name for path in folder.glob("*.npz")] == ["released-select.npz"]
    assert sorted(path.name for path in beside.glob("*.npz")) == [
        "ensemble-select.npz", "none-select.npz", "other-select.npz"
    ]  # fmt: skip
    assert "| released " not in (folder / "README.md").read_text().partition("table:scores:test")[2]
    assert "| ros " not in results.read_text()


def test_without_recipes(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no recipes"):
        release(Store(tmp_path), tmp_path)


def test_the_recipes_of_the_shipped_ensemble_are_whole() -> None:
    from ensemble_fer.config import resolve_recipe

    recipes = [resolve_recipe(path) for path in sorted((Path(__file__).parents[1] / FOLDER / "recipes").glob("*.toml"))]
    assert len(recipes) >= 2
    assert len({(recipe.seed, recipe.resampling) for recipe in recipes}) == len(recipes)
    assert {recipe.train_on for recipe in recipes} == {"train"}
