"""``train`` and ``config show``: the recipe from file and flags, and the run it makes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ensemble_fer.cli.options import (
    DEFAULT_STORE,
    MOST_SEED,
    DataOption,
    DeviceOption,
    JsonOption,
    ProcessesOption,
    StoreOption,
    open_store,
)
from ensemble_fer.cli.output import described, percent, print_json, print_table, remark, say
from ensemble_fer.config import LOSSES, SCHEDULES
from ensemble_fer.devices import check_device

if TYPE_CHECKING:
    from ensemble_fer.config import Recipe
    from ensemble_fer.store import Store

config = typer.Typer(no_args_is_help=True, help="What a run would be trained with.")


def add_to(app: typer.Typer) -> None:
    app.command("train", epilog="Example:  ensemble-fer train --model compact --resampled smote --seed 1")(train)
    app.command("finetune", epilog="Example:  ensemble-fer finetune vggnet-none-s0 --on train+select")(finetune)
    app.add_typer(config, name="config")


def _names(table: tuple[str, ...]) -> str:
    return f"{', '.join(table[:-1])} or {table[-1]}."


ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="compact (the default), vggnet, resnet18, ...; timm:NAME for any network of timm; FILE.py:FUNCTION for a "
        "module of your own (its code is run).",
        metavar="MODEL",
    ),
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        "--weights",
        help="Where training starts: none, hub (ImageNet weights), a safetensors or torch file, or run:NAME.",
        metavar="W",
    ),
]
LossOption = Annotated[
    str | None,
    typer.Option("--loss", help=_names(LOSSES), metavar="NAME"),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any key of a recipe, as config show lists them; may be repeated.", metavar="KEY=VALUE"),
]
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
    typer.Option(
        "--seed", min=0, max=MOST_SEED, help="Of first weights, row order, augmentation and dropout: 0.", metavar="N"
    ),
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
    str | None,
    typer.Option(
        "--optimizer", help="sgd, nesterov, asgd, adam, amsgrad, adamw, adadelta, adagrad or muon.", metavar="NAME"
    ),
]
ScheduleOption = Annotated[
    str | None,
    typer.Option("--schedule", help=_names(SCHEDULES), metavar="NAME"),
]
AugmentOption = Annotated[
    str | None,
    typer.Option(
        "--augment",
        help="none, light, strong, khaireddin, khaireddin_tencrop, atasoy, pazos, group14 or gaballa.",
        metavar="NAME",
    ),
]
PatienceOption = Annotated[
    int | None,
    typer.Option("--patience", min=0, help="Stop after N epochs without gain; 0 is never.", metavar="N"),
]
PrecisionOption = Annotated[str | None, typer.Option("--precision", help="auto, float32 or bfloat16.", metavar="NAME")]


ResumeOption = Annotated[
    bool,
    typer.Option(
        "--resume/--fresh",
        help="Go on from an unfinished training of the same request, or throw it away and start over. "
        "A finished run of the same request is answered from the store either way.",
    ),
]


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
    loss: LossOption = None,
    augment: AugmentOption = None,
    weights: WeightsOption = None,
    settings: SetOption = None,
    patience: PatienceOption = None,
    precision: PrecisionOption = None,
    name: Annotated[str | None, typer.Option("--name", help="What to call the run.", metavar="NAME")] = None,
    resume: ResumeOption = True,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Processor threads: all there are.", metavar="N")
    ] = None,
    processes: ProcessesOption = 1,
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
    from ensemble_fer.config import checked_recipe, resolve
    from ensemble_fer.data.splits import parse_split
    from ensemble_fer.store import need_data

    # Checked before torch is imported: a misspelt name is answered at once.
    given = resolve(
        recipe,
        settings or (),
        model=model,
        resampling=resampled,
        split=split,
        seed=seed,
        epochs=epochs,
        epoch_rows=epoch_rows,
        patience=patience,
        batch_size=batch_size,
        optimizer=optimizer,
        loss=loss,
        weights=weights,
        learning_rate=learning_rate,
        schedule=schedule,
        augmentation=augment,
        precision=precision,
    )
    resolved = checked_recipe(given)
    parse_split(resolved.split)
    check_device(device)
    opened = open_store(store)
    need_data(opened, data)
    check_resampling(opened, resolved.resampling)
    _train(opened, resolved, data, name, not resume, threads, processes, device, as_json)


def finetune(
    run: Annotated[str, typer.Argument(help="The run to go on from, by name or id.", metavar="RUN")],
    epochs: EpochsOption = None,
    learning_rate: RateOption = None,
    schedule: ScheduleOption = None,
    on: Annotated[
        str | None,
        typer.Option("--on", help="train (the default), or train+select: then nothing is left to select on."),
    ] = None,
    settings: SetOption = None,
    name: Annotated[str | None, typer.Option("--name", help="What to call the new run.", metavar="NAME")] = None,
    resume: ResumeOption = True,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Processor threads: all there are.", metavar="N")
    ] = None,
    processes: ProcessesOption = 1,
    seed: RecipeSeedOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Train a run on from its kept weights: 50 epochs of a cosine from a rate of 1e-4, unless told otherwise."""
    from ensemble_fer.config import Setting, checked_recipe, flags_of

    changes = flags_of(
        settings or (),
        epochs=epochs,
        learning_rate=learning_rate,
        schedule=schedule,
        train_on=on,
        seed=seed,
    )
    check_device(device)
    opened = open_store(store)

    from ensemble_fer.train.finetuning import finetuning_recipe

    found = opened.get("run", run)
    recipe = finetuning_recipe(opened, found.id, **changes).to_dict()
    resolved = checked_recipe(Setting(k, v, "flag" if k in changes else "run") for k, v in recipe.items())
    stage = "-finetuned" if resolved.train_on == "train" else "-finetuned-select"
    name = name or opened.name_of(found)[: 100 - len(stage)] + stage
    _train(opened, resolved, found.inputs[0], name, not resume, threads, processes, device, as_json)


def _train(
    store: Store,
    recipe: Recipe,
    data: str | None,
    name: str | None,
    fresh: bool,
    threads: int | None,
    processes: int,
    device: str,
    as_json: bool,
) -> None:
    """Train and print what came out."""
    from ensemble_fer.train import train as run_train

    before = store.ids("run")
    made = run_train(
        store, recipe, data=data, name=name, fresh=fresh, threads=threads, processes=processes, device=device
    )
    found = described(made, name or store.name_of(made))
    if made.id in before:
        remark(
            f"answered from the store: this was trained already, {made.manifest['created']}. "
            f"To train it again:  ensemble-fer runs remove {made.id}"
        )
    if as_json:
        print_json(found)
        return
    print_run(found, recipe.to_dict())


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
        ["weights from", found["protocol"]["pretraining"]],
        ["epochs", f"{found['epochs']}, kept is {found['best_epoch']}"],
        ["macro-F1 on the select part", percent(select["macro_f1"]) if select else "trained on it"],
        ["accuracy on the select part", percent(select["accuracy"]) if select else "trained on it"],
        ["time", f"{found['train_seconds']:.0f} s"],
    ]
    print_table(f"{found['name']} ({found['id']})", ["", ""], rows)
    remark(f"test scores:  ensemble-fer evaluate {found['name']}")


@config.command("show", epilog="Example:  ensemble-fer config show --model vggnet > vggnet.toml")
def config_show(
    model: ModelOption = None,
    resampled: ResampledOption = None,
    recipe: RecipeOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the recipe that train would use as TOML, each key with where its value comes from."""
    from ensemble_fer.config import checked_recipe, resolve
    from ensemble_fer.data.splits import parse_split

    found = resolve(recipe, settings or (), model=model, resampling=resampled)
    resolved = checked_recipe(found)
    # What train would refuse, as far as that can be told without torch, timm and the user's files.
    parse_split(resolved.split)
    _check_form(resolved.model)
    lines = resolved.to_toml().splitlines()
    if as_json:
        print_json([{"key": s.key, "value": s.value, "source": s.source} for s in found])
        return
    width = max(map(len, lines))
    for line, setting in zip(lines, found, strict=True):
        say(f"{line:<{width}}  # {setting.source}")


def _check_form(model: str) -> None:
    """Raise UsageError for a name of a network or a function that cannot be one."""
    from ensemble_fer.config import MODELS
    from ensemble_fer.errors import UsageError

    if model in MODELS:
        return
    if model.startswith("timm:"):
        if not model.removeprefix("timm:").strip():
            raise UsageError(f"model {model!r}: expected timm:NAME, for instance timm:resnet26d.")
        return
    path, _, function = model.rpartition(":")
    if not path.endswith(".py") or not function.isidentifier():
        raise UsageError(f"model {model!r}: expected FILE.py:FUNCTION, for instance my_network.py:build.")
