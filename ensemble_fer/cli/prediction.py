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
    check_png,
    check_written,
    open_store,
)
from ensemble_fer.cli.output import percent, print_json, print_table, remark


def add_to(app: typer.Typer) -> None:
    app.command("predict", epilog="Example:  ensemble-fer predict face.jpg --json")(predict)


def predict(
    given: Annotated[
        list[str], typer.Argument(help="Image files of any size and mode, or one folder.", metavar="PICTURE...")
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
    over, and named; exit 1 if all are.
    """
    from ensemble_fer.app.prediction import predict as run_predict
    from ensemble_fer.errors import UsageError

    if not all(name.strip() for name in given):
        raise UsageError("an empty name is no picture. Name one or more files, or a folder; . is the one you are in.")
    pictures = [Path(name) for name in given]
    chosen = chosen_graph(store, ensemble, graph)
    check_places(pictures, chosen, annotate, csv, store)
    found = run_predict(pictures, graph=chosen, threshold=threshold, threads=threads, quiet=False)
    bad = [item for item in found if item.get("problem")]
    for item in bad[:10]:
        remark(f"passed over {item['path']}: {item['problem']}")
    if len(bad) > 10:
        remark(f"passed over {len(bad) - 10} more")
    write_outputs(found, annotate, csv)
    if as_json:
        print_json(found)
    else:
        _print_faces(found)
    if bad and len(bad) == len(found):
        raise typer.Exit(1)


def _print_faces(found: list[dict]) -> None:
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


def check_places(
    pictures: list[Path], graph: Path | None, annotate: Path | None, csv: Path | None, store: Path
) -> None:
    """Raise unless all that was asked for can be written: a PNG for one picture, a folder for several, and over nothing
    that is read."""
    from ensemble_fer.app.pictures import pictures_in
    from ensemble_fer.errors import UsageError

    folder = pictures[0] if len(pictures) == 1 and pictures[0].is_dir() else None
    sources = pictures_in(folder) if folder else pictures
    outputs: list[tuple[str, Path | None]] = [("--csv", csv)]
    if annotate is not None:
        several = folder is not None or len(pictures) > 1
        if several and annotate.suffix.lower() == ".png":
            raise UsageError(
                f"--annotate {annotate}: several pictures were given; expected a folder to draw them into."
            )
        if folder and annotate.resolve().is_relative_to(folder.resolve()):
            raise UsageError(
                f"--annotate {annotate} lies in {folder}: the next time its pictures would be read too. Choose a "
                "folder elsewhere."
            )
        if not several and annotate.suffix and not annotate.is_dir():
            check_png("--annotate", annotate, store)
        outputs += [("--annotate", place) for place in drawn_at(annotate, [str(path) for path in sources])]
    check_written(store, outputs, [*sources, *([graph] if graph else [])])


def drawn_at(out: Path, sources: list[str]) -> list[Path]:
    """Where each picture is drawn: the PNG itself, or a PNG of its name in the folder, with a number if it is taken."""
    if out.suffix.lower() == ".png" and not out.is_dir():
        return [out] * len(sources)
    taken: dict[str, int] = {}
    places: list[Path] = []
    for source in sources:
        name = stem = Path(source).stem
        while name in taken:
            taken[stem] += 1
            name = f"{stem}-{taken[stem]}"
        taken[name] = 1
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
        if graph is None and store.is_dir() and open_store(store).ids("ensemble"):
            remark("answered by the shipped ensemble; --ensemble NAME asks one of yours")
        return graph
    if graph is not None:
        raise UsageError("--ensemble and --graph name two answers. Give one of them.")
    found = open_store(store).get("ensemble", ensemble)
    if "ensemble.onnx" not in found.manifest["files"]:
        raise MissingError(f"ensemble {ensemble} has no graph: some of its members are predictions made elsewhere.")
    return found.file("ensemble.onnx")
