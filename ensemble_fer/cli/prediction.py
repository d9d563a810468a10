"""``predict``: the fused graph on pictures, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensemble_fer.cli.options import (
    DEFAULT_STORE,
    EnsembleOption,
    GraphOption,
    GraphThreadsOption,
    JsonOption,
    StoreOption,
    ThresholdOption,
    open_store,
)
from ensemble_fer.cli.output import percent, print_json, print_table, remark


def add_to(app: typer.Typer) -> None:
    app.command("predict", epilog="Example:  ensemble-fer predict face.jpg --json")(predict)


def predict(
    pictures: Annotated[
        list[Path], typer.Argument(help="Image files of any size and mode, or one folder.", metavar="PICTURE...")
    ],
    ensemble: EnsembleOption = None,
    graph: GraphOption = None,
    threshold: ThresholdOption = None,
    annotate: Annotated[
        Path | None, typer.Option("--annotate", help="Draw boxes and labels: a PNG, or a folder.", metavar="PNG|FOLDER")
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write a line for each face.", metavar="CSV")] = None,
    threads: GraphThreadsOption = None,
    as_json: JsonOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Find the faces in pictures and say which expression each shows. Runs in onnxruntime alone.

    A picture of at most 64 pixels, or one in which no face is found, is used whole. In a folder bad pictures are passed
    over, and named.
    """
    from ensemble_fer.app.prediction import predict as run_predict

    if annotate is not None:
        check_annotate(annotate, pictures)
    found = run_predict(
        pictures, graph=chosen_graph(store, ensemble, graph), threshold=threshold, threads=threads, quiet=False
    )
    bad = [item for item in found if item.get("problem")]
    for item in bad[:10]:
        remark(f"passed over {item['path']}: {item['problem']}")
    if len(bad) > 10:
        remark(f"passed over {len(bad) - 10} more")
    write_outputs(found, annotate, csv)
    if as_json:
        print_json(found)
        return
    rows = [
        [item["path"], face["label"], percent(max(face["probabilities"].values())), *_where(face)]
        for item in found
        for face in item["faces"]
    ]
    print_table("", ["picture", "expression", "per cent", "face", ""], rows)


def _where(face: dict) -> tuple[str, str]:
    """Box and remarks of a face in words."""
    box = "{}, {} to {}, {}".format(*face["box"]) if face["found"] else "none found: used whole"
    return box, "too unsure" if face["abstained"] else ""


def check_annotate(out: Path, pictures: list[Path]) -> None:
    """Raise unless pictures can be drawn there: a PNG for one, a folder for several, and none over its source."""
    from ensemble_fer.app.pictures import pictures_in
    from ensemble_fer.cli.options import check_png
    from ensemble_fer.errors import UsageError

    several = len(pictures) > 1 or pictures[0].is_dir()
    if several and out.suffix.lower() == ".png":
        raise UsageError(f"--annotate {out}: several pictures were given; expected a folder to draw them into.")
    if not several and not out.is_dir():
        check_png("--annotate", out)
    sources = list(pictures_in(pictures[0])) if pictures[0].is_dir() else pictures
    given = {path.resolve() for path in sources}
    over = next((path for path in drawn_at(out, [str(path) for path in sources]) if path.resolve() in given), None)
    if over is not None:
        raise UsageError(f"--annotate {out} would write over the picture {over}. Choose another place.")


def drawn_at(out: Path, sources: list[str]) -> list[Path]:
    """Where each picture is drawn: the PNG itself, or a PNG of its name in the folder."""
    if out.suffix.lower() == ".png" and not out.is_dir():
        return [out] * len(sources)
    places: list[Path] = []
    for source in sources:
        name = Path(source).stem
        while out / f"{name}.png" in places:
            name += "_"
        places.append(out / f"{name}.png")
    return places


def write_outputs(found: list[dict], annotate: Path | None, csv: Path | None) -> None:
    """The drawn pictures and the table, where they were asked for."""
    from ensemble_fer.app.drawing import save_annotated, table_of
    from ensemble_fer.files import write_atomic

    if csv is not None:
        csv.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(csv, table_of(found).encode("utf-8", "backslashreplace"))
        remark(f"table: {csv}")
    if annotate is None:
        return
    places = drawn_at(annotate, [item["path"] for item in found])
    for item, place in zip(found, places, strict=True):
        if not item.get("problem"):
            place.parent.mkdir(parents=True, exist_ok=True)
            save_annotated(item["path"], item["faces"], place)
    remark(f"drawn: {annotate}")


def chosen_graph(store: Path, ensemble: str | None, graph: Path | None) -> Path | None:
    """The ONNX file that was named, or that of the ensemble that was; None stands for the shipped ensemble."""
    from ensemble_fer.errors import MissingError, UsageError

    if ensemble is None:
        if graph is None and open_store(store).ids("ensemble"):
            remark("answered by the shipped ensemble; --ensemble NAME asks one of yours")
        return graph
    if graph is not None:
        raise UsageError("--ensemble and --graph name two answers. Give one of them.")
    found = open_store(store).get("ensemble", ensemble)
    if "ensemble.onnx" not in found.manifest["files"]:
        raise MissingError(f"ensemble {ensemble} has no graph: some of its members are predictions made elsewhere.")
    return found.file("ensemble.onnx")
