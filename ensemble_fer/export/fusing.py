"""Runs become an ensemble: combined predictions, and one graph that was checked against torch."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ensemble_fer.data.importing import load_faces
from ensemble_fer.ensemble import RULES, combine
from ensemble_fer.errors import SplitMisuse, StoreError, UsageError, unknown_name
from ensemble_fer.evaluate.metrics import summary
from ensemble_fer.evaluate.predictions import load_predictions, save_predictions
from ensemble_fer.export.graph import export_onnx, output_names
from ensemble_fer.export.latency import graph_latency
from ensemble_fer.export.parity import BATCHES, SPREAD, measure, require_parity, torch_probabilities
from ensemble_fer.export.session import SIDE, open_graph
from ensemble_fer.runtime import progress
from ensemble_fer.store import Artifact, Store, artifact_id, check_name
from ensemble_fer.train import load_member, own_code
from ensemble_fer.types import CLASSES, Predictions

GRAPH, SELECT, CARD = "ensemble.onnx", "select.npz", "card.json"
IN_GRAPH = ("mean",)
"""Rules that a graph can compute."""
FUSING_VERSION = 1
"""Raised when the same runs give another graph than before."""
STORED = 1e-3
"""Most by which a stored probability may differ from what the weights give: another processor, not other weights."""


def fuse(
    store: Store, runs: Iterable[str], *, rule: str = "mean", name: str | None = None, quiet: bool = False
) -> Artifact:
    """One ensemble of trained runs, with one ONNX graph; answered from disk if it was made before.

    The graph is run in onnxruntime on every select row and compared with float32 torch; it is kept only if every
    probability agrees within 1e-5 and every label is the same.

    Parameters
    ----------
    runs : names or ids of runs
        In the order in which the members stand in the graph.
    rule : str
        ``mean``: the mean of the members' probabilities.
    name : str, optional
        Reference of the ensemble; ``ensemble`` by default.
    quiet : bool
        Draw no progress.

    Returns
    -------
    Artifact of kind ``ensemble``
        Files ``ensemble.onnx``, ``select.npz`` (combined predictions of the select part) and ``card.json``.
        Metrics: ``members``, ``rows_checked``, ``max_abs_diff``, ``flips``, ``parity`` (by output and batch),
        ``select`` (scores), ``protocol``, ``parameters``, ``latency``, ``size_mb``.

    Raises
    ------
    UsageError
        No runs, one run twice, an unknown rule, or runs of different data sets.
    SplitMisuse
        The runs differ in split or in select rows.
    ParityError
        The graph does not give torch's numbers; nothing is stored.
    StoreError
        A run's stored predictions are not those of its weights.
    """
    if rule not in IN_GRAPH:
        if rule in RULES:
            raise UsageError(
                f"rule {rule!r} combines stored predictions, but no graph computes it. Known in a graph: mean."
            )
        raise unknown_name("rule of fusion", rule, IN_GRAPH)
    name = check_name(name or "ensemble")
    found = [store.get("run", run) for run in runs]
    _check_apart(found)
    _check_alike(found)
    _check_gray(store, found[0])
    refs = store.refs("run")
    members = {
        given if refs.get(given) == run.id else store.name_of(run): run for given, run in zip(runs, found, strict=True)
    }
    # What the members are called is not part of what the ensemble is.
    spec = {"rule": rule, "version": FUSING_VERSION}
    inputs = [run.id for run in found]
    identity = artifact_id("ensemble", spec, inputs)

    def write(folder: Path) -> dict:
        return _write(store, folder, members, rule, identity, quiet)

    return store.put("ensemble", spec, inputs, write, name=name)


def _write(store: Store, folder: Path, runs: dict[str, Artifact], rule: str, identity: str, quiet: bool) -> dict:
    """Everything in the folder of an ensemble; the metrics of its manifest."""
    said = {name: replace(load_predictions(run.file(SELECT)), source=run.id) for name, run in runs.items()}
    combined = combine(list(said.values()), rule, source=identity)
    images = load_faces(store.by_id("data", next(iter(runs.values())).inputs[0])).images[combined.rows]
    modules = {name: load_member(run) for name, run in runs.items()}
    parameters = {name: sum(p.numel() for p in module.parameters()) for name, module in modules.items()}
    about = {
        "rule": rule,
        "ensemble": identity,
        "members": [_described(name, run, parameters[name]) for name, run in runs.items()],
        "stamp": combined.protocol.to_dict(),
    }
    path = folder / GRAPH
    small = min(SPREAD, len(images)) * (len(BATCHES) - 1)
    count = len(images) * (len(modules) + 1) + small
    with own_code(runs.values(), "fusing"), progress(count, f"fuse {len(modules)} members", quiet=quiet) as advance:
        export_onnx(modules, path, about)
        expected = torch_probabilities(modules, images, advance=advance)
        _check_stored(said, expected)
        graph = open_graph(path)
        parity = require_parity(measure(graph, expected, images, advance=advance), combined.rows)
        latency = graph_latency(graph)
    save_predictions(folder / SELECT, combined)
    scores = summary(combined.labels, combined.logits)
    size_mb = round(path.stat().st_size / 1e6, 2)
    checked = {key: parity[key] for key in ("rows_checked", "max_abs_diff", "flips")}
    card = {
        **about,
        "labels": list(CLASSES),
        "select": scores,
        "parity": parity,
        "latency": latency,
        "size_mb": size_mb,
    }
    (folder / CARD).write_text(json.dumps(card, indent=1))
    return {
        "members": list(runs),
        **checked,
        "parity": {key: parity[key] for key in ("outputs", "batches")},
        "select": scores,
        "protocol": combined.protocol.to_dict(),
        "parameters": sum(parameters.values()),
        "latency": latency,
        "size_mb": size_mb,
    }


def _described(name: str, run: Artifact, parameters: int) -> dict:
    """What the graph and the card say of a member."""
    return {
        "name": name,
        "run": run.id,
        "recipe": run.spec["recipe"],
        "parameters": parameters,
        "weights_sha256": run.manifest["files"]["weights.safetensors"]["sha256"],
    }


def _check_apart(runs: list[Artifact]) -> None:
    if not runs:
        raise UsageError("no run to fuse. Name one or more:  ensemble-fer fuse RUN RUN RUN")
    ids = [run.id for run in runs]
    twice = sorted({i for i in ids if ids.count(i) > 1})
    if twice:
        raise UsageError(f"run {', '.join(twice)} was named more than once. Name each member once.")


def _check_alike(runs: list[Artifact]) -> None:
    """Raise unless all runs were trained on the same split of the same data set, and have select rows."""
    first = runs[0]
    rows = [load_predictions(run.file(SELECT)).rows if SELECT in run.manifest["files"] else () for run in runs]
    without = [run.id for run, own in zip(runs, rows, strict=True) if not len(own)]
    if without:
        raise SplitMisuse(
            f"run {', '.join(without)} has no select part: no graph of it can be checked, and no score would be "
            "honest. Fuse runs that kept their select rows out of training (train_on = train)."
        )
    for other in runs[1:]:
        if first.inputs[0] != other.inputs[0]:
            raise UsageError(
                f"runs {first.id} and {other.id} were trained on different data sets ({first.inputs[0]} and "
                f"{other.inputs[0]}). Members of an ensemble must share the data set."
            )
        if first.inputs[1] != other.inputs[1]:
            names = [run.spec["recipe"].get("split", run.inputs[1]) for run in (first, other)]
            raise SplitMisuse(
                f"runs {first.id} and {other.id} were trained on different splits ({names[0]} {first.inputs[1]} and "
                f"{names[1]} {other.inputs[1]}): rows that one was trained on would count as unseen. "
                "Train the members on the same split."
            )
    for run, own in zip(runs[1:], rows[1:], strict=True):
        if not np.array_equal(own, rows[0]):
            raise SplitMisuse(
                f"runs {first.id} and {run.id} have predictions of different select rows ({len(rows[0])} and "
                f"{len(own)}). Train the members on the same split."
            )


def _check_gray(store: Store, run: Artifact) -> None:
    """Raise where the members were trained on other faces than a graph takes."""
    data = store.by_id("data", run.inputs[0])
    if "align" in data.spec:
        raise UsageError(
            f"run {run.id} was trained on aligned faces, {store.name_of(data)}: {data.spec['align']['side']} pixels "
            f"wide and in colour. A graph takes {SIDE}x{SIDE} gray faces as they were imported. Fuse runs of "
            f"{store.name_of(store.by_id('data', data.inputs[0]))}."
        )


def _check_stored(said: dict[str, Predictions], expected: dict) -> None:
    """Raise if the scores, which come from stored logits, would not be those of the graph."""
    outputs = output_names(said)
    for name, p in said.items():
        gap = float(np.abs(p.probabilities() - expected[outputs[name]]).max(initial=0.0))
        if not gap <= STORED:
            raise StoreError(
                f"the stored predictions of run {p.source} ({name}) are not those of its weights: probabilities differ "
                f"by {gap:.1e}, at most {STORED:.0e} expected. Remove the run and train it again."
            )
