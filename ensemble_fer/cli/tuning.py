"""``tune``: a search for a recipe."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ensemble_fer.cli.options import (
    DEFAULT_STORE,
    DataOption,
    DeviceOption,
    JsonOption,
    SeedOption,
    StorageOption,
    StoreOption,
    open_store,
)
from ensemble_fer.cli.output import described, percent, print_json, print_table, remark, say
from ensemble_fer.cli.training import (
    EpochRowsOption,
    EpochsOption,
    ModelOption,
    RecipeOption,
    RecipeSplitOption,
    ResampledOption,
    SetOption,
    check_resampling,
)
from ensemble_fer.devices import check_device

_SHOWN = 10


def add_to(app: typer.Typer) -> None:
    app.command("tune", epilog="Example:  ensemble-fer tune --model compact --space optimizer,schedule --trials 30")(
        tune
    )


def tune(
    space: Annotated[
        str,
        typer.Option(
            "--space",
            help="What is searched: some of optimizer, schedule, loss, augment, regularization, batch, sampling; or a "
            "published grid: khaireddin_optimizers, khaireddin_schedules, pazos_resnet, pazos_mobilenet.",
            metavar="S,S",
        ),
    ],
    model: ModelOption = None,
    trials: Annotated[
        int | None,
        typer.Option(
            "--trials",
            min=1,
            help="Finished trials in all, earlier sittings included. A grid: all points.",
            metavar="N",
        ),
    ] = None,
    pruner: Annotated[
        str | None,
        typer.Option("--pruner", help="hyperband, median or none: hyperband, and none for grids.", metavar="NAME"),
    ] = None,
    sampler: Annotated[
        str | None, typer.Option("--sampler", help="tpe (the default), random or grid.", metavar="NAME")
    ] = None,
    storage: StorageOption = None,
    workers: Annotated[
        int, typer.Option("--workers", min=1, help="Processes; they share threads and GPUs.", metavar="K")
    ] = 1,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the study: of model, space and seed.", metavar="STUDY")
    ] = None,
    recipe: RecipeOption = None,
    resampled: ResampledOption = None,
    split: RecipeSplitOption = None,
    epochs: EpochsOption = None,
    epoch_rows: EpochRowsOption = None,
    settings: SetOption = None,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", min=1, help="Begin no trial after so many seconds.", metavar="SECONDS"),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Processor threads: all there are.", metavar="N")
    ] = None,
    seed: SeedOption = 0,
    data: DataOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Search for the recipe with the highest macro-F1 on the select part; the test part is not touched.

    Ctrl-C or a kill leaves the study as it is; the same command goes on to the same number of trials.
    --seed is the search's; all trials are trained with the recipe's own. Numbers that the space does not
    set are the recipe's: of --recipe, --set and the model.
    """
    from ensemble_fer.config import flags_of
    from ensemble_fer.store import need_data
    from ensemble_fer.tune.planning import base_recipe
    from ensemble_fer.tune.spaces import parse_spaces

    flags = flags_of(
        settings or (), model=model, resampling=resampled, split=split, epochs=epochs, epoch_rows=epoch_rows
    )
    # Checked before torch is imported: a misspelt name is answered at once.
    base = base_recipe(parse_spaces(space), recipe, **flags)
    check_device(device)
    opened = open_store(store)
    need_data(opened, data)
    check_resampling(opened, base.resampling)
    before = opened.ids("tuning")

    from ensemble_fer.tune import tune as run_tune

    made = run_tune(
        opened,
        space=space,
        trials=trials,
        recipe=recipe,
        sampler=sampler,
        pruner=pruner,
        storage=storage,
        workers=workers,
        name=name,
        timeout=timeout,
        seed=seed,
        data=data,
        device=device,
        threads=threads,
        **flags,
    )
    found = {**described(made, name or made.metrics["name"]), "best_recipe": str(made.path / "best.toml")}
    if made.id in before:
        remark(f"answered from the store: this search was finished already, {made.manifest['created']}.")
    if as_json:
        print_json(found)
        return
    print_search(found, made)


def print_search(found: dict[str, Any], made: Any) -> None:
    """The best trials of a search, and where its files are."""
    import json

    from ensemble_fer.files import MOST_JSON, read_file
    from ensemble_fer.tune.results import ranked, words

    rows = ranked(json.loads(read_file(made.file("trials.json"), MOST_JSON)))
    print_table(
        f"{found['name']} ({found['id']}): {found['trials']} trials, {found['complete']} complete, "
        f"{found['pruned']} pruned",
        ["trial", "macro-F1", "epoch", "seconds", "what"],
        [
            [row["number"], percent(row["value"]), row["best_epoch"], row["seconds"], words(row["changes"])]
            for row in rows[:_SHOWN]
        ],
        note="Macro-F1 of the select part, on which recipe and epoch were chosen: too good for the best of many.",
    )
    if found["given_up"]:
        remark(f"{found['given_up']} trials could not be done; trials.csv says why.")
    if found["importance"]:
        shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in list(found["importance"].items())[:6])
        say(f"what mattered: {shares}")
    say(f"pictures and all trials: {made.path}")
    say(found["best_recipe"])
    remark(f"train it:  ensemble-fer train --recipe {found['best_recipe']}")
