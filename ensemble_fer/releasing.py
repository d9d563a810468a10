"""The shipped ensemble, made again from its recipes: ``make released``.

Everything of ``artifacts/released`` but the recipes and the words of its card is written here: the graph in whole
numbers, its logits, what was measured. The logits of the members, and of the ensemble before whole numbers, go to the
folder of the results page. The test part is looked at only with ``--look``, when nothing is left to choose.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from ensemble_fer.config import resolve_recipe
from ensemble_fer.data.importing import load_faces
from ensemble_fer.errors import MissingError
from ensemble_fer.evaluate.predictions import load_predictions, save_predictions
from ensemble_fer.evaluate.tables import with_tables
from ensemble_fer.export.exporting import GRAPH, export
from ensemble_fer.export.fusing import RELIABILITY, fuse
from ensemble_fer.export.session import OUTPUT, open_graph
from ensemble_fer.files import write_atomic
from ensemble_fer.report import evaluate
from ensemble_fer.runtime import machine
from ensemble_fer.scoring import looked, split_of_run
from ensemble_fer.store import Artifact, Store
from ensemble_fer.train import train
from ensemble_fer.types import Predictions, Role

FOLDER = Path("artifacts/released")
PAGE = Path("docs/results/released.md")
"""Its logits lie in ``data/released`` beside it."""
PREFIX = "released-"
NAME = "released"
RULE, CALIBRATE, TTA = "mean", "ensemble", "flip"
BEGIN, END = "<!-- facts: begin -->", "<!-- facts: end -->"
ENSEMBLE, FACTS, CARD = "ensemble", "facts.json", "README.md"


def release(
    store: Store,
    folder: Path = FOLDER,
    *,
    page: Path = PAGE,
    data: str = "fer2013",
    threads: int | None = None,
    look: bool = False,
) -> dict:
    """Train the members of ``folder/recipes``, fuse them, bring the graph to whole numbers, and write what is shipped.

    Finished runs of the same recipes are answered from the store.

    Parameters
    ----------
    folder : Path
        Its ``recipes/*.toml`` are read, each for one member; all else is written but the words of its README.md.
    page : Path
        The results page. Tables of both pages are made again where they stand between marks.
    data : str
        The imported set.
    threads : int, optional
        Of the trainings.
    look : bool
        Score the test part too: one look for each member, one for the ensemble, one for the graph as it is shipped.

    Returns
    -------
    dict
        What ``facts.json`` holds: members, select scores of the ensemble (cross-fitted) and of the graph, what whole
        numbers cost, sizes, hashes, the machine.

    Raises
    ------
    MissingError
        There are no recipes, or no such set.
    """
    recipes = sorted((folder / "recipes").glob("*.toml"))
    if not recipes:
        raise MissingError(f"there are no recipes in {folder / 'recipes'}. They come with the source of ensemble-fer.")
    runs = [
        train(store, resolve_recipe(path), data=data, name=f"{PREFIX}{path.stem}", threads=threads) for path in recipes
    ]
    ensemble = fuse(store, [run.id for run in runs], rule=RULE, calibrate=CALIBRATE, tta=TTA, name=NAME)
    graph = export(store, f"ensemble:{ensemble.id}", int8=True, called=NAME)
    beside = page.parent / "data" / page.stem
    # An id says what was asked for. Another machine may make other weights of it, and then nothing kept is of these.
    same = _sha256_before(folder) == graph.manifest["files"][GRAPH]["sha256"]
    _forget_others(folder, beside, {graph.id, ensemble.id, *ensemble.inputs} if same else set())
    shutil.copyfile(graph.file(GRAPH), folder / "ensemble.onnx")
    for role in (Role.SELECT, Role.TEST) if look else (Role.SELECT,):
        _keep(store, ensemble, graph, role, folder, beside)
    shutil.copyfile(ensemble.file(RELIABILITY), beside / RELIABILITY)
    kept = ensemble.metrics
    facts = {
        "members": [path.stem for path in recipes],
        "runs": [run.id for run in runs],
        "ensemble": ensemble.id,
        "graph": graph.id,
        "rule": RULE,
        "tta": TTA,
        "parameters": kept["parameters"],
        "temperature": kept["combination"]["temperature"],
        "calibration": {
            when: {key: value for key, value in kept["calibration"]["ensemble"][when].items() if key != "bins"}
            for when in ("before", "after")
        },
        "diversity": kept["diversity"],
        "select": kept["select"],
        "graphs": graph.metrics["graphs"],
        "lost_points": graph.metrics["lost_points"],
        "size_mb": graph.metrics["size_mb"],
        "sha256": graph.manifest["files"][GRAPH]["sha256"],
        "fingerprint": store.by_id("data", runs[0].inputs[0]).spec["fingerprint"],
        "seconds": {path.stem: run.metrics.get("train_seconds") for path, run in zip(recipes, runs, strict=True)},
        "machine": machine(),
    }
    write_atomic(folder / FACTS, json.dumps(facts, indent=1) + "\n")
    for written, logits in ((folder / CARD, folder), (page, beside)):
        if written.is_file():
            before, mark, rest = with_tables(written.read_text(encoding="utf-8"), logits).partition(BEGIN)
            after = f"{mark}\n{facts_table(facts)}{END}{rest.partition(END)[2]}" if mark else ""
            write_atomic(written, before + after)
    return facts


def facts_table(facts: dict) -> str:
    """What a page shows of ``facts.json``, in Markdown."""
    before, after = facts["calibration"]["before"], facts["calibration"]["after"]
    graphs, alike = facts["graphs"], facts["diversity"]
    rows = [
        ("members, seconds of training", ", ".join(f"{name}: {took:,.0f}" for name, took in facts["seconds"].items())),
        ("rule, faces shown", f"{facts['rule']} of probabilities, {facts['tta']}"),
        ("parameters, size of the graph", f"{facts['parameters']:,}, {facts['size_mb']} MB"),
        ("temperature of the ensemble", f"{facts['temperature']:.3f}"),
        *(
            (f"{called} before, after", f"{before[key]:.3f}, {after[key]:.3f}")
            for key, called in (("ece", "ECE (15 bins)"), ("ece_null", "ECE of a perfectly calibrated ensemble"),
                                ("nll", "NLL"), ("brier", "Brier score"))
        ),
        ("two members disagree on", f"{100 * alike['disagreement']:.1f} % of the faces"),
        ("both are wrong on", f"{100 * alike['double_fault']:.1f} %"),
        ("one at least is right on", f"{100 * alike['oracle']:.1f} %"),
        *(
            (f"{called} in float32, in whole numbers", ", ".join(f"{100 * graphs[of][key]:.2f}" for of in graphs))
            for key, called in (("accuracy", "accuracy"), ("macro_f1", "macro-F1"))
        ),
        ("machine", f"{facts['machine']['cores']} cores of {facts['machine']['processor']}"),
    ]  # fmt: skip
    return "\n".join(["| on the select part | |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows)]) + "\n"


def _sha256_before(folder: Path) -> str | None:
    """Of the graph that was shipped before; None where none was."""
    path = folder / FACTS
    return json.loads(path.read_text(encoding="utf-8")).get("sha256") if path.is_file() else None


def _forget_others(folder: Path, beside: Path, sources: set[str]) -> None:
    """Remove logits of what is not shipped any more: no table may show them beside this graph."""
    for path in [*folder.glob("*.npz"), *beside.glob("*.npz")]:
        if load_predictions(path).source not in sources:
            path.unlink()


def _keep(store: Store, ensemble: Artifact, graph: Artifact, role: Role, folder: Path, beside: Path) -> None:
    """Write the logits of a part: the graph's as it is shipped to its folder, the others beside the page."""
    beside.mkdir(parents=True, exist_ok=True)
    said = evaluate(store, f"ensemble:{ensemble.id}", role=role).predictions
    names = {identity: store.name_of(store.by_id("run", identity)) for identity in ensemble.inputs}
    for identity, name in names.items():
        alone = evaluate(store, f"run:{identity}", role=role, tta=TTA).predictions
        save_predictions(beside / f"{name.removeprefix(PREFIX)}-{role}.npz", alone)
    save_predictions(beside / f"{ENSEMBLE}-{role}.npz", said)
    save_predictions(folder / f"{NAME}-{role}.npz", _of_graph(store, ensemble, graph, said, folder))


def _of_graph(store: Store, ensemble: Artifact, graph: Artifact, said: Predictions, folder: Path) -> Predictions:
    """What the graph in whole numbers says of the same faces; of the test part a look of its own, counted once."""
    before = folder / f"{NAME}-{said.role}.npz"
    if before.is_file() and (kept := load_predictions(before)).source == graph.id:
        return kept
    run = store.by_id("run", ensemble.inputs[0])
    data, split = store.by_id("data", run.inputs[0]), split_of_run(store.by_id("split", run.inputs[1]))
    test = said.role == Role.TEST
    protocol = looked(store, said.protocol, data, split, graph, TTA) if test else said.protocol
    faces = load_faces(data).images[said.rows]
    probabilities = open_graph(graph.file(GRAPH)).run(faces)[OUTPUT]
    logits = np.log(np.maximum(probabilities, 1e-30)).astype(np.float32)
    return replace(said, logits=logits, source=graph.id, protocol=protocol)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ensemble_fer.releasing", description=__doc__)
    parser.add_argument("--store", type=Path, default=Path("artifacts"))
    parser.add_argument("--data", default="fer2013")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--look", action="store_true", help="score the test part; only once nothing is left to choose")
    asked = parser.parse_args(arguments)
    facts = release(
        Store(asked.store), asked.folder, page=asked.page, data=asked.data, threads=asked.threads, look=asked.look
    )
    print(json.dumps({key: facts[key] for key in ("members", "select", "graphs", "lost_points", "size_mb")}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
