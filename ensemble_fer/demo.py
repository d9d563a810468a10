"""The whole path on synthetic faces, by the same library calls that real work uses.

It shows that everything runs here and what comes out of each step. Its scores are of drawn faces and say
nothing about FER2013.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ensemble_fer.store import Artifact, Store
from ensemble_fer.types import CLASSES

METHODS = ("ros", "smote", "smote_tomek")
ROWS = 2500
EPOCHS = 10
# Of each member: the demo is to end within five minutes on two cores.
EPOCH_ROWS = 2500
PICTURES = 7


def run_demo(
    store: Store,
    *,
    rows: int = ROWS,
    epochs: int = EPOCHS,
    epoch_rows: int = EPOCH_ROWS,
    seed: int = 0,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Draw faces, audit, balance three ways, train three members, fuse, predict, and rank everything.

    Parameters
    ----------
    store : Store
        Where everything goes. Run again, what is there already is not made again.
    rows : int
        Synthetic faces, 200 or more.
    epochs, epoch_rows : int
        Of each member's training.
    seed : int
        Of the faces, the resamplings and the members.
    say : callable, optional
        Is given one line at the begin of each step.

    Returns
    -------
    dict
        ``data`` and ``audit``; ``members`` ``[{name, resampling, rows, select_macro_f1, macro_f1, accuracy}]``;
        ``ensemble`` with its scores, ``onnx``, ``rows_checked``, ``max_abs_diff`` and ``flips``;
        ``predictions`` (as ``predict``) with ``true`` labels; ``leaderboard``; ``files`` ``{what: path}``;
        ``seconds``.
    """
    from ensemble_fer.app.prediction import predict
    from ensemble_fer.config import resolve_recipe
    from ensemble_fer.data.audit import audit
    from ensemble_fer.data.importing import load_faces
    from ensemble_fer.data.showing import show_faces
    from ensemble_fer.data.synthetic import synth_data
    from ensemble_fer.evaluate.figures import confusion_figure
    from ensemble_fer.export.fusing import fuse
    from ensemble_fer.leaderboard import leaderboard
    from ensemble_fer.report import evaluate
    from ensemble_fer.resample import make_resampling
    from ensemble_fer.train import train

    step = say or (lambda line: None)
    started = time.perf_counter()
    folder = store.root / "demo"
    folder.mkdir(parents=True, exist_ok=True)

    step(f"drawing {rows:,} synthetic faces, with twins and label conflicts planted among them")
    data = synth_data(store, rows=rows, seed=seed)
    faces = load_faces(data)
    show_faces(faces, seed=seed).save(folder / "faces.png")

    step("looking for twins across splits")
    audited = audit(store, data, sheet=folder / "twins.png")

    members = []
    for method in METHODS:
        step(f"balancing the training part by {method} and training a member on it")
        resampling = make_resampling(store, data, method=method, seed=seed)
        assert isinstance(resampling, Artifact)
        recipe = resolve_recipe(model="compact", resampling=method, seed=seed, epochs=epochs, epoch_rows=epoch_rows)
        run = train(store, recipe, data=store.name_of(data), name=f"demo-{method}")
        members.append((method, resampling, run))

    step("scoring the members on the test part")
    scored = []
    for method, resampling, run in members:
        report = evaluate(store, run.id).report
        scored.append(
            {
                "name": store.name_of(run),
                "resampling": method,
                "rows": resampling.metrics["rows"],
                "select_macro_f1": run.metrics["select"]["macro_f1"],
                "macro_f1": report.macro_f1,
                "accuracy": report.accuracy,
            }
        )

    step("fusing the three into one graph, checked against torch")
    ensemble = fuse(store, [run.id for _, _, run in members], name="demo-ensemble")
    report = evaluate(store, ensemble.id).report
    confusion_figure(report, folder / "confusion.png", name=store.name_of(ensemble))
    graph = ensemble.file("ensemble.onnx")

    step("running the graph on pictures")
    paths, labels = write_pictures(faces, folder / "pictures")
    said = predict(paths, graph=graph)

    return {
        "data": {"name": store.name_of(data), "id": data.id, "rows": len(faces)},
        "audit": audited,
        "members": scored,
        "ensemble": {
            "name": store.name_of(ensemble),
            "id": ensemble.id,
            "macro_f1": report.macro_f1,
            "accuracy": report.accuracy,
            "onnx": str(graph),
            **{key: ensemble.metrics[key] for key in ("rows_checked", "max_abs_diff", "flips")},
        },
        "predictions": [{**item, "true": label} for item, label in zip(said, labels, strict=True)],
        "leaderboard": leaderboard(store, data=data.id),
        "files": {
            "faces": str(folder / "faces.png"),
            "sample pairs of twins": str(folder / "twins.png"),
            "confusion matrix": str(folder / "confusion.png"),
            "pictures": str(folder / "pictures"),
            "graph": str(graph),
        },
        "seconds": round(time.perf_counter() - started, 1),
    }


def write_pictures(faces: Any, folder: Path) -> tuple[list[str], list[str]]:
    """The first test face of each class as PNGs of several sizes and modes; their paths and classes."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    modes, sides = ("L", "RGB", "RGBA", "P"), (48, 96, 200, 60)
    paths, labels = [], []
    test = faces.rows_of("PrivateTest")
    for code, name in enumerate(CLASSES[:PICTURES]):
        row = test[faces.labels[test] == code][0]
        side = sides[code % len(sides)]
        picture = Image.fromarray(faces.images[row]).resize((side, side)).convert(modes[code % len(modes)])
        path = folder / f"{name}.png"
        picture.save(path)
        paths.append(str(path))
        labels.append(name)
    return paths, labels


def account(done: dict[str, Any], store: str | Path) -> str:
    """What ``run_demo`` made, where it is, and what to type next, as a few lines of text."""
    audited, ensemble = done["audit"], done["ensemble"]
    twins = audited["twins"]["PrivateTest"]
    right = sum(item["faces"][0]["label"] == item["true"] for item in done["predictions"])
    best = max(member["macro_f1"] for member in done["members"])
    lines = [
        f"Done in {done['seconds']:.0f} s. Synthetic faces: the scores show that it works, not how well on FER2013.",
        "",
        f"  data       {done['data']['rows']:,} drawn faces; {twins['rows']} test faces have a twin in training "
        f"(planted, and found), {audited['conflicts']} label conflicts",
        *(
            f"  member     {m['name']}: {m['rows']:,} rows, test macro-F1 {100 * m['macro_f1']:.1f}"
            for m in done["members"]
        ),
        f"  ensemble   {ensemble['name']}: test macro-F1 {100 * ensemble['macro_f1']:.1f} "
        f"(best member {100 * best:.1f}), accuracy {100 * ensemble['accuracy']:.1f}",
        f"  graph      same as torch on {ensemble['rows_checked']:,} faces: largest difference "
        f"{ensemble['max_abs_diff']:.0e}, {ensemble['flips']} other labels",
        f"  predict    {right} of {len(done['predictions'])} pictures right",
        "",
        "Where it is",
        *(f"  {what:<22} {path}" for what, path in done["files"].items()),
        f"  {'all of it':<22} ensemble-fer leaderboard --store {store}",
        "",
        "Next, with your own FER2013 (fer2013.csv from Kaggle, or folders of pictures):",
        "  ensemble-fer data import fer2013.csv",
        "  ensemble-fer data audit --sheet twins.png",
        "  ensemble-fer train --resampled ros --name a",
        "  ensemble-fer train --resampled smote --name b",
        "  ensemble-fer fuse a b --name duo",
        "  ensemble-fer evaluate duo",
        "  ensemble-fer predict face.jpg",
    ]
    return "\n".join(lines)
