"""``data import | audit | show | synth``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ensemble_fer.cli.options import (
    DEFAULT_STORE,
    DataOption,
    JsonOption,
    SeedOption,
    StoreOption,
    check_png,
    open_store,
)
from ensemble_fer.cli.output import described, print_json, print_table, remark, say

group = typer.Typer(no_args_is_help=True, help="Bring in faces, look at them, and find twins across splits.")


def add_to(app: typer.Typer) -> None:
    app.add_typer(group, name="data")


@group.command(
    "import",
    epilog="Example:  ensemble-fer data import fer2013.csv",
)
def import_(
    source: Annotated[
        Path, typer.Argument(help="fer2013.csv, icml_face_data.csv, an image folder or an npz.", metavar="SRC")
    ],
    name: Annotated[str, typer.Option("--name", help="What to call the set.", metavar="NAME")] = "fer2013",
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Import the good rows and record what was left out.")
    ] = False,
    as_json: JsonOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Read FER2013 (or faces laid out like it) into the store, checking every row.

    Image folders are train|test/CLASS/PICTURE; the classes may be spelt as people spell them
    (anger, angry, 0). Bad rows are listed together and nothing is half-imported.
    """
    from ensemble_fer.data.importing import import_data

    made = import_data(open_store(store), source, name=name, skip_bad_rows=skip_bad_rows)
    _print_set(made, name, as_json)


@group.command(epilog="Example:  ensemble-fer data synth --rows 2000 --seed 1")
def synth(
    rows: Annotated[int, typer.Option("--rows", help="Number of faces, 200 or more.", metavar="N")] = 4000,
    name: Annotated[str, typer.Option("--name", help="What to call the set.", metavar="NAME")] = "synthetic",
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Draw a data set of synthetic faces, in FER2013's class shares, with planted twins and conflicts."""
    from ensemble_fer.data.synthetic import synth_data

    _print_set(synth_data(open_store(store), rows=rows, seed=seed, name=name), name, as_json)


def _print_set(made: Any, name: str, as_json: bool) -> None:
    from ensemble_fer.types import CLASSES

    if as_json:
        print_json(described(made, name))
        return
    metrics = made.metrics
    rows = [[usage, *counts, sum(counts)] for usage, counts in metrics["usage"].items()]
    title = f"{name} ({made.id}): {metrics['rows']:,} faces"
    print_table(title, ["part", *CLASSES, "rows"], rows)
    if metrics.get("converted"):
        say(f"{metrics['converted']:,} pictures were not 48x48 gray and were converted.")
    for line in metrics.get("notes", []):
        say(line)
    skipped = metrics.get("skipped") or []
    if skipped:
        remark(f"warning: {len(skipped):,} bad rows were left out:")
        for line in skipped[:20]:
            remark(f"  {line}")
        if len(skipped) > 20:
            remark(f"  and {len(skipped) - 20:,} more, all listed in the manifest of data {made.id}")


@group.command(epilog="Example:  ensemble-fer data audit --sheet twins.png")
def audit(
    data: DataOption = None,
    sheet: Annotated[
        Path | None,
        typer.Option(
            "--sheet", help="Where to write sample pairs of twins; in the store's figures/ else.", metavar="PNG"
        ),
    ] = None,
    as_json: JsonOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Class counts, twins inside and across splits, constant images and label conflicts.

    Twins are two rows that show the same photograph, be it with other JPEG noise, brightness,
    watermark, crop, or mirrored. A test row counts if its twin is in Training.
    """
    from ensemble_fer.data.audit import audit as run_audit
    from ensemble_fer.store import need_data
    from ensemble_fer.types import CLASSES

    opened = open_store(store)
    source = need_data(opened, data)
    found = run_audit(opened, source, sheet=sheet)
    if as_json:
        print_json(found)
        return
    rows = [[usage, *counts, sum(counts)] for usage, counts in found["counts"].items()]
    print_table(f"Faces of {opened.name_of(source)} ({source.id})", ["part", *CLASSES, "rows"], rows)
    twins = [[place.replace("_", " "), t["rows"], t["identical"]] for place, t in found["twins"].items()]
    columns = ["part", "rows with a twin in Training", "within 1 grey level"]
    print_table("Twins: the same photograph again", columns, twins)
    say(
        f"photographs that carry several labels: {found['conflicts']:,} · constant images: {found['constant']:,} · "
        f"PrivateTest rows with a twin in PublicTest: {found['test_in_select']:,}"
    )
    if found["sheet"]:
        remark(f"sample pairs: {found['sheet']}")


@group.command(epilog="Example:  ensemble-fer data show --classes disgust --output disgust.png")
def show(
    data: DataOption = None,
    classes: Annotated[
        str | None, typer.Option("--classes", help="Only these, e.g. disgust,fear.", metavar="C,C")
    ] = None,
    usage: Annotated[
        str | None, typer.Option("--usage", help="Only Training, PublicTest or PrivateTest.", metavar="NAME")
    ] = None,
    columns: Annotated[int, typer.Option("--columns", min=1, max=100, help="Faces a class.", metavar="N")] = 12,
    seed: SeedOption = 0,
    output: Annotated[Path, typer.Option("--output", "-o", help="The PNG to write.", metavar="PNG")] = Path(
        "faces.png"
    ),
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Write a contact sheet: a row of randomly drawn faces for each class."""
    from ensemble_fer.data.importing import load_faces
    from ensemble_fer.data.showing import show_faces
    from ensemble_fer.store import need_data

    check_png("--output", output)
    faces = load_faces(need_data(open_store(store), data))
    sheet = show_faces(faces, classes=class_names(classes), usage=usage, columns=columns, seed=seed)
    output.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(output, format="PNG")
    say(str(output))


def class_names(text: str | None) -> tuple[str, ...] | None:
    """``disgust,fear`` as a tuple; None if nothing was given. Unknown names are errors with the near match."""
    if text is None:
        return None
    from ensemble_fer.errors import UsageError, unknown_name
    from ensemble_fer.types import CLASSES

    names = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    if not names:
        raise UsageError(f"--classes {text!r} names no class. Known: {', '.join(CLASSES)}.")
    for name in names:
        if name not in CLASSES:
            raise unknown_name("class", name, CLASSES)
    return names
