"""Runs become an ensemble: combined predictions, and one graph that was checked against torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.data.importing import load_faces
from ensemble_fer.ensemble import CALIBRATE, RULES, Fitted, diversity, fit
from ensemble_fer.ensemble.members import join_protocols
from ensemble_fer.errors import SplitMisuse, StoreError, UsageError, unknown_name
from ensemble_fer.evaluate.metrics import summary
from ensemble_fer.evaluate.predictions import load_predictions, save_predictions
from ensemble_fer.evaluate.reliability_figure import reliability_figure
from ensemble_fer.export.graph import export_onnx, output_names
from ensemble_fer.export.latency import graph_latency
from ensemble_fer.export.parity import BATCHES, SPREAD, measure, require_parity, torch_probabilities
from ensemble_fer.export.session import open_graph
from ensemble_fer.runtime import progress
from ensemble_fer.scoring import OUTSIDE, PREDICTIONS, SELECT, TTA, scored_run
from ensemble_fer.store import Artifact, Store, artifact_id, check_name
from ensemble_fer.train import load_member, own_code
from ensemble_fer.train.loading import WEIGHTS
from ensemble_fer.types import CLASSES, Predictions, Role, softmax

GRAPH, CARD, RELIABILITY = "ensemble.onnx", "card.json", "reliability.png"
SELECTING = ("weights", "greedy")
"""Rules that can give a run no weight at all."""
FUSING_VERSION = 2
"""Raised when the same runs give another graph than before."""
STORED = 1e-3
"""Most by which a stored probability may differ from what the weights give: another processor, not other weights."""


@dataclass(frozen=True)
class _Request:
    """What is to be fused, fitted and with names."""

    runs: dict[str, Artifact]
    predictions: dict[str, Predictions]
    fitted: Fitted
    tta: str


def fuse(
    store: Store,
    runs: Iterable[str],
    *,
    rule: str = "mean",
    calibrate: str = "none",
    tta: str = "none",
    select_from: bool = False,
    seed: int = 0,
    name: str | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> Artifact:
    """One ensemble of trained runs, with one ONNX graph; answered from disk if it was made before.

    What a rule fits, and temperatures, are fitted on stored predictions of the select part, see ``ensemble.fit``. The
    graph is run in onnxruntime on every select row and compared with float32 torch; it is kept only if every
    probability agrees within 1e-5 and every label is the same.

    Parameters
    ----------
    runs : names or ids of runs
        In the order in which the members stand in the graph.
    rule : str
        A key of ``ensemble.RULES``: mean, mean_logits, vote, weights, greedy, logit_adjustment or stacking.
    calibrate : str
        Whose temperatures are fitted: none, members, ensemble or both.
    tta : str
        ``none``, ``flip`` or ``ten_crop``, inside the graph; predictions with it are made where they are missing.
    select_from : bool
        Leave out the runs that the rule gives no weight.
    seed : int
        Of what the fitting draws: folds, and the bags of greedy.
    name : str, optional
        Reference of the ensemble; ``ensemble`` by default.
    device : str
        Where torch computes predictions that are missing.
    quiet : bool
        Draw no progress.

    Returns
    -------
    Artifact of kind ``ensemble``
        Files ``ensemble.onnx``, ``select.npz`` (combined predictions of the select part, cross-fitted where something
        was fitted), ``card.json`` and ``reliability.png``. Metrics: ``members``, ``rows_checked``, ``max_abs_diff``,
        ``flips``, ``parity`` (by output and batch), ``combination``, ``optimism``, ``calibration``, ``diversity``,
        ``select`` (scores), ``protocol``, ``parameters``, ``latency``, ``size_mb``. Where a member is predictions that
        were made elsewhere, there is no graph, and nothing of what is said of it.

    Raises
    ------
    UsageError
        No runs, one run twice, an unknown rule, runs of different data sets, or too few rows to fit on.
    SplitMisuse
        The runs differ in split or in select rows.
    ParityError
        The graph does not give torch's numbers; nothing is stored.
    StoreError
        A run's stored predictions are not those of its weights.
    """
    check_choices(rule, calibrate, tta, select_from)
    name = check_name(name or "ensemble")
    found = [store.get("run", run) for run in runs]
    _check_apart(found)
    _check_alike(found)
    refs = store.refs("run")
    members = {
        given if refs.get(given) == run.id else store.name_of(run): run for given, run in zip(runs, found, strict=True)
    }
    said = {name: _select_predictions(store, run, tta, device, quiet) for name, run in members.items()}
    fitted = fit(list(said.values()), rule, calibrate=calibrate, seed=seed)
    # What the members are called is not part of what the ensemble is.
    spec: dict[str, Any] = {"rule": rule, "version": FUSING_VERSION}
    spec |= {"calibrate": calibrate} if calibrate != "none" else {}
    spec |= {"tta": tta} if tta != "none" else {}
    spec |= {"seed": seed} if fitted.rows else {}
    if select_from:
        spec["candidates"] = [run.id for run in found]
        kept = fitted.combination.weights > 0
        chosen = [name for name, keep in zip(members, kept, strict=True) if keep]
        members, said = {name: members[name] for name in chosen}, {name: said[name] for name in chosen}
        stamp = join_protocols([p.protocol for p in said.values()])
        done = f"{fitted.predictions.protocol.fitted}, which chose {len(said)} of {len(found)} runs"
        predictions = replace(fitted.predictions, protocol=replace(stamp, fitted=done))
        fitted = replace(fitted, combination=fitted.combination.of(kept), predictions=predictions)
    inputs = [run.id for run in members.values()]
    identity = artifact_id("ensemble", spec, inputs)
    fitted = replace(fitted, predictions=replace(fitted.predictions, source=identity))

    def write(folder: Path) -> dict:
        return _write(store, folder, _Request(members, said, fitted, tta), identity, quiet)

    return store.put("ensemble", spec, inputs, write, name=name)


def check_choices(rule: str, calibrate: str, tta: str, select_from: bool) -> None:
    """Raise UsageError unless these choices exist and go together."""
    if rule not in RULES:
        raise unknown_name("rule of fusion", rule, RULES)
    if calibrate not in CALIBRATE:
        raise unknown_name("choice of temperatures", calibrate, CALIBRATE)
    if tta not in TTA:
        raise unknown_name("test-time augmentation", tta, TTA)
    if select_from and rule not in SELECTING:
        raise UsageError(
            f"rule {rule!r} gives every run a share, so that it selects none. "
            f"To select among runs, take --rule {' or '.join(SELECTING)}."
        )


def _select_predictions(store: Store, run: Artifact, tta: str, device: str, quiet: bool) -> Predictions:
    """What a run says of the select part, with this test-time augmentation."""
    path = run.file(SELECT)
    if tta != "none":
        path = scored_run(store, run, Role.SELECT, tta, device=device, quiet=quiet)[0].file(PREDICTIONS)
    return replace(load_predictions(path), source=run.id)


def _write(store: Store, folder: Path, asked: _Request, identity: str, quiet: bool) -> dict:
    """Everything in the folder of an ensemble; the metrics of its manifest."""
    runs, fitted, combined = asked.runs, asked.fitted, asked.fitted.predictions
    by, names = fitted.combination, {run.id: name for name, run in runs.items()}
    graph: dict[str, Any] = {}
    if not any(OUTSIDE in run.spec for run in runs.values()):
        images = load_faces(store.by_id("data", next(iter(runs.values())).inputs[0])).images[combined.rows]
        graph = _graph(folder / GRAPH, asked, images, identity, quiet)
    save_predictions(folder / SELECT, combined)
    if fitted.calibration:
        reliability_figure(fitted.calibration["ensemble"], folder / RELIABILITY, name=_called(by.rule, list(runs)))
    metrics = {
        "members": list(runs),
        "combination": by.to_dict(),
        "optimism": fitted.optimism,
        "calibration": _by_name(fitted.calibration, names),
        "diversity": diversity(list(asked.predictions.values())),
        "select": summary(combined.labels, combined.logits),
        "protocol": combined.protocol.to_dict(),
        **graph,
    }
    about = _about(runs, by.rule, identity, combined.protocol.to_dict())
    card = {**metrics, **about, "labels": list(CLASSES), "tta": asked.tta}
    (folder / CARD).write_text(json.dumps(card, indent=1))
    return metrics


def _graph(path: Path, asked: _Request, images: NDArray[np.uint8], identity: str, quiet: bool) -> dict:
    """Write the graph of an ensemble and compare it with torch; what the manifest says of it."""
    runs, combined, by = asked.runs, asked.fitted.predictions, asked.fitted.combination
    modules = {name: load_member(run) for name, run in runs.items()}
    about = _about(runs, by.rule, identity, combined.protocol.to_dict())
    small = min(SPREAD, len(images)) * (len(BATCHES) - 1)
    count = len(images) * (len(modules) + 1) + small
    with own_code(runs.values(), "fusing"), progress(count, f"fuse {len(modules)} members", quiet=quiet) as advance:
        export_onnx(modules, path, about, combination=by, tta=asked.tta, shape=images.shape[1:])
        expected = torch_probabilities(modules, images, combination=by, tta=asked.tta, advance=advance)
        _check_stored(asked.predictions, by.temperatures, expected)
        graph = open_graph(path)
        parity = require_parity(measure(graph, expected, images, advance=advance), combined.rows)
        latency = graph_latency(graph)
    return {
        **{key: parity[key] for key in ("rows_checked", "max_abs_diff", "flips")},
        "parity": parity,
        "parameters": sum(p.numel() for module in modules.values() for p in module.parameters()),
        "latency": latency,
        "size_mb": round(path.stat().st_size / 1e6, 2),
    }


def _called(rule: str, members: Sequence[str]) -> str:
    """The heading of a figure: the members by name, or how many where their names have no room."""
    named = f"{rule} of {', '.join(members)}"
    return named if len(named) <= 60 else f"{rule} of {len(members)} members"


def _by_name(calibration: dict[str, dict], names: dict[str, str]) -> dict[str, dict]:
    """The same with names of members in place of ids, and without those that were not chosen."""
    members = {names[key]: found for key, found in calibration.get("members", {}).items() if key in names}
    return {**calibration, "members": members} if calibration else {}


def _about(runs: dict[str, Artifact], rule: str, identity: str, stamp: dict) -> dict:
    """What the graph and the card say of an ensemble."""
    members = [described(name, run) for name, run in runs.items()]
    return {"rule": rule, "ensemble": identity, "members": members, "stamp": stamp}


def described(name: str, run: Artifact) -> dict:
    """What the graph and the card say of a member."""
    return {
        "name": name,
        "run": run.id,
        "recipe": run.spec["recipe"],
        "parameters": run.metrics.get("parameters"),
        "weights_sha256": run.manifest["files"].get(WEIGHTS, {}).get("sha256"),
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


def _check_stored(said: dict[str, Predictions], temperatures: NDArray[np.float64], expected: dict) -> None:
    """Raise if the scores, which come from stored logits, would not be those of the graph."""
    outputs = output_names(said)
    for (name, p), temperature in zip(said.items(), temperatures, strict=True):
        gap = float(np.abs(softmax(p.logits / temperature) - expected[outputs[name]]).max(initial=0.0))
        if not gap <= STORED:
            raise StoreError(
                f"the stored predictions of run {p.source} ({name}) are not those of its weights: probabilities differ "
                f"by {gap:.1e}, at most {STORED:.0e} expected. Remove the run and train it again."
            )
