"""``app``: the page in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensemble_fer.cli.options import DEFAULT_STORE, JsonOption, StoreOption
from ensemble_fer.cli.output import print_json, remark
from ensemble_fer.cli.prediction import chosen_graph


def add_to(app: typer.Typer) -> None:
    app.command("app", epilog="Example:  ensemble-fer app --port 8000")(page)


def page(
    ensemble: Annotated[
        str | None, typer.Option("--ensemble", help="Ensemble by name or id: the newest.", metavar="NAME")
    ] = None,
    graph: Annotated[
        Path | None, typer.Option("--graph", help="An ONNX file made by fuse or export, instead.", metavar="ONNX")
    ] = None,
    host: Annotated[
        str,
        typer.Option("--host", help="Who is answered: this machine alone; 0.0.0.0 is everybody.", metavar="ADDRESS"),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Where.", metavar="N")] = 7860,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", help="Abstain below this probability: 0.5 if calibrated, else 0.", metavar="P"),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Processor threads: all there are.", metavar="N")
    ] = None,
    as_json: JsonOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Serve a page for the browser: a picture or the camera, boxes, probabilities, members, and what decided.

    Until Ctrl-C. Uploads of at most 10 MB; they are removed after ten minutes.
    """
    from ensemble_fer.app.page import serve

    chosen = chosen_graph(store, ensemble, graph)
    address = f"http://{host}:{port}/"
    remark(f"serving on {address}  (Ctrl-C ends it)")
    if as_json:
        print_json({"address": address})
    serve(chosen, host=host, port=port, threshold=threshold, threads=threads)
