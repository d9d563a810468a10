"""``study``: grids of runs and ensembles from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensemble_fer.cli.options import (
    DEFAULT_STORE,
    JsonOption,
    ProcessesOption,
    StorageOption,
    StoreOption,
    check_written,
    open_store,
)
from ensemble_fer.cli.output import percent, print_json, print_table, remark


def add_to(app: typer.Typer) -> None:
    study = typer.Typer(help="Grids of runs and ensembles from a file.", no_args_is_help=True, rich_markup_mode=None)
    study.command("list", epilog="Example:  ensemble-fer study list")(list_studies)
    study.command("run", epilog="Example:  ensemble-fer study run khaireddin_vggnet --scale small")(run)
    study.command("report", epilog="Example:  ensemble-fer study report leakage --scale small --out pages")(report)
    app.add_typer(study, name="study")


def list_studies(as_json: JsonOption = False, store: StoreOption = DEFAULT_STORE) -> None:
    """What studies there are, what each asks, and how much of it at scale small is in the store."""
    from ensemble_fer.study.done import done_cells
    from ensemble_fer.study.finding import known_studies
    from ensemble_fer.study.reading import read_study

    known = {name: read_study(path, "small") for name, path in known_studies().items()}
    opened = open_store(store)
    done = {name: done_cells(opened, study) for name, study in known.items()}
    if as_json:
        print_json(
            {
                name: {"title": study.title, "asks": study.asks, "small": done[name][1], "done": done[name][0]}
                for name, study in known.items()
            }
        )
        return
    rows = [[name, study.asks, done[name][1], done[name][0]] for name, study in known.items()]
    print_table("", ["study", "asks", "runs at small", "done"], rows)


def run(
    name: Annotated[str, typer.Argument(help="A study by name, or a TOML file.", metavar="NAME|TOML")],
    scale: Annotated[
        str, typer.Option("--scale", help="smoke (seconds, drawn faces), small (hours) or paper.", metavar="S")
    ] = "smoke",
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", min=1, help="Runs at once: 1, or all that a cluster has room for.", metavar="K"),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option("--ray", help="A Ray cluster: HOST:PORT, auto, or local. The store is shared.", metavar="ADDRESS"),
    ] = None,
    gpus: Annotated[
        float, typer.Option("--gpus", min=0, help="On a cluster, the share of a GPU of each run.", metavar="N")
    ] = 0,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Of each run: all there are, divided by jobs.", metavar="N")
    ] = None,
    processes: ProcessesOption = 1,
    storage: StorageOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be run.")] = False,
    as_json: JsonOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Make every run and ensemble of a study that is not there yet.

    What is done is not done again; Ctrl-C leaves what the same command goes on from; what fails is said at the end.
    """
    from ensemble_fer.runtime import cpu_count
    from ensemble_fer.study.cells import cells_of
    from ensemble_fer.study.costing import forecast
    from ensemble_fer.study.finding import study_file
    from ensemble_fer.study.reading import read_study
    from ensemble_fer.study.running import run_study
    from ensemble_fer.study.summary import summary
    from ensemble_fer.study.watching import watched

    asked = read_study(study_file(name), scale)
    cells = cells_of(asked)
    own = threads or (1 if ray else max(1, cpu_count() // (jobs or 1)))
    if dry_run:
        _forecast(forecast(open_store(store), asked, jobs=jobs or 1, threads=own), asked.title, as_json)
        return
    with watched(cells, jobs=jobs or 1) as seen:
        # One picture at a time: the table of the study, not the progress of each training.
        found = run_study(
            open_store(store), asked, jobs=jobs, ray=ray, gpus=gpus, threads=own, processes=processes, storage=storage,
            quiet=True,
            report=seen,
        )  # fmt: skip
    lines = summary(found["rows"])
    if as_json:
        print_json({**found, "arms": lines})
    else:
        _tables(asked.title, lines)
    failed = [row for row in found["rows"] if "problem" in row]
    if failed:
        remark(f"{len(failed)} of {len(cells)} failed; the same command tries them again")
        raise typer.Exit(1)


def report(
    name: Annotated[str, typer.Argument(help="A study by name, or a TOML file.", metavar="NAME|TOML")],
    scale: Annotated[str, typer.Option("--scale", help="smoke, small or paper.", metavar="S")] = "smoke",
    out: Annotated[Path, typer.Option("--out", help="Folder for the pages.", metavar="FOLDER")] = Path("report"),
    kept: Annotated[
        Path | None,
        typer.Option("--kept", help="Folder of what was gathered: written, or read with --again.", metavar="FOLDER"),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Write the pages from what was kept, without a store.")
    ] = False,
    as_json: JsonOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Write the report of a finished study as Markdown and as one HTML file that needs no network."""
    from ensemble_fer.errors import UsageError
    from ensemble_fer.study.finding import study_file
    from ensemble_fer.study.gathering import ROWS, gather, load_gathered
    from ensemble_fer.study.reading import read_study
    from ensemble_fer.study.reporting import write_report
    from ensemble_fer.study.running import last_rows

    asked = read_study(study_file(name), scale)
    # Folders: a file in each stands for those that are written there.
    check_written(store, [("--out", out / f"{asked.name}.md"), ("--kept", kept and kept / ROWS)])
    if again and kept is None:
        raise UsageError("--again reads what was kept: name its folder with --kept.")
    if again and kept is not None:
        gathered = load_gathered(kept, asked)
    else:
        opened = open_store(store)
        gathered = gather(opened, asked, last_rows(opened, asked), quiet=False)
        if kept is not None:
            gathered.save(kept)
    pages = write_report(asked, gathered, out)
    if as_json:
        print_json({"pages": [str(page) for page in pages], "kept": None if kept is None else str(kept)})
        return
    for page in pages:
        remark(f"written: {page}")


def _forecast(found: dict, title: str, as_json: bool) -> None:
    """What a dry run says."""
    if as_json:
        print_json(found)
        return
    rows = [
        [
            arm["of"],
            arm["runs"],
            arm["done"],
            arm["rows"],
            arm["steps"],
            f"{arm['flop'] / 1e15:,.2f}",
            f"{arm['hours']:,.1f}",
        ]
        for arm in found["arms"]
    ]
    heads = ["arm", "runs", "done", "rows, about", "steps", "PFLOP", "hours here"]
    left = found["runs"] - found["done"]
    note = (
        f"{left:,} of {found['runs']:,} runs to be done and {found['ensembles']:,} ensembles: about "
        f"{found['flop'] / 1e15:,.1f} PFLOP and {found['hours']:,.1f} hours of training on this machine. "
        "Steps were timed just now; other work beside makes the hours more than they are."
    )
    print_table(title, heads, rows, note=note)


def _tables(title: str, lines: list[dict]) -> None:
    """Honest arms, and apart from them those that were made wrong on purpose."""
    _table(title, [line for line in lines if not line["leaky"]])
    leaky = [{**line, "of": f"LEAKY {line['of']}"} for line in lines if line["leaky"]]
    if leaky:
        _table("LEAKY, not to be compared", leaky)


def _table(title: str, lines: list[dict]) -> None:
    parts = [part for part in ("select", "test") if any(part in line for line in lines)]
    heads = [f"{part} {what}" for part in parts for what in ("accuracy", "macro-F1", "Disgust F1")]
    rows = [
        [line["of"], line["done"], *(_cell(line.get(part, {}).get(key)) for part in parts
                                     for key in ("accuracy", "macro_f1", "disgust_f1"))]
        for line in lines
    ]  # fmt: skip
    print_table(title, ["arm", "runs", *heads], rows, note="per cent, mean and standard deviation over the runs")


def _cell(value: dict | None) -> str:
    if not value or value["mean"] is None:
        return ""
    return percent(value["mean"]) + (f" ± {100 * value['spread']:.1f}" if value["spread"] is not None else "")
