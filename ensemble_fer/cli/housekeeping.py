"""``runs list | show | remove`` and ``store check | clean``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ensemble_fer.cli.options import DEFAULT_STORE, JsonOption, StoreOption, open_store
from ensemble_fer.cli.output import percent, plain, print_json, print_table, remark, say

runs = typer.Typer(no_args_is_help=True, help="What was trained, fused and searched.")
keeping = typer.Typer(no_args_is_help=True, help="Look after the folder of everything that is made.")

MemberArgument = Annotated[
    str,
    typer.Argument(help="A run, an ensemble or a search, by name or id.", metavar="RUN|ENSEMBLE|STUDY"),
]


def add_to(app: typer.Typer) -> None:
    app.add_typer(runs, name="runs")
    app.add_typer(keeping, name="store")


@runs.command("list", epilog="Example:  ensemble-fer runs list")
def list_(as_json: JsonOption = False, store: StoreOption = DEFAULT_STORE) -> None:
    """Runs, ensembles and searches for a recipe (tune), oldest first.

    A study that has no result yet is listed by its name alone.
    """
    from ensemble_fer.upkeep import list_runs

    rows = list_runs(open_store(store))
    if as_json:
        print_json(rows)
        return
    columns = ["name", "id", "kind", "model", "resampling", "split", "seed", "select F1", "seconds", "created"]
    keys = ("name", "id", "kind", "model", "resampling", "split", "seed", "macro_f1", "seconds", "created")
    cells = [[percent(row[key]) if key == "macro_f1" else row[key] for key in keys] for row in rows]
    print_table(f"Runs of store {store}", columns, cells)


@runs.command(epilog="Example:  ensemble-fer runs show compact-smote-s0")
def show(name: MemberArgument, as_json: JsonOption = False, store: StoreOption = DEFAULT_STORE) -> None:
    """The manifest of a run, an ensemble or a search: what it was made from, its files, its metrics."""
    from ensemble_fer.scoring import find_source
    from ensemble_fer.upkeep import LISTED

    member = find_source(open_store(store), name, LISTED)
    if as_json:
        print_json(member.manifest)
        return
    m = member.manifest
    rows = [["folder", member.path], ["made from", ", ".join(m["inputs"])], ["created", m["created"]]]
    rows += [["seconds", m["seconds"]], ["made by", f"ensemble-fer {m['version']}"]]
    rows += [[key, json.dumps(plain(value))] for key, value in {**m["spec"], **m["metrics"]}.items()]
    rows += [[f"file {file}", f"{listed['size']:,} bytes"] for file, listed in m["files"].items()]
    print_table(f"{m['kind']} {m['id']}", ["", ""], rows)


@runs.command(epilog="Example:  ensemble-fer runs remove compact-smote-s0")
def remove(name: MemberArgument, as_json: JsonOption = False, store: StoreOption = DEFAULT_STORE) -> None:
    """Take a run or an ensemble out of the store, with the predictions made from it; or a study.

    A study goes with all its results, its database and the checkpoints of its trials, so that it can be
    searched anew under its name. What was trained with its best recipe stays.
    """
    from ensemble_fer.upkeep import remove_listed

    gone, folders = remove_listed(open_store(store), name)
    if as_json:
        print_json(
            [
                *({"kind": a.kind, "id": a.id} for a in gone),
                *({"kind": "folder", "id": None, "path": str(folder)} for folder in folders),
            ]
        )
        return
    for artifact in gone:
        say(f"removed {artifact.kind} {artifact.id}")
    for folder in folders:
        say(f"removed {folder}")


@keeping.command(epilog="Example:  ensemble-fer store check")
def check(as_json: JsonOption = False, store: StoreOption = DEFAULT_STORE) -> None:
    """Read every file and compare it with its manifest; exit 1 if anything is missing or changed."""
    from ensemble_fer.upkeep import check_store

    found = check_store(open_store(store))
    if as_json:
        print_json(found)
    else:
        say(f"{found['artifacts']} artifacts, {found['bytes'] / 1e6:,.1f} MB read, {len(found['problems'])} problems")
    if found["problems"]:
        for line in found["problems"]:
            remark(f"error: {line}")
        raise typer.Exit(1)


@keeping.command(epilog="Example:  ensemble-fer store clean")
def clean(
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Also remove checkpoints of runs that were not finished.")
    ] = False,
    as_json: JsonOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Remove what interrupted writing has left, if it is older than a day."""
    from ensemble_fer.upkeep import clean_store

    found = clean_store(open_store(store), unfinished=unfinished)
    if as_json:
        print_json(found)
        return
    say(f"removed {len(found['removed'])} folders and files, {found['bytes'] / 1e6:,.1f} MB")
    for kept in found["kept"]:
        remark(f"kept {kept}: it is in use, or cannot be removed.")
