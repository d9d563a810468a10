"""``predictions import``: what other programs say of the same faces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensemble_fer.cli.options import DEFAULT_STORE, DataOption, JsonOption, SplitOption, StoreOption, open_store
from ensemble_fer.cli.output import described, percent, print_json, remark, say

predictions = typer.Typer(no_args_is_help=True, help="Predictions made by other programs.")


def add_to(app: typer.Typer) -> None:
    app.add_typer(predictions, name="predictions")


@predictions.command("import", epilog="Example:  ensemble-fer predictions import theirs.csv --name theirs")
def import_(
    csv: Annotated[Path, typer.Argument(help="A column for each class, and row; a line for each face.", metavar="CSV")],
    name: Annotated[str, typer.Option("--name", help="What to call them.", metavar="NAME")],
    data: DataOption = None,
    split: SplitOption = "official",
    part: Annotated[
        str | None,
        typer.Option("--part", help="select or test, where the file has no column row.", metavar="PART"),
    ] = None,
    kind: Annotated[
        str, typer.Option("--kind", help="probabilities or logits: found out by itself.", metavar="KIND")
    ] = "auto",
    about: Annotated[str, typer.Option("--about", help="What made them, for the stamp.", metavar="TEXT")] = "",
    as_json: JsonOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Take predictions of the select part, the test part or both, to be ranked, compared and fused.

    The column row is the row's number in the data set, from 0; a column label is checked. Predictions of the test part
    are scored at once, which counts a look. An ensemble with such a member has predictions and scores, and no graph.
    """
    from ensemble_fer.outside import import_predictions

    opened = open_store(store)
    made = import_predictions(opened, csv, name=name, data=data, split=split, part=part, kind=kind, about=about)
    found = described(made, name)
    if as_json:
        print_json(found)
        return
    select = made.metrics.get("select")
    say(f"{name} ({made.id})")
    if select:
        say(f"select part: accuracy {percent(select['accuracy'])} %, macro-F1 {percent(select['macro_f1'])} %")
    remark(f"scores:  ensemble-fer evaluate {name}{'' if not select else ' --part select'}")
