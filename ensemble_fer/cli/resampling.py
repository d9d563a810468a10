"""``resample``: a balanced training set as a list of parents."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ensemble_fer.cli.data import class_names
from ensemble_fer.cli.options import (
    DEFAULT_STORE,
    DataOption,
    JsonOption,
    SeedOption,
    SplitOption,
    StoreOption,
    open_store,
)
from ensemble_fer.cli.output import described, print_json, print_table, remark, say


def add_to(app: typer.Typer) -> None:
    app.command("resample", epilog="Example:  ensemble-fer resample --method smote_tomek")(resample)


def resample(
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="none, ros, rus, smote, smote_tomek, smote_enn, tomek, enn or hybrid.",
            metavar="METHOD",
        ),
    ],
    target: Annotated[
        int | None, typer.Option("--target", min=1, help="Rows a class should have, e.g. 3000.", metavar="N")
    ] = None,
    classes: Annotated[
        str | None, typer.Option("--classes", help="Oversample only these, e.g. disgust.", metavar="C,C")
    ] = None,
    split: SplitOption = "official",
    name: Annotated[str | None, typer.Option("--name", help="What to call it.", metavar="NAME")] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Say counts, memory and time ahead and make no resampling. The split, and the twins if it needs them, "
            "are made and kept; the time does not contain them.",
        ),
    ] = False,
    seed: SeedOption = 0,
    data: DataOption = None,
    as_json: JsonOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Balance the training part of a split. Only the training part: select and test rows stay as they are.

    What is stored is the parents and the weight of each row; pixels are made on demand.
    """
    from ensemble_fer.resample import make_resampling
    from ensemble_fer.store import Artifact, need_data

    opened = open_store(store)
    made = make_resampling(
        opened,
        need_data(opened, data),
        method=method,
        split=split,
        seed=seed,
        target=target,
        classes=class_names(classes),
        dry_run=dry_run,
        name=name,
    )
    if isinstance(made, Artifact):
        found: dict[str, Any] = described(made, name or opened.name_of(made))
        title = f"{found['name']} ({made.id})"
        sheet = made.path / "sheet.png"
    else:
        found, title, sheet = made.to_dict(), f"{method}, dry run", None
    if as_json:
        print_json(found)
        return
    print_counts(title, found)
    if sheet is not None and sheet.is_file():
        remark(f"synthetic faces between their parents: {sheet}")


def print_counts(title: str, found: dict) -> None:
    """Rows of each class before and after."""
    from ensemble_fer.types import CLASSES

    before, after = found["counts_before"], found["counts_after"]
    rows = [["before", *before, sum(before)], ["after", *after, sum(after)]]
    print_table(title, ["", *CLASSES, "rows"], rows)
    if found.get("exact") is False:
        say("at most: what cleaning removes is known afterwards")
    if "memory_mb" in found:
        say(f"about {found['seconds']:.1f} s and {found['memory_mb']:,.0f} MB")
    else:
        rest = " · ".join(f"{key} {found[key]:,}" for key in ("synthetic", "duplicates", "removed"))
        say(f"{rest} · {found['seconds']:.1f} s")
