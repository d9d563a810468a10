"""``export`` and ``bench``: graphs as files, and how fast they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensemble_fer.cli.options import (
    DEFAULT_STORE,
    JsonOption,
    SeedOption,
    StoreOption,
    check_png,
    check_written,
    open_store,
    writable,
)
from ensemble_fer.cli.output import described, percent, print_json, print_table, remark, say


def add_to(app: typer.Typer) -> None:
    app.command("export", epilog="Example:  ensemble-fer export trio --int8 --out trio-int8.onnx")(export)
    app.command("bench", epilog="Example:  ensemble-fer bench --members vggnet,vggnet,vggnet --weights none")(bench)


def export(
    name: Annotated[str, typer.Argument(help="A run or an ensemble, by name or id.", metavar="RUN|ENSEMBLE")],
    int8: Annotated[
        bool, typer.Option("--int8", help="Whole numbers; refused if that loses over 0.5 points of accuracy.")
    ] = False,
    simplified: Annotated[bool, typer.Option("--simplify", help="Fold constants and fuse operations.")] = False,
    faces: Annotated[
        int | None,
        typer.Option("--faces", min=1, help="Training faces that set the ranges of whole numbers: 512.", metavar="N"),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Copy the graph here too.", metavar="ONNX")] = None,
    called: Annotated[str | None, typer.Option("--name", help="What to call the graph.", metavar="NAME")] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Write the graph of a run or an ensemble, measured on the whole select part.

    A plain graph must give torch's numbers within 1e-5, a simplified one those of the plain one.
    """
    if out is not None:
        check_onnx("--out", out, store)
    from ensemble_fer.export.exporting import export as run_export

    opened = open_store(store)
    made = run_export(opened, name, simplified=simplified, int8=int8, faces=faces, seed=seed, called=called)
    path = made.file("graph.onnx")
    if out is not None:
        from ensemble_fer.files import write_atomic

        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(out, path.read_bytes())
        path = out
    found = {**described(made, called or name), "onnx": str(path)}
    if as_json:
        print_json(found)
        return
    rows = [["one face, ms", f"{found['latency_before']['ms']:.2f}", f"{found['latency']['ms']:.2f}"]]
    if graphs := found.get("graphs"):
        for key, label in (("accuracy", "accuracy of the graph"), ("macro_f1", "macro-F1 of the graph")):
            rows.append([f"{label}, select part", percent(graphs["before"][key]), percent(graphs["after"][key])])
    print_table(f"{name}: {found['variant']}, {found['size_mb']} MB", ["", "before", found["variant"]], rows)
    if graphs and found["protocol"]["fitted"]:
        remark("the ensemble was fitted on these rows: compare the two graphs, and quote the scores of evaluate")
    rows_checked, flips = found["rows_checked"], found["flips"]
    say(f"largest difference {found['max_abs_diff']:.1e} on {rows_checked:,} rows, {flips} other labels")
    say(str(path))


def check_onnx(option: str, path: Path, store: Path) -> None:
    """Raise unless a graph can be written there; asked before the work."""
    from ensemble_fer.errors import UsageError

    if path.is_dir() or path.suffix.lower() != ".onnx":
        raise UsageError(f"{option} {path}: expected the name of a file that ends in .onnx")
    if not writable(path.parent):
        raise UsageError(f"{option} {path} cannot be written: expected a folder to write to. Choose another place.")
    check_written(store, [(option, path)])


def bench(
    members: Annotated[
        str, typer.Option("--members", help="Runs, or with --weights none models, with commas.", metavar="A,B,C")
    ],
    weights: Annotated[
        str, typer.Option("--weights", help="stored, or none: drawn ones, of which speed is the same.", metavar="W")
    ] = "stored",
    batches: Annotated[str, typer.Option("--batches", help="Faces a call, with commas.", metavar="N,…")] = "1,10,64",
    variants: Annotated[
        str, typer.Option("--variants", help="Which forms, with commas.", metavar="NAME,…")
    ] = "torch,sessions,fused,simplified,int8",
    tta: Annotated[
        str, typer.Option("--tta", help="none, flip or ten_crop, inside every form.", metavar="NAME")
    ] = "none",
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.01, help="Time for each form and batch, at least.", metavar="S")
    ] = 2.0,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Processor threads: all there are.", metavar="N")
    ] = None,
    figure: Annotated[Path | None, typer.Option("--figure", help="Write a plot as PNG.", metavar="PNG")] = None,
    as_json: JsonOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Time an ensemble as torch, as sessions in turn, as one graph, simplified, and in whole numbers.

    All forms take turns in one run. The machine should do nothing else.
    """
    from ensemble_fer.errors import UsageError

    if figure is not None:
        check_png("--figure", figure, store)
    try:
        sizes = [int(text) for text in batches.split(",")]
    except ValueError:
        raise UsageError(f"--batches {batches!r}: expected numbers with commas between, such as 1,10,64.") from None
    from ensemble_fer.export.benching import bench as run_bench
    from ensemble_fer.export.benching import goals

    names = [name.strip() for name in members.split(",") if name.strip()]
    asked = [name.strip() for name in variants.split(",") if name.strip()]
    found = run_bench(
        open_store(store),
        names,
        weights=weights,
        batches=sizes,
        variants=asked,
        tta=tta,
        seconds=seconds,
        threads=threads,
    )
    if figure is not None:
        from ensemble_fer.export.bench_figure import bench_figure

        figure.parent.mkdir(parents=True, exist_ok=True)
        bench_figure(found, figure)
    if as_json:
        print_json(found)
        return
    columns = ["form", "batch", "calls", "mean ms", "min", "max", "p50", "p95", "p99", "faces/s"]
    rows = [
        [row["variant"], row["batch"], row["calls"], *(f"{row[f'{key}_ms']:.2f}" for key in KEYS), f"{row['fps']:,.0f}"]
        for row in found["rows"]
    ]
    processor = found["machine"]["processor"]
    print_table(f"{' + '.join(names)}, {found['threads']} threads, {processor}", columns, rows)
    for batch in sizes:
        ratio = goals(found["rows"], batch)
        if ratio["fused_to_sessions"] is not None:
            say(f"batch {batch}: one graph takes {ratio['fused_to_sessions']:.2f} of the time of sessions in turn")
        if ratio["int8_speedup"] is not None:
            say(f"batch {batch}: whole numbers are {ratio['int8_speedup']:.2f} times as fast as the graph in float32")
    if figure is not None:
        remark(f"plot: {figure}")


KEYS = ("mean", "min", "max", "p50", "p95", "p99")
