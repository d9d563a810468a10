"""``data import | inject | votes | audit | show | synth``."""

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
    (anger, angry, 0). Pictures of any size and colours are kept as 48x48 gray. Bad rows are listed
    together and nothing is half-imported.
    """
    from ensemble_fer.data.importing import import_data

    made = import_data(open_store(store), source, name=name, skip_bad_rows=skip_bad_rows)
    _print_set(made, name, as_json)


@group.command(epilog="Example:  ensemble-fer data synth --rows 2000 --seed 1")
def synth(
    rows: Annotated[int, typer.Option("--rows", help="Number of faces, 200 to 1,000,000.", metavar="N")] = 4000,
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
    for name_of_class, count in (metrics.get("dropped") or {}).items():
        say(f"{count:,} pictures of {name_of_class}, which is none of the seven classes, were dropped.")
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


@group.command(epilog="Example:  ensemble-fer data inject --from affectnet --classes angry,disgust,surprise")
def inject(
    source: Annotated[
        str, typer.Option("--from", help="The imported set whose faces are added, by name or id.", metavar="SET")
    ],
    classes: Annotated[
        str, typer.Option("--classes", help="Add only these, e.g. angry,disgust,surprise.", metavar="C,C")
    ],
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="At most so many of each class: all.", metavar="N")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            help="The set to add to, by name or id: fer2013 if imported, else the only one imported.",
            metavar="NAME",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="What to call the new set.", metavar="NAME")] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Make a new set with faces of another one added to training; they never select or test.

    The set that is added to stays as it is. Faces that show the photograph of a PublicTest or
    PrivateTest row are left out and counted.
    """
    from ensemble_fer.data.injection import inject_data
    from ensemble_fer.store import need_data

    opened = open_store(store)
    named = class_names(classes) or ()
    base, other = need_data(opened, data), opened.get("data", source)
    made = inject_data(opened, base, other, classes=named, limit=limit, seed=seed, name=name)
    _print_set(made, name or opened.name_of(made), as_json)
    step = made.metrics["injected"][-1]
    out = step["left_out"]
    if as_json:
        return
    say(f"added {sum(step['added']):,} of {sum(step['offered']):,} faces of {step['name']}; they train only")
    if out["rows"]:
        say(
            f"left out {out['rows']:,}: {out['twins_of_PublicTest']:,} show a photograph of PublicTest, "
            f"{out['twins_of_PrivateTest']:,} of PrivateTest, {out['flat']:,} show nothing"
        )
    if step["twins_of_training"]:
        remark(
            f"warning: {step['twins_of_training']:,} of the added faces show a photograph that was in training before, "
            f"{step['copies']:,} of them byte for byte"
        )


@group.command(epilog="Example:  ensemble-fer data votes fer2013new.csv")
def votes(
    source: Annotated[Path, typer.Argument(help="fer2013new.csv of FER+.", metavar="CSV")],
    data: DataOption = None,
    name: Annotated[str | None, typer.Option("--name", help="What to call the votes.", metavar="NAME")] = None,
    as_json: JsonOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Join FER+'s votes of ten annotators to FER2013, for soft labels, for leaving rows out, and for scores.

    The set must be FER2013 in the order of fer2013.csv: number of rows, usages and labels are compared.
    """
    from ensemble_fer.data.votes import join_votes
    from ensemble_fer.store import need_data

    opened = open_store(store)
    faces = need_data(opened, data)
    made = join_votes(opened, source, faces, name=name)
    found = described(made, name or opened.name_of(made))
    if as_json:
        print_json(found)
        return
    say(f"{found['name']} ({made.id}): votes on {found['rows']:,} faces of {opened.name_of(faces)}")
    say(f"label has the most votes: {100 * found['agreement']:.1f} % (kappa {found['kappa']:.2f})")
    say(f"not a face: {found['not_a_face']:,} · not a face or no majority: {found['no_majority']:,}")


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

    if sheet is not None:
        check_png("--sheet", sheet, store)
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
        str | None, typer.Option("--usage", help="Only Training, PublicTest, PrivateTest or Injected.", metavar="NAME")
    ] = None,
    columns: Annotated[int, typer.Option("--columns", min=1, max=100, help="Faces a class.", metavar="N")] = 12,
    seed: SeedOption = 0,
    output: Annotated[Path, typer.Option("--output", "-o", help="The PNG to write.", metavar="PNG")] = Path(
        "faces.png"
    ),
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Write a contact sheet: a row of randomly drawn faces for each class.

    Of an aligned set each picture is shown with the box and the landmarks that were found, and beside
    it the face that was cut out.
    """
    from ensemble_fer.data.derived import alignment_of, source_of
    from ensemble_fer.data.importing import load_faces
    from ensemble_fer.data.showing import show_aligned, show_faces
    from ensemble_fer.store import need_data

    check_png("--output", output, store)
    opened = open_store(store)
    chosen = need_data(opened, data)
    faces, alignment = load_faces(chosen), alignment_of(chosen)
    asked: dict[str, Any] = {"classes": class_names(classes), "usage": usage, "columns": columns, "seed": seed}
    if alignment is None:
        sheet = show_faces(faces, **asked)
    else:
        sheet = show_aligned(load_faces(source_of(opened, chosen)), faces, alignment, **asked)
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
