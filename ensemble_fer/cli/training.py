"""``train`` and ``config show``: the recipe from file and flags, and the run it makes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ensemble_fer.cli.options import (
    DEFAULT_STORE,
    DataOption,
    DeviceOption,
    JsonOption,
    StoreOption,
    check_device,
    open_store,
)
from ensemble_fer.cli.output import described, percent, print_json, print_table, remark, say

if TYPE_CHECKING:
    from ensemble_fer.store import Store

config = typer.Typer(no_args_is_help=True, help="What a run would be trained with.")


def add_to(app: typer.Typer) -> None:
    app.command("train", epilog="Example:  ensemble-fer train --model compact --resampled smote --seed 1")(train)
    app.add_typer(config, name="config")


ModelOption = Annotated[str | None, typer.Option("--model", help="compact (the default) or vggnet.", metavar="MODEL")]
ResampledOption = Annotated[
    str | None,
    typer.Option("--resampled", help="A resampling by name or id, or a method such as smote.", metavar="R"),
]
RecipeOption = Annotated[
    Path | None, typer.Option("--recipe", help="A TOML recipe; flags override it.", metavar="FILE")
]
RecipeSplitOption = Annotated[
    str | None, typer.Option("--split", help="official (the default), official-clean, ...", metavar="NAME")
]
RecipeSeedOption = Annotated[
    int | None,
    typer.Option("--seed", min=0, help="Of first weights, row order, augmentation and dropout: 0.", metavar="N"),
]
EpochsOption = Annotated[int | None, typer.Option("--epochs", min=1, help="At most this many.", metavar="N")]
EpochRowsOption = Annotated[
    int | None, typer.Option("--epoch-rows", min=0, help="Faces drawn for an epoch; 0 is all rows.", metavar="N")
]
BatchOption = Annotated[int | None, typer.Option("--batch-size", min=2, help="Faces a step.", metavar="N")]
RateOption = Annotated[
    float | None, typer.Option("--learning-rate", help="The highest of the schedule.", metavar="RATE")
]
OptimizerOption = Annotated[
    str | None, typer.Option("--optimizer", help="sgd, nesterov, adam or adamw.", metavar="NAME")
]
ScheduleOption = Annotated[
    str | None, typer.Option("--schedule", help="constant, plateau, cosine or one_cycle.", metavar="NAME")
]
AugmentOption = Annotated[
    str | None, typer.Option("--augment", help="none, light, strong or khaireddin.", metavar="NAME")
]
PatienceOption = Annotated[
    int | None,
    typer.Option("--patience", min=0, help="Stop after N epochs without gain; 0 is never.", metavar="N"),
]
PrecisionOption = Annotated[str | None, typer.Option("--precision", help="auto, float32 or bfloat16.", metavar="NAME")]


def train(
    model: ModelOption = None,
    resampled: ResampledOption = None,
    recipe: RecipeOption = None,
    split: RecipeSplitOption = None,
    epochs: EpochsOption = None,
    epoch_rows: EpochRowsOption = None,
    batch_size: BatchOption = None,
    learning_rate: RateOption = None,
    optimizer: OptimizerOption = None,
    schedule: ScheduleOption = None,
    augment: AugmentOption = None,
    patience: PatienceOption = None,
    precision: PrecisionOption = None,
    name: Annotated[str | None, typer.Option("--name", help="What to call the run.", metavar="NAME")] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--fresh",
            help="Go on from an unfinished training of the same request, or throw it away and start over. "
            "A finished run of the same request is answered from the store either way.",
        ),
    ] = True,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Processor threads: all there are.", metavar="N")
    ] = None,
    seed: RecipeSeedOption = None,
    data: DataOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Train one member. The kept checkpoint is chosen on the select part; the test part is not touched.

    Ctrl-C or a kill leaves a checkpoint; the same command again ends with the same weights, bit for
    bit, as an unbroken run on the same machine.
    """
    from ensemble_fer.config import resolve_recipe
    from ensemble_fer.data.splits import parse_split
    from ensemble_fer.store import need_data

    # Checked before torch is imported: a misspelt name is answered at once.
    resolved = resolve_recipe(
        recipe,
        model=model,
        resampling=resampled,
        split=split,
        seed=seed,
        epochs=epochs,
        epoch_rows=epoch_rows,
        patience=patience,
        batch_size=batch_size,
        optimizer=optimizer,
        learning_rate=learning_rate,
        schedule=schedule,
        augmentation=augment,
        precision=precision,
    )
    parse_split(resolved.split)
    check_device(device)
    opened = open_store(store)
    need_data(opened, data)
    check_resampling(opened, resolved.resampling)
    before = opened.ids("run")

    from ensemble_fer.train import train as run_train

    made = run_train(opened, resolved, data=data, name=name, fresh=not resume, threads=threads, device=device)
    found = described(made, name or opened.name_of(made))
    if made.id in before:
        remark(
            f"answered from the store: this was trained already, {made.manifest['created']}. "
            f"To train it again:  ensemble-fer runs remove {made.id}"
        )
    if as_json:
        print_json(found)
        return
    print_run(found, resolved.to_dict())


def check_resampling(store: Store, name: str) -> None:
    """Raise UsageError with the near match if a name is neither a method nor a resampling of the store."""
    from ensemble_fer.errors import unknown_name
    from ensemble_fer.resample import METHODS

    named = store.refs("resampling")
    by_id = len(name) >= 4 and any(identity.startswith(name) for identity in store.ids("resampling"))
    if name not in METHODS and name not in named and not by_id:
        raise unknown_name("resampling", name, [*METHODS, *named])


def print_run(found: dict[str, Any], recipe: dict[str, Any]) -> None:
    """What came out of a training run."""
    select = found["select"]
    rows = [
        ["model", recipe["model"]],
        ["resampling", recipe["resampling"]],
        ["parameters", f"{found['parameters']:,}"],
        ["epochs", f"{found['epochs']}, the best was {found['best_epoch']}"],
        ["macro-F1 on the select part", percent(select["macro_f1"])],
        ["accuracy on the select part", percent(select["accuracy"])],
        ["time", f"{found['train_seconds']:.0f} s"],
    ]
    print_table(f"{found['name']} ({found['id']})", ["", ""], rows)
    remark(f"test scores:  ensemble-fer evaluate {found['name']}")


@config.command("show", epilog="Example:  ensemble-fer config show --model vggnet > vggnet.toml")
def config_show(
    model: ModelOption = None,
    resampled: ResampledOption = None,
    recipe: RecipeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the recipe that train would use as TOML, each key with where its value comes from."""
    from ensemble_fer.config import resolve, resolve_recipe

    settings = resolve(recipe, model=model, resampling=resampled)
    if as_json:
        print_json([{"key": s.key, "value": s.value, "source": s.source} for s in settings])
        return
    lines = resolve_recipe(recipe, model=model, resampling=resampled).to_toml().splitlines()
    width = max(map(len, lines))
    for line, setting in zip(lines, settings, strict=True):
        say(f"{line:<{width}}  # {setting.source}")
