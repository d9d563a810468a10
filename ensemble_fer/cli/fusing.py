"""``fuse``: several runs, one graph."""

from __future__ import annotations

from typing import Annotated

import typer

from ensemble_fer.cli.options import DEFAULT_STORE, JsonOption, StoreOption, open_store
from ensemble_fer.cli.output import described, print_json, print_table, say


def add_to(app: typer.Typer) -> None:
    app.command("fuse", epilog="Example:  ensemble-fer fuse RUN RUN RUN --name trio")(fuse)


def fuse(
    runs: Annotated[list[str], typer.Argument(help="Runs by name or id.", metavar="RUN...")],
    rule: Annotated[str, typer.Option("--rule", help="How the members are combined.", metavar="RULE")] = "mean",
    name: Annotated[str | None, typer.Option("--name", help="What to call the ensemble.", metavar="NAME")] = None,
    as_json: JsonOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Write one ONNX file with preprocessing inside, checked against torch on every select row.

    A probability that differs by more than 1e-5, or one other label, is a failure.
    """
    from ensemble_fer.export.fusing import fuse as run_fuse

    opened = open_store(store)
    made = run_fuse(opened, runs, rule=rule, name=name)
    found = {**described(made, name or opened.name_of(made)), "onnx": str(made.path / "ensemble.onnx")}
    if as_json:
        print_json(found)
        return
    rows = [[member] for member in found["members"]]
    print_table(f"{found['name']} ({made.id}): {rule} of {len(rows)}", ["member"], rows)
    say(
        f"checked against torch on {found['rows_checked']:,} rows: "
        f"largest difference {found['max_abs_diff']:.1e}, {found['flips']} other labels"
    )
    say(found["onnx"])
