"""Faces as points: near where their pixels are alike, and where a network sees them alike (t-SNE)."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ensemble_fer.data.derived import source_of
from ensemble_fer.data.importing import load_faces
from ensemble_fer.errors import UsageError
from ensemble_fer.explain.explaining import images_of, runs_of
from ensemble_fer.files import write_atomic
from ensemble_fer.models import Member
from ensemble_fer.resample import load_resampling
from ensemble_fer.resample.resampling import check_lineage
from ensemble_fer.scoring import find_source, split_of_run
from ensemble_fer.store import Artifact, Store
from ensemble_fer.train import load_member, own_code
from ensemble_fer.types import CLASSES, Kind

COMPONENTS = 50
"""To which faces and embeddings are brought by principal components before (van der Maaten & Hinton 2008)."""
FEWEST, MOST = 50, 20_000
BATCH = 256
RESAMPLING = 3
"""Where among a run's inputs the resampling is that it was trained on."""
COLOURS = ("#d7263d", "#7a9e1e", "#6f4e9c", "#e8a317", "#2f6fb3", "#e36f1e", "#6b7280")


@dataclass(frozen=True)
class Points:
    """Faces and where they lie.

    Parameters
    ----------
    pixels, embeddings : float32 [n, 2]
    labels : uint8 [n]
    synthetic : bool [n]
        Which a balancing method has made: of two faces, or copies of one, as it was or transformed.
    alike : int64 [n]
        The first point with the same pixels.
    """

    pixels: NDArray[np.float32]
    embeddings: NDArray[np.float32]
    labels: NDArray[np.uint8]
    synthetic: NDArray[np.bool_]
    alike: NDArray[np.int64]


def tsne(
    store: Store,
    name: str,
    out: str | Path,
    *,
    resampled: str | None = None,
    count: int = 2000,
    perplexity: float = 30.0,
    seed: int = 0,
) -> dict:
    """Write a picture of training faces as points, by pixels and by a run's penultimate embeddings.

    Each class has the same share as in the training set, but at least a twentieth; rows that a balancing method has
    made are drawn as crosses.

    Parameters
    ----------
    name : str
        A run; of an ensemble its first member.
    out : path
        The PNG.
    resampled : str, optional
        A resampling by name or id, whose rows are shown; by default the one that the run was trained on.
    count : int
        Faces, 50 to 20,000.
    perplexity : float
        Of t-SNE; above 0 and below a third of ``count``.
    seed : int
        Of what is drawn and of t-SNE.

    Returns
    -------
    dict
        ``path``, ``faces``, ``synthetic``, and for both maps ``neighbours``: of how many faces, in per cent, the
        nearest in the map that has other pixels is of the same class.

    Raises
    ------
    UsageError
        An unknown name, numbers out of range, or a resampling of another set.
    SplitMisuse
        The resampling holds faces that were not in training.
    """
    if not FEWEST <= count <= MOST or not 0 < perplexity < count / 3:
        raise UsageError(
            f"count {count}, perplexity {perplexity:g}: expected {FEWEST} to {MOST:,}, and above 0, below count / 3."
        )
    run = runs_of(store, find_source(store, name))[0]
    images, rows, labels, synthetic = _training_rows(store, run, resampled, count, seed)
    if len(rows) <= 3 * perplexity:
        raise UsageError(
            f"perplexity {perplexity:g}: expected below a third of the faces, of which there are {len(rows)}."
        )
    faces = images(rows)
    alike = _first_alike(faces)
    with own_code([run], "explaining"):
        inside = embeddings_of(load_member(run), faces)
    points = Points(
        _placed(faces.reshape(len(faces), -1).astype(np.float32), perplexity, seed),
        _placed(inside, perplexity, seed),
        labels,
        synthetic,
        alike,
    )
    figure(points, out, name=store.name_of(run))
    return {
        "path": str(out),
        "faces": len(labels),
        "synthetic": int(synthetic.sum()),
        "neighbours": {
            "pixels": _alike(points.pixels, labels, alike),
            "embeddings": _alike(points.embeddings, labels, alike),
        },
    }


def _training_rows(store: Store, run: Artifact, resampled: str | None, count: int, seed: int) -> tuple[Any, ...]:
    """A function that gives pixels of rows, the rows that are shown, their labels, and which are synthetic."""
    images = images_of(store, run)
    rng = np.random.default_rng(seed)
    split = split_of_run(store.by_id("split", run.inputs[1]))
    if (resampled or run.spec["recipe"]["resampling"]) == "none":
        own = split.train_rows
        labels = load_faces(store.by_id("data", run.inputs[0])).labels[own]
        shown = _drawn(labels, count, rng)
        return (lambda rows: images[own[rows]]), shown, labels[shown], np.zeros(len(shown), bool)
    stored = store.get("resampling", resampled) if resampled else store.by_id("resampling", run.inputs[RESAMPLING])
    data = store.by_id("data", run.inputs[0])
    if stored.inputs[0] not in (data.id, source_of(store, data).id):
        raise UsageError(f"resampling {store.name_of(stored)} is of another set than run {store.name_of(run)}.")
    made = load_resampling(stored)
    check_lineage(made, split)
    shown = _drawn(made.labels, count, rng)
    kinds = made.kind[shown]
    return (
        (lambda rows: made.pixels(images, rows)),
        shown,
        made.labels[shown],
        kinds != Kind.ORIGINAL,
    )


def _drawn(labels: NDArray[np.uint8], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows, each class by its share but at least a twentieth of all, as far as it has them."""
    chosen = []
    for label in range(len(CLASSES)):
        own = np.flatnonzero(labels == label)
        wanted = max(round(count * len(own) / len(labels)), count // 20)
        chosen.append(rng.permutation(own)[:wanted])
    return np.sort(np.concatenate(chosen))


def embeddings_of(member: Member, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What a member's last linear layer is given for faces uint8 [n, h, w]: float32 [n, d].

    Raises
    ------
    UsageError
        The member has no linear layer.
    """
    linear = [module for module in member.eval().body.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UsageError("this network has no linear layer, and so no embedding before it.")
    # Heads of auxiliary classifiers are not run in evaluation: the last one that is called counts.
    taken: list[torch.Tensor] = []
    hooks = [layer.register_forward_pre_hook(lambda module, given: taken.append(given[0])) for layer in linear]
    found = []
    try:
        with torch.inference_mode():
            for start in range(0, len(faces), BATCH):
                taken.clear()
                member(torch.from_numpy(np.ascontiguousarray(faces[start : start + BATCH])))
                found.append(taken[-1].flatten(1).float().numpy())
    finally:
        for hook in hooks:
            hook.remove()
    return np.concatenate(found)


def _placed(values: NDArray[np.float32], perplexity: float, seed: int) -> NDArray[np.float32]:
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    components = min(COMPONENTS, *values.shape)
    reduced = PCA(components, svd_solver="randomized", random_state=seed).fit_transform(values)
    # Beside other work its threads wait for each other longer than one alone takes.
    with threadpool_limits(1):
        return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced).astype(np.float32)


def _first_alike(faces: NDArray[np.uint8]) -> NDArray[np.int64]:
    """For each face the first with the same pixels: a copy says nothing of how faces lie."""
    first: dict[bytes, int] = {}
    return np.array([first.setdefault(face.tobytes(), number) for number, face in enumerate(faces)], np.int64)


def _alike(points: NDArray[np.float32], labels: NDArray[np.uint8], alike: NDArray[np.int64]) -> float:
    """Per cent of points whose nearest point with other pixels is of the same class; copies count once."""
    from sklearn.neighbors import NearestNeighbors

    own = np.flatnonzero(alike == np.arange(len(alike)))
    nearest = NearestNeighbors(n_neighbors=1).fit(points[own]).kneighbors(return_distance=False)[:, 0]
    return round(100 * float((labels[own] == labels[own][nearest]).mean()), 1)


def figure(points: Points, path: str | Path, *, name: str = "", dpi: int = 180) -> Path:
    """Both maps side by side as PNG, coloured by class, synthetic faces as crosses."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(10, 5.4), dpi=dpi, facecolor="white", layout="constrained")
    FigureCanvasAgg(drawn)
    panels = drawn.subplots(1, 2)
    for panel, places, title in (
        (panels[0], points.pixels, "pixels"),
        (panels[1], points.embeddings, f"embeddings of {name}" if name else "embeddings"),
    ):
        for label, (colour, word) in enumerate(zip(COLOURS, CLASSES, strict=True)):
            for mark, synthetic in (("o", False), ("x", True)):
                own = places[(points.labels == label) & (points.synthetic == synthetic)]
                style = {"linewidths": 0.6} if synthetic else {"linewidths": 0}
                known = word if not synthetic else None
                panel.scatter(*own.T, s=9, c=colour, marker=mark, alpha=0.75, label=known, **style)
        panel.set_title(f"{title}: nearest alike {_alike(places, points.labels, points.alike):.0f} %", fontsize=10)
        panel.set_xticks([])
        panel.set_yticks([])
    if points.synthetic.any():
        panels[0].scatter([], [], s=14, c="#444444", marker="x", linewidths=0.8, label="synthetic")
    handles, words = panels[0].get_legend_handles_labels()
    drawn.legend(handles, words, loc="outside lower center", ncols=8, frameon=False, fontsize=9, markerscale=2)
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="png")
    write_atomic(Path(path), buffer.getvalue())
    return Path(path)
