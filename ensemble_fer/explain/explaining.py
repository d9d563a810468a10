"""One picture that shows why a run or an ensemble answers as it does: of pictures, or of its surest mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.app.pictures import read_faces
from ensemble_fer.data.importing import load_faces
from ensemble_fer.ensemble import Combination, combination_from, plain
from ensemble_fer.errors import MissingError, SplitMisuse, UsageError, unknown_name
from ensemble_fer.evaluate.predictions import load_predictions
from ensemble_fer.explain.attribution import METHODS, Subject, attribute
from ensemble_fer.explain.sheets import Strip, contact_sheet
from ensemble_fer.runtime import progress
from ensemble_fer.scoring import SELECT, check_select, find_source, split_of_run
from ensemble_fer.store import Artifact, Store
from ensemble_fer.train import load_member, own_code
from ensemble_fer.types import CLASSES, softmax

SHORT = {"saliency": "saliency", "integrated_gradients": "integrated gradients", "grad_cam": "Grad-CAM", "lime": "LIME"}
MISTAKES = 4


def explain(
    store: Store,
    name: str,
    out: str | Path,
    *,
    pictures: Sequence[str | Path] = (),
    mistakes: int = MISTAKES,
    methods: Sequence[str] = (),
    beside: str | None = None,
    seed: int = 0,
    quiet: bool = False,
) -> dict:
    """Write a sheet of faces with maps of the pixels that decided.

    Parameters
    ----------
    name : str
        A run or an ensemble.
    out : path
        The PNG.
    pictures : files, optional
        Whose faces are explained, each for the class that is answered. Without them the surest mistakes of the select
        part are, for each class, and for the class that was answered in its place.
    mistakes : int
        How many for each class, 1 to 10.
    methods : sequence of str, optional
        Keys of ``METHODS``: all of them for pictures, saliency for mistakes by default.
    beside : str, optional
        A second run or ensemble, trained on another version of the same set, as aligned faces: it explains the same
        faces beside the first, as it sees them, for the class that the first answers. For the mistakes of the first.
    seed : int
        Of what LIME draws.
    quiet : bool
        Draw no progress.

    Returns
    -------
    dict
        ``path``, ``methods`` and ``faces``: for each ``label`` (None where it is not known), ``answer``,
        ``probability``, and ``row`` or ``path``.

    Raises
    ------
    UsageError
        An unknown name or method, numbers out of range, or sets that do not show the same faces.
    MissingError
        captum is not installed, a picture is not there, or a member has no weights.
    SplitMisuse
        Mistakes were asked for of something that was trained on the select part.
    """
    chosen = list(methods) or (list(METHODS) if pictures else ["saliency"])
    for method in chosen:
        if method not in METHODS:
            raise unknown_name("method of explanation", method, METHODS)
    if not 1 <= mistakes <= 10:
        raise UsageError(f"{mistakes} mistakes a class: expected 1 to 10.")
    if pictures and beside:
        raise UsageError("beside compares two sets of the same faces; pictures are in neither. Leave one of both out.")
    source = find_source(store, name)
    with own_code(runs_of(store, source), "explaining"):
        if pictures:
            rows, said = _of_pictures(store, source, pictures, chosen, seed, quiet)
        else:
            others = [find_source(store, beside)] if beside else []
            with own_code([run for other in others for run in runs_of(store, other)], "explaining"):
                rows, said = _of_mistakes(store, [source, *others], mistakes, chosen, seed, quiet)
    heads = ["face", *(SHORT[method] for method in chosen)]
    title = f"{store.name_of(source)}: the surest mistakes on the select part" if not pictures else ""
    contact_sheet(rows, heads, out, title=title)
    return {"path": str(out), "methods": chosen, "faces": said}


def runs_of(store: Store, source: Artifact) -> list[Artifact]:
    """The run itself, or the members of an ensemble."""
    return [source] if source.kind == "run" else [store.by_id("run", identity) for identity in source.inputs]


def subject_of(store: Store, source: Artifact) -> Subject:
    """What a run or an ensemble computes, for torch."""
    members = [load_member(run) for run in runs_of(store, source)]
    if source.kind == "run":
        return Subject.of_member(members[0])
    kept = source.metrics.get("combination")
    by: Combination = plain(source.spec["rule"], len(members)) if kept is None else combination_from(kept)
    return Subject(members, by, source.spec.get("tta", "none"))


def images_of(store: Store, source: Artifact) -> NDArray[np.uint8]:
    """Faces of the set that a run or an ensemble was trained on."""
    run = runs_of(store, source)[0]
    if run.inputs[0] not in store.ids("data"):
        raise MissingError(f"the set {run.inputs[0]} of run {run.id} is gone. Import it again.")
    return load_faces(store.by_id("data", run.inputs[0])).images


def _faces(store: Store, source: Artifact, first: Artifact) -> NDArray[np.uint8]:
    """The faces as a source was trained to see them; raises unless they are those of ``first``, and unseen by both."""
    check_select(store, source)
    (own, split), (wanted, part) = (
        (load_faces(store.by_id("data", run.inputs[0])), split_of_run(store.by_id("split", run.inputs[1])))
        for run in (runs_of(store, source)[0], runs_of(store, first)[0])
    )
    for of in ("labels", "usage"):
        if not np.array_equal(getattr(own, of), getattr(wanted, of)):
            raise UsageError("both must be trained on versions of one set: these do not show the same faces.")
    if np.isin(part.select_rows, split.train_rows).any():
        raise SplitMisuse(
            f"{store.name_of(source)} was trained on faces that the select part of {store.name_of(first)} holds. "
            "Train both on the same split."
        )
    return own.images


def _maps(
    subject: Subject, faces: NDArray[np.uint8], classes: NDArray[np.integer], methods: Sequence[str], seed: int
) -> list[list[NDArray[np.float32]]]:
    """For each face, a map by each method."""
    by_method = [attribute(subject, faces, classes, method, seed=seed) for method in methods]
    return [[maps[i] for maps in by_method] for i in range(len(faces))]


def _of_pictures(
    store: Store, source: Artifact, pictures: Sequence[str | Path], methods: Sequence[str], seed: int, quiet: bool
) -> tuple[list, list[dict]]:
    import torch

    subject = subject_of(store, source)
    found = read_faces(list(pictures))
    paths = [each.path for each in found for _ in each.pixels]
    faces = np.concatenate([each.pixels for each in found])
    if images_of(store, source).shape[1:] != faces.shape[1:]:
        raise UsageError("this takes aligned faces, and pictures are not aligned here. Explain its mistakes instead.")
    with torch.no_grad():
        shares = subject.scores(torch.from_numpy(faces).float()).exp().numpy()
    answers, rows, said = shares.argmax(1), [], []
    with progress(len(faces), "explain", quiet=quiet) as advance:
        for i, answer in enumerate(answers):
            (maps,) = _maps(subject, faces[i : i + 1], answers[i : i + 1], methods, seed)
            share = float(shares[i, answer])
            rows.append(("", [Strip(faces[i], maps, f"{CLASSES[answer]} {100 * share:.0f} %")]))
            said.append({"path": paths[i], "label": None, "answer": CLASSES[answer], "probability": share})
            advance(1)
    return rows, said


def _of_mistakes(
    store: Store, sources: Sequence[Artifact], count: int, methods: Sequence[str], seed: int, quiet: bool
) -> tuple[list, list[dict]]:
    first = sources[0]
    check_select(store, first)  # before its predictions, which it then has not
    predictions = load_predictions(first.file(SELECT))
    images = [_faces(store, source, first) for source in sources]
    subjects = [subject_of(store, source) for source in sources]
    shares = softmax(predictions.logits)
    answers = shares.argmax(1)
    rows, said = [], []
    with progress(len(CLASSES), "explain", quiet=quiet) as advance:
        for label, name in enumerate(CLASSES):
            wrong = np.flatnonzero((predictions.labels == label) & (answers != label))
            surest = wrong[np.argsort(-shares[wrong, answers[wrong]], kind="stable")][:count]
            strips: list[Strip] = []
            places, given = predictions.rows[surest], answers[surest]
            each = [
                _maps(subject, own[places], given, methods, seed) if len(surest) else []
                for subject, own in zip(subjects, images, strict=True)
            ]
            for i, place in enumerate(surest):
                answer, share = CLASSES[answers[place]], float(shares[place, answers[place]])
                titles = [f"{answer} {100 * share:.0f} %", *[f"same, {store.name_of(s)}"[:24] for s in sources[1:]]]
                strips += [
                    Strip(own[predictions.rows[place]], maps[i], title)
                    for own, maps, title in zip(images, each, titles, strict=True)
                ]
                row = int(predictions.rows[place])
                said.append({"row": row, "label": name, "answer": answer, "probability": share})
            rows.append((name, strips))
            advance(1)
    if not said:
        raise UsageError("there is no mistake on the select part to explain. Give pictures.")
    return rows, said
