"""``resample``: a balanced training set as a list of parents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ensemble_fer.cli.data import class_names
from ensemble_fer.cli.options import (
    DEFAULT_STORE,
    CpuOrCudaOption,
    DataOption,
    JsonOption,
    SeedOption,
    SplitOption,
    StoreOption,
    bytes_of,
    open_store,
)
from ensemble_fer.cli.output import described, print_json, print_table, remark, say
from ensemble_fer.devices import CPU_OR_CUDA, check_device

if TYPE_CHECKING:
    from ensemble_fer.resample import Space
    from ensemble_fer.store import Store


def add_to(app: typer.Typer) -> None:
    app.command("resample", epilog="Example:  ensemble-fer resample --method smote_tomek")(resample)


def resample(
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="none, ros, rus, smote, borderline_smote, adasyn, smote_tomek, smote_enn, tomek, enn, hybrid or "
            "augment.",
            metavar="METHOD",
        ),
    ],
    target: Annotated[
        int | None, typer.Option("--target", min=1, help="Rows a class should have, e.g. 3000.", metavar="N")
    ] = None,
    classes: Annotated[
        str | None, typer.Option("--classes", help="Add rows only to these, e.g. disgust.", metavar="C,C")
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
    space: Annotated[
        str,
        typer.Option(
            "--space",
            help="Where neighbours are looked for: pixels, pca:N, or run:NAME, the embedding of a trained member.",
            metavar="SPACE",
        ),
    ] = "pixels",
    memory: Annotated[
        str,
        typer.Option(
            "--memory", help="What the search for neighbours may take, training faces included.", metavar="SIZE"
        ),
    ] = "1GB",
    device: CpuOrCudaOption = "auto",
    seed: SeedOption = 0,
    data: DataOption = None,
    as_json: JsonOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Balance the training part of a split. Only the training part: select and test rows stay as they are.

    What is stored is the parents and the weight of each row; pixels are made on demand.
    """
    check_device(device, CPU_OR_CUDA, "the search for neighbours")
    from ensemble_fer.resample import SearchOptions, make_resampling
    from ensemble_fer.store import Artifact, need_data

    opened = open_store(store)
    options = SearchOptions(chosen_space(opened, space), bytes_of(memory), device)
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
        options=options,
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
        remark(f"what was made, beside what it was made from: {sheet}")


def chosen_space(store: Store, text: str) -> Space | None:
    """The space of a name. Only a member's needs torch, which takes seconds to import."""
    if text.startswith("run:"):
        from ensemble_fer.train.spaces import space_of

        return space_of(store, text)
    from ensemble_fer.resample.spaces import PIXELS, pca_space

    return None if text == PIXELS else pca_space(text)


def print_counts(title: str, found: dict) -> None:
    """Rows of each class before and after."""
    from ensemble_fer.types import CLASSES

    before, after = found["counts_before"], found["counts_after"]
    rows = [["before", *before, sum(before)], ["after", *after, sum(after)]]
    print_table(title, ["", *CLASSES, "rows"], rows)
    if found.get("exact") is False:
        from ensemble_fer.resample import METHODS

        cleans = METHODS[found["method"]].cleans
        why = "at most: what cleaning removes" if cleans else "about: what rounded shares add up to"
        say(f"{why} is known afterwards")
    if "memory_mb" in found:
        say(f"about {found['seconds']:.1f} s and {found['memory_mb']:,.0f} MB")
    else:
        # What was stored before there were augmented and injected rows does not count them.
        keys = ("synthetic", "duplicates", *(key for key in ("augmented", "injected") if found.get(key)), "removed")
        rest = " · ".join(f"{key} {found[key]:,}" for key in keys)
        say(f"{rest} · {found['seconds']:.1f} s")
