"""``align``: a set of faces cut out around the faces that a detector finds."""

from __future__ import annotations

from typing import Annotated

import typer

from ensemble_fer.cli.options import (
    DEFAULT_STORE,
    CpuOrCudaOption,
    DataOption,
    JsonOption,
    StoreOption,
    open_store,
)
from ensemble_fer.cli.output import described, print_json, print_table, remark, say
from ensemble_fer.devices import CPU_OR_CUDA, check_device


def add_to(app: typer.Typer) -> None:
    app.command("align", epilog="Example:  ensemble-fer align --name fer2013-aligned")(align)


def align(
    data: DataOption = None,
    name: Annotated[
        str | None, typer.Option("--name", help="What to call the new set: the old name and -aligned.", metavar="NEW")
    ] = None,
    drop_faceless: Annotated[
        str | None,
        typer.Option(
            "--drop-faceless",
            help="Keep rows without a face out of training (train), or out of every part (all): "
            "the test is easier then, and its scores say so.",
            metavar="train|all",
        ),
    ] = None,
    device: CpuOrCudaOption = "auto",
    as_json: JsonOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Find the face in each picture with MTCNN and cut it out as 96x96 RGB, with its landmarks.

    Makes a new set with the same rows, labels and parts. A row in which no face is found shows the
    middle of its picture and is flagged. Interrupted, the same command goes on from what is done.
    """
    check_device(device, CPU_OR_CUDA, "looking for faces")
    from ensemble_fer.data.derived import DROPS
    from ensemble_fer.errors import unknown_name
    from ensemble_fer.store import need_data

    if drop_faceless is not None and drop_faceless not in DROPS:
        raise unknown_name("choice of --drop-faceless", drop_faceless, DROPS)
    opened = open_store(store)
    source = need_data(opened, data)

    from ensemble_fer.align import align as run_align
    from ensemble_fer.align import report_of

    made = run_align(opened, source, name=name, drop_faceless=drop_faceless, device=device)
    found = {**described(made, name or opened.name_of(made)), "drop_faceless": drop_faceless}
    if as_json:
        print_json(found)
        return
    rows = [[line["usage"], line["rows"], line["found"], line["share"], line["several"]] for line in report_of(made)]
    columns = ["part", "rows", "face found", "share", "several faces"]
    print_table(f"{found['name']} ({made.id}), aligned from {opened.name_of(source)}", columns, rows)
    if drop_faceless:
        parts = "training" if drop_faceless == "train" else "training, select and test"
        say(f"Rows without a face are kept out of {parts}.")
    if drop_faceless == "all":
        remark("warning: the test part is easier without them; every score of it will say how many are left out.")
    say(f"Look at it:  ensemble-fer data show --data {found['name']}")
