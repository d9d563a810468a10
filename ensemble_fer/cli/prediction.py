"""``predict``: the fused graph on pictures, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensemble_fer.cli.options import DEFAULT_STORE, JsonOption, StoreOption, open_store
from ensemble_fer.cli.output import percent, print_json, print_table, remark


def add_to(app: typer.Typer) -> None:
    app.command("predict", epilog="Example:  ensemble-fer predict face.jpg --json")(predict)


def predict(
    pictures: Annotated[list[Path], typer.Argument(help="Image files of any size and mode.", metavar="PICTURE...")],
    ensemble: Annotated[
        str | None, typer.Option("--ensemble", help="Ensemble by name or id: the newest.", metavar="NAME")
    ] = None,
    graph: Annotated[
        Path | None, typer.Option("--graph", help="An ONNX file made by fuse, instead.", metavar="ONNX")
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Processor threads: all there are.", metavar="N")
    ] = None,
    as_json: JsonOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Say which expression pictures show, in the order given. Runs in onnxruntime alone."""
    from ensemble_fer.app.prediction import predict as run_predict

    if graph is None:
        graph = ensemble_graph(store, ensemble)
    found = run_predict(pictures, graph=graph, threads=threads)
    if as_json:
        print_json(found)
        return
    rows = [
        [item["path"], face["label"], percent(max(face["probabilities"].values()))]
        for item in found
        for face in item["faces"]
    ]
    print_table("", ["picture", "expression", "per cent"], rows)


def ensemble_graph(store: Path, name: str | None) -> Path:
    """The ONNX file of an ensemble of the store; of the newest if no name is given."""
    from ensemble_fer.errors import MissingError

    opened = open_store(store)
    if name is not None:
        found = opened.get("ensemble", name)
        if "ensemble.onnx" not in found.manifest["files"]:
            raise MissingError(f"ensemble {name} has no graph: some of its members are predictions made elsewhere.")
        return found.file("ensemble.onnx")
    known = [each for each in opened.all("ensemble") if "ensemble.onnx" in each.manifest["files"]]
    if not known:
        raise MissingError(
            f"no ensemble in store {store}. Fuse one:  ensemble-fer fuse RUN RUN RUN\n"
            "or make everything on synthetic faces:  ensemble-fer demo"
        )
    newest = known[-1]
    others = f"; of {len(known)}, another with --ensemble NAME" if len(known) > 1 else ""
    remark(f"answered by ensemble {opened.name_of(newest)} ({newest.id}), the newest{others}")
    return newest.file("ensemble.onnx")
