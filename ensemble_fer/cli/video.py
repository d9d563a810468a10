"""``video``: faces followed through a video or before a camera."""

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
    check_written,
)
from ensemble_fer.cli.output import percent, print_json, print_table, remark
from ensemble_fer.cli.prediction import chosen_graph


def add_to(app: typer.Typer) -> None:
    app.command("video", epilog="Example:  ensemble-fer video talk.mp4 --annotate out.mp4 --csv out.csv")(video)


def video(
    source: Annotated[
        str, typer.Argument(help="A video file, or camera for the first camera (camera:1 ...).", metavar="FILE|camera")
    ],
    annotate: Annotated[
        Path | None, typer.Option("--annotate", help="Write the video with boxes and labels.", metavar="MP4|AVI")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Write a line for each face and frame.", metavar="CSV")
    ] = None,
    ensemble: EnsembleOption = None,
    graph: GraphOption = None,
    every: Annotated[
        int, typer.Option("--every", min=1, help="Frames from one search for faces to the next.", metavar="N")
    ] = 10,
    smallest: Annotated[
        float | None,
        typer.Option("--smallest", min=12, help="Smallest face: a tenth of the frame's side.", metavar="PIXELS"),
    ] = None,
    smoothing: Annotated[
        float, typer.Option("--smoothing", min=0, help="Average over so many seconds.", metavar="SECONDS")
    ] = 0.4,
    threshold: ThresholdOption = None,
    seconds: Annotated[
        float | None, typer.Option("--seconds", help="Stop after so many seconds.", metavar="SECONDS")
    ] = None,
    threads: GraphThreadsOption = None,
    as_json: JsonOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Follow faces through a video or before a camera, and say at each moment which expression each shows.

    Ctrl-C ends it; what was written until then is complete. Sound is left out.
    """
    from ensemble_fer.app.video import video as run_video
    from ensemble_fer.errors import UsageError

    given: str | int = source
    if source == "camera" or source.startswith("camera:"):
        number = source.removeprefix("camera").removeprefix(":") or "0"
        if not (number.isascii() and number.isdecimal() and len(number) < 5):
            raise UsageError(f"{source}: expected camera, or camera:N with N from 0.")
        given = int(number)
    check_written(store, [("--annotate", annotate), ("--csv", csv)])
    found = run_video(
        given,
        graph=chosen_graph(store, ensemble, graph),
        annotate=annotate,
        table=csv,
        every=every,
        smallest=smallest,
        smoothing=smoothing,
        threshold=threshold,
        seconds=seconds,
        threads=threads,
        quiet=False,
    )
    for out, what in ((csv, "table"), (annotate, "drawn")):
        if out is not None:
            remark(f"{what}: {out}")
    if as_json:
        print_json(found)
    else:
        title = "{frames} frames of {0} x {1}, {faces} faces, {fps} frames a second".format(*found["size"], **found)
        print_table(
            title, ["expression", "per cent of all faces"], [[k, percent(v)] for k, v in found["shares"].items()]
        )
    if not found["whole"]:
        of = f" of {found['declared']} that it says it has" if found["declared"] else ""
        remark(f"warning: {source} gave no more than {found['frames']} frames{of}; it is damaged, or was cut off")
    if found["interrupted"]:
        remark("interrupted; what was written until then is complete")
        raise typer.Exit(130)
