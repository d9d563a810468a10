"""How fast an ensemble is in five forms, timed in turns: torch, sessions, one graph, simplified, whole numbers."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ensemble_fer.config import MODELS, defaults_of
from ensemble_fer.errors import UsageError
from ensemble_fer.export.graph import export_onnx
from ensemble_fer.export.session import GRAY, OUTPUT, open_graph
from ensemble_fer.export.variants import quantize, simplify
from ensemble_fer.models import Member, build
from ensemble_fer.runtime import cpu_count, machine, progress
from ensemble_fer.store import Store
from ensemble_fer.train import load_member
from ensemble_fer.train.prediction import TTA

VARIANTS = ("torch", "sessions", "fused", "simplified", "int8")
BATCHES = (1, 10, 64)
MOST_AT_ONCE = 4096
WARM_UP, CALIBRATION = 3, 64
BLOCKS, REST = 8, 0.1

Call = Callable[[NDArray[np.uint8]], Any]


def bench(
    store: Store,
    members: Sequence[str],
    *,
    weights: str = "stored",
    batches: Sequence[int] = BATCHES,
    variants: Sequence[str] = VARIANTS,
    tta: str = "none",
    seconds: float = 2.0,
    threads: int | None = None,
    quiet: bool = False,
) -> dict:
    """Milliseconds and frames a second of these members together, in each form and at each batch.

    All forms take turns in blocks of an eighth of their seconds, so that what else the machine does meets all of them
    alike. Before each block is a rest and a call that is not counted: for a while after a call the threads of
    onnxruntime wait busily for the next, and would take the processors from the form whose turn it is.

    Parameters
    ----------
    members : sequence of str
        Runs by name or id; with ``weights="none"`` names of models, of which one may come several times.
    weights : str
        ``stored``, those of the runs, or ``none``: drawn ones. Speed does not depend on them.
    batches : sequence of int
        Faces a call.
    variants : sequence of str
        Some of ``VARIANTS``.
    tta : str
        As in ``fuse``, inside every form.
    seconds : float
        How long each form is timed at each batch, at least; never fewer than eight calls.
    threads : int, optional
        Of torch, and inside one operation of onnxruntime; all processors by default.

    Returns
    -------
    dict
        ``rows``, for each form and batch ``{variant, batch, calls, mean_ms, min_ms, max_ms, p50_ms, p95_ms, p99_ms,
        fps}``; ``members``, ``threads``, ``machine``, ``tta``, ``size_mb`` of each graph.

    Raises
    ------
    UsageError
        No members, an unknown form, or numbers out of range.
    """
    unknown = [name for name in variants if name not in VARIANTS]
    if unknown or not variants or not members or not batches or seconds <= 0 or tta not in TTA:
        raise UsageError(
            f"expected members, batches, some of {', '.join(VARIANTS)} and an augmentation among "
            f"{', '.join(TTA)}; found members {', '.join(members) or 'none'}, batches {list(batches)}, "
            f"{', '.join(variants)}, {tta}."
        )
    if min(batches) < 1 or max(batches) > MOST_AT_ONCE:
        raise UsageError(f"batches {list(batches)}: expected 1 to {MOST_AT_ONCE:,} faces each.")
    modules = _modules(store, members, weights)
    used = threads or cpu_count()
    before = torch.get_num_threads()
    torch.set_num_threads(used)
    try:
        with tempfile.TemporaryDirectory(prefix="ensemble-fer-") as folder:
            calls, sizes = _forms(modules, Path(folder), variants, tta, used)
            rows = _timed(calls, batches, seconds, quiet)
    finally:
        torch.set_num_threads(before)
    return {
        "rows": rows,
        "members": list(members),
        "weights": weights,
        "tta": tta,
        "threads": used,
        "machine": machine(),
        "torch": torch.__version__,
        "size_mb": sizes,
    }


def _modules(store: Store, members: Sequence[str], weights: str) -> dict[str, Member]:
    """Members by different names."""
    if weights not in ("stored", "none"):
        raise UsageError(f"weights {weights!r}: expected stored, those of runs, or none, drawn ones.")
    torch.manual_seed(0)
    made: dict[str, Member] = {}
    for position, name in enumerate(members):
        if weights == "none":
            member = build(name, float(defaults_of(name).get("dropout", 0.2)) if name in MODELS else 0.2).eval()
        else:
            run = store.get("run", name)
            if "align" in store.by_id("data", run.inputs[0]).spec:
                raise UsageError(f"run {name} takes aligned faces in colour; bench times graphs of gray ones.")
            member = load_member(run)
        made[f"{name}-{position}" if name in made else name] = member
    return made


def _forms(
    modules: Mapping[str, Member], folder: Path, variants: Sequence[str], tta: str, threads: int
) -> tuple[dict[str, Call], dict[str, float]]:
    """What is called for each form, and the size of each graph in MB."""
    calls: dict[str, Call] = {}
    paths: dict[str, Path] = {}
    if "torch" in variants:
        calls["torch"] = lambda faces: _in_torch(modules, faces, tta)
    if "sessions" in variants:
        alone = []
        for position, (name, module) in enumerate(modules.items()):
            path = folder / f"alone{position}.onnx"
            export_onnx({name: module}, path, {}, tta=tta)
            alone.append(open_graph(path, threads))
        calls["sessions"] = lambda faces: np.mean([each.run(faces, len(faces))[OUTPUT] for each in alone], axis=0)
    if {"fused", "simplified", "int8"} & set(variants):
        export_onnx(modules, folder / "fused.onnx", {}, tta=tta)
        paths["fused"] = folder / "fused.onnx"
    if "simplified" in variants:
        paths["simplified"] = folder / "simplified.onnx"
        simplify(paths["fused"], paths["simplified"])
    if "int8" in variants:
        paths["int8"] = folder / "int8.onnx"
        quantize(paths["fused"], paths["int8"], _some_faces(CALIBRATION))
    for name, path in paths.items():
        if name in variants:
            graph = open_graph(path, threads)
            calls[name] = lambda faces, graph=graph: graph.run(faces, len(faces))[OUTPUT]
    sizes = {name: round(path.stat().st_size / 1e6, 2) for name, path in paths.items()}
    return {name: calls[name] for name in VARIANTS if name in calls}, sizes


def _in_torch(modules: Mapping[str, Member], faces: NDArray[np.uint8], tta: str) -> NDArray[np.float32]:
    """The mean of the members' probabilities in eager torch."""
    given = torch.from_numpy(faces)
    with torch.inference_mode():
        each = []
        for member in modules.values():
            crops = TTA[tta](given, member.crop_of(given.shape[1]))
            each += [torch.softmax(member.of_crops(crop), dim=1) for crop in crops]
        return torch.stack(each).mean(dim=0).numpy()


def _some_faces(count: int) -> NDArray[np.uint8]:
    """Smooth random pictures, as dark and light as faces are: speed does not depend on what they show."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(30, 226, (count, 6, 6)).repeat(8, axis=1).repeat(8, axis=2)
    return np.clip(blocks + rng.normal(0, 12, (count, *GRAY)), 0, 255).astype(np.uint8)


def _timed(calls: Mapping[str, Call], batches: Sequence[int], seconds: float, quiet: bool) -> list[dict]:
    """Every form at every batch, block by block."""
    rows = []
    with progress(len(batches) * len(calls), "timing", quiet=quiet) as advance:
        for batch in batches:
            faces = _some_faces(batch)
            taken: dict[str, list[float]] = {name: [] for name in calls}
            for call in calls.values():
                for _ in range(WARM_UP):
                    call(faces)
            for _ in range(BLOCKS):
                for name, call in calls.items():
                    time.sleep(REST)
                    call(faces)
                    taken[name] += _block(call, faces, seconds / BLOCKS)
            rows += [{"variant": name, "batch": batch, **_statistics(each, batch)} for name, each in taken.items()]
            advance(len(calls))
    order = {name: position for position, name in enumerate(VARIANTS)}
    return sorted(rows, key=lambda row: (order[row["variant"]], row["batch"]))


def _block(call: Call, faces: NDArray[np.uint8], seconds: float) -> list[float]:
    """How long each call took, one at least, until they took so many seconds together."""
    taken: list[float] = []
    while sum(taken) < seconds or not taken:
        began = time.perf_counter()
        call(faces)
        taken.append(time.perf_counter() - began)
    return taken


def _statistics(seconds: list[float], batch: int) -> dict[str, Any]:
    ms = np.array(seconds) * 1e3
    p50, p95, p99 = np.percentile(ms, [50, 95, 99])
    values = {"mean": ms.mean(), "min": ms.min(), "max": ms.max(), "p50": p50, "p95": p95, "p99": p99}
    return {
        "calls": len(ms),
        **{f"{key}_ms": round(float(value), 3) for key, value in values.items()},
        "fps": round(1000 * batch / float(ms.mean()), 1),
    }


def goals(rows: Sequence[dict], batch: int = 1, *, by: str = "p50_ms") -> dict[str, float | None]:
    """Ratios of times at a batch; None where one of both was not timed.

    Parameters
    ----------
    by : str
        Which time of a row: the median, or ``min_ms``, which other work on the machine changes least.

    Returns
    -------
    dict
        ``fused_to_sessions``, of one graph over sessions in turn; ``int8_speedup``, of that graph over whole numbers.
    """
    found = {row["variant"]: row[by] for row in rows if row["batch"] == batch}

    def ratio(above: str, below: str) -> float | None:
        return round(found[above] / found[below], 3) if above in found and below in found else None

    return {"fused_to_sessions": ratio("fused", "sessions"), "int8_speedup": ratio("fused", "int8")}
