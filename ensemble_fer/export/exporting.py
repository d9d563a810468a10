"""One run or ensemble as an ONNX file: plain, simplified or in whole numbers, measured on the whole select part."""

from __future__ import annotations

import json
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.data.importing import load_faces
from ensemble_fer.errors import EnsembleFerError, MissingError, UsageError
from ensemble_fer.evaluate.metrics import summary
from ensemble_fer.evaluate.predictions import load_predictions
from ensemble_fer.export.fusing import described
from ensemble_fer.export.graph import export_onnx
from ensemble_fer.export.latency import graph_latency
from ensemble_fer.export.parity import measure, require_parity, torch_probabilities
from ensemble_fer.export.session import OUTPUT, Graph, open_graph
from ensemble_fer.export.variants import quantize, simplify
from ensemble_fer.runtime import progress
from ensemble_fer.scoring import SELECT, check_select, find_source, split_of_run
from ensemble_fer.store import Artifact, Store
from ensemble_fer.train import load_member, own_code
from ensemble_fer.types import Predictions

GRAPH, CARD = "graph.onnx", "card.json"
EXPORT_VERSION = 1
"""Raised when the same source gives another file than before."""
MOST_LOST = 0.005
"""Of accuracy on the select part: a graph in whole numbers that loses more is not kept."""
FACES = 512
"""Of the training part, that set the ranges of whole numbers."""


class NotFaster(UserWarning):
    """A graph in whole numbers that takes longer on this machine than the one it was made from."""


@dataclass(frozen=True)
class _Faces:
    """What a graph is measured on, and what sets its ranges."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    training: NDArray[np.uint8]


def export(
    store: Store,
    name: str,
    *,
    simplified: bool = False,
    int8: bool = False,
    faces: int | None = None,
    seed: int = 0,
    called: str | None = None,
    quiet: bool = False,
) -> Artifact:
    """The graph of a run or an ensemble as one file; answered from disk if it was made before.

    Every variant goes through the whole select part. A plain graph must give torch's probabilities within 1e-5, a
    simplified one those of the plain one; one in whole numbers may lose 0.5 points of accuracy.

    Parameters
    ----------
    name : str
        Of a run or an ensemble.
    simplified : bool
        Fold constants and fuse operations, by onnxsim.
    int8 : bool
        Whole numbers, see ``variants.quantize``.
    faces : int, optional
        Of the training part, drawn evenly over it, for the ranges of whole numbers; 512 by default.
    seed : int
        Of which faces.
    called : str, optional
        Reference of the graph.
    quiet : bool
        Draw no progress.

    Returns
    -------
    Artifact of kind ``graph``
        Files ``graph.onnx`` and ``card.json``. Metrics: ``variant``, ``rows_checked``, ``max_abs_diff`` and ``flips``
        against what it was made from; ``select``, the scores of the source, cross-fitted where something was fitted;
        of a changed graph ``graphs`` with the scores of both graphs on the select part ``before`` and ``after`` (which
        are to be compared, not quoted, where the ensemble was fitted on these rows) and ``lost_points`` of accuracy;
        ``latency`` and ``latency_before`` (one face, milliseconds), ``size_mb``.

    Raises
    ------
    EnsembleFerError
        Whole numbers cost more than 0.5 points of accuracy, or the graph cannot be made so; nothing is stored.
    ParityError
        The graph does not give the numbers of what it was made from.
    SplitMisuse
        The source was trained on the select part.
    """
    if faces is not None and not int8:
        raise UsageError("faces set the ranges of whole numbers, which were not asked for. Add --int8.")
    faces = FACES if faces is None else faces
    if faces < 1:
        raise UsageError(f"the ranges of whole numbers need faces; found {faces}.")
    source = find_source(store, name)
    check_select(store, source)
    if source.kind == "ensemble" and "ensemble.onnx" not in source.manifest["files"]:
        raise MissingError(f"ensemble {name} has no graph: some of its members are predictions made elsewhere.")
    variant = "-".join([*(["simplified"] if simplified else []), *(["int8"] if int8 else [])]) or "float32"
    spec: dict[str, Any] = {"source": source.id, "variant": variant, "version": EXPORT_VERSION}
    spec |= {"faces": faces, "seed": seed} if int8 else {}

    def write(folder: Path) -> dict:
        with progress(4, f"export {variant}", quiet=quiet) as advance, tempfile.TemporaryDirectory() as apart:
            given = _faces_of(store, source, faces, seed)
            plain = Path(apart) / "plain.onnx"
            checked = _plain(store, source, given.images, plain)
            advance(1)
            steps = [plain]
            for wanted, make in ((simplified, simplify), (int8, lambda a, b: quantize(a, b, given.training))):
                if wanted:
                    steps.append(Path(apart) / f"{len(steps)}.onnx")
                    make(steps[-2], steps[-1])
                advance(1)
            changed = _measured(open_graph(plain), open_graph(steps[-1]), given, variant) if len(steps) > 1 else {}
            found = {**checked, **changed}
            (folder / GRAPH).write_bytes(steps[-1].read_bytes())
            advance(1)
        size = round((folder / GRAPH).stat().st_size / 1e6, 2)
        metrics = {"source": store.name_of(source), "variant": variant, **found, "size_mb": size}
        (folder / CARD).write_text(json.dumps(metrics, indent=1))
        return metrics

    return store.put("graph", spec, [source.id], write, name=called)


def _faces_of(store: Store, source: Artifact, count: int, seed: int) -> _Faces:
    """Faces of the select part with their labels, and some of the training part."""
    run = source if source.kind == "run" else store.by_id("run", source.inputs[0])
    images = load_faces(store.by_id("data", run.inputs[0])).images
    said = load_predictions(source.file(SELECT))
    rows = split_of_run(store.by_id("split", run.inputs[1])).train_rows
    drawn = np.random.default_rng(seed).permutation(rows)[:count]
    return _Faces(images[said.rows], said.labels, images[np.sort(drawn)])


def _plain(store: Store, source: Artifact, images: NDArray[np.uint8], path: Path) -> dict:
    """Write the graph as ``fuse`` made it, or of one run, and what is to be said of it."""
    if source.kind == "ensemble":
        path.write_bytes(source.file("ensemble.onnx").read_bytes())
        found = {key: source.metrics[key] for key in ("rows_checked", "max_abs_diff", "flips")}
        said = load_predictions(source.file(SELECT))
    else:
        found, said = _of_run(store, source, images, path), load_predictions(source.file(SELECT))
    latency = graph_latency(path)
    scores = {"select": summary(said.labels, said.logits), "protocol": said.protocol.to_dict()}
    return {**found, **scores, "lost_points": 0.0, "latency": latency, "latency_before": latency}


def _of_run(store: Store, run: Artifact, images: NDArray[np.uint8], path: Path) -> dict:
    """Export one run and compare it with torch."""
    members = {store.name_of(run): load_member(run)}
    said: Predictions = load_predictions(run.file(SELECT))
    about = {"members": [described(store.name_of(run), run)], "stamp": said.protocol.to_dict(), "rule": "mean"}
    with own_code([run], "exporting"):
        export_onnx(members, path, about, shape=images.shape[1:])
        parity = require_parity(measure(open_graph(path), torch_probabilities(members, images), images), said.rows)
    return {key: parity[key] for key in ("rows_checked", "max_abs_diff", "flips")}


def _measured(before: Graph, after: Graph, given: _Faces, variant: str) -> dict:
    """A changed graph beside the one it was made from, on every face of the select part."""
    expected = {name: p.astype(np.float64) for name, p in before.run(given.images).items()}
    parity = measure(after, expected, given.images)
    if "int8" not in variant:
        require_parity(parity)
    scores = [
        summary(given.labels, np.log(np.maximum(graph.run(given.images)[OUTPUT], 1e-30))) for graph in (before, after)
    ]
    lost = scores[0]["accuracy"] - scores[1]["accuracy"]
    if lost > MOST_LOST:
        was, now = (100 * each["accuracy"] for each in scores)
        raise EnsembleFerError(
            f"in whole numbers this graph loses {100 * lost:.1f} points of accuracy on {len(given.labels):,} select "
            f"rows ({was:.1f} to {now:.1f} %); at most {100 * MOST_LOST:.1f} are allowed. Nothing was stored. Networks "
            "of depthwise convolutions suffer most; more --faces may help."
        )
    times = [graph_latency(graph) for graph in (before, after)]
    if "int8" in variant and times[1]["ms"] > times[0]["ms"]:
        was, now = (each["ms"] for each in times)
        warnings.warn(
            f"in whole numbers this graph is not faster here: {now:.2f} ms a face, {was:.2f} before.",
            NotFaster,
            stacklevel=4,
        )
    found = {key: parity[key] for key in ("rows_checked", "max_abs_diff", "flips")}
    return {
        **found,
        "graphs": dict(zip(("before", "after"), scores, strict=True)),
        "lost_points": 100 * lost,
        "latency": times[1],
        "latency_before": times[0],
    }
