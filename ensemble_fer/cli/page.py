"""``app``: the page in the browser."""

from __future__ import annotations

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
)
from ensemble_fer.cli.output import print_json, remark
from ensemble_fer.cli.prediction import chosen_graph


def add_to(app: typer.Typer) -> None:
    app.command("app", epilog="Example:  ensemble-fer app --port 8000")(page)


def page(
    ensemble: EnsembleOption = None,
    graph: GraphOption = None,
    host: Annotated[
        str,
        typer.Option("--host", help="Who is answered: this machine alone; 0.0.0.0 is everybody.", metavar="ADDRESS"),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Where.", metavar="N")] = 7860,
    threshold: ThresholdOption = None,
    threads: GraphThreadsOption = None,
    as_json: JsonOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Serve a page for the browser: a picture or the camera, boxes, probabilities, members, and what decided.

    Until Ctrl-C. Uploads of at most 10 MB and 24 million pixels; they are removed after ten minutes.
    """
    from ensemble_fer.app.page import serve

    chosen = chosen_graph(store, ensemble, graph)

    def ready(address: str) -> None:
        remark(f"serving on {address}  (Ctrl-C ends it)")
        if as_json:
            print_json({"address": address})

    serve(chosen, host=host, port=port, threshold=threshold, threads=threads, ready=ready)
