"""``fuse``: several runs, one graph."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ensemble_fer.cli.options import DEFAULT_STORE, DeviceOption, JsonOption, SeedOption, StoreOption, open_store
from ensemble_fer.cli.output import described, percent, print_json, print_table, remark, say
from ensemble_fer.devices import check_device


def add_to(app: typer.Typer) -> None:
    app.command("fuse", epilog="Example:  ensemble-fer fuse RUN RUN RUN --name trio")(fuse)


def fuse(
    runs: Annotated[list[str], typer.Argument(help="Runs by name or id.", metavar="RUN...")],
    rule: Annotated[
        str,
        typer.Option(
            "--rule",
            help="How members are combined: mean, mean_logits, vote, weights, greedy, logit_adjustment or stacking.",
            metavar="RULE",
        ),
    ] = "mean",
    calibrate: Annotated[
        str,
        typer.Option("--calibrate", help="Fit temperatures: none, members, ensemble or both.", metavar="WHOSE"),
    ] = "none",
    tta: Annotated[
        str, typer.Option("--tta", help="Crops of a face inside the graph: none, flip or ten_crop.", metavar="NAME")
    ] = "none",
    select_from: Annotated[
        bool, typer.Option("--select-from", help="Leave out the runs that weights or greedy give no weight.")
    ] = False,
    name: Annotated[str | None, typer.Option("--name", help="What to call the ensemble.", metavar="NAME")] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    device: DeviceOption = "auto",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Write one ONNX file with preprocessing inside, checked against torch on every select row.

    A probability that differs by more than 1e-5, or one other label, is a failure. What a rule fits, and temperatures,
    are fitted on the select rows without a twin in training; the score that is shown comes from fits without the row.
    """
    check_device(device)
    from ensemble_fer.export.fusing import fuse as run_fuse

    opened = open_store(store)
    made = run_fuse(
        opened,
        runs,
        rule=rule,
        calibrate=calibrate,
        tta=tta,
        select_from=select_from,
        seed=seed,
        name=name,
        device=device,
    )
    graph = made.path / "ensemble.onnx"
    found = {**described(made, name or opened.name_of(made)), "onnx": str(graph) if graph.is_file() else None}
    if as_json:
        print_json(found)
        return
    print_ensemble(found, rule, len(runs))
    say(found["onnx"] or "no graph: some members are predictions that were made elsewhere")
    if (made.path / "reliability.png").is_file():
        remark(f"reliability diagram: {made.path / 'reliability.png'}")


def print_ensemble(found: dict, rule: str, candidates: int) -> None:
    """The members with their numbers, what the fit is worth, how sure it is, and the check against torch."""
    by, calibration = found["combination"], found["calibration"]
    rows: list[list[Any]] = []
    for member, weight, temperature in zip(found["members"], by["weights"], by["temperatures"], strict=True):
        nll = calibration.get("members", {}).get(member, {}).get("after", {}).get("nll")
        rows.append([member, f"{weight:.3f}", f"{temperature:.2f}", None if nll is None else f"{nll:.3f}"])
    of = f" of {candidates} runs" if candidates > len(rows) else ""
    columns = ["member", "weight", "temperature", "NLL"]
    print_table(f"{found['name']} ({found['id']}): {rule} of {len(rows)}{of}", columns, rows)
    select = found["select"]
    say(f"select part: accuracy {percent(select['accuracy'])} %, macro-F1 {percent(select['macro_f1'])} %")
    if found["optimism"]:
        parts = [
            f"{label} {100 * found['optimism'][key]['optimism']:+.1f} points"
            for key, label in (("accuracy", "accuracy"), ("macro_f1", "macro-F1"))
        ]
        say(f"optimism of the fit on its own rows, which this score does not have: {', '.join(parts)}")
    if calibration:
        own = calibration["ensemble"]
        after, chance = own["after"], own["after"]["ece_null"]
        was = f" (before {own['before']['ece']:.3f})" if own["temperature"] != 1 else ""
        say(
            f"temperature {own['temperature']:.2f}: ECE {after['ece']:.3f}{was}, {chance:.3f} if perfectly calibrated; "
            f"NLL {after['nll']:.3f}, Brier {after['brier']:.3f}"
        )
    pairs = found["diversity"]
    if pairs["disagreement"] is not None:
        say(
            f"members disagree on {percent(pairs['disagreement'])} % of the faces and are both wrong on "
            f"{percent(pairs['double_fault'])} %; on {percent(pairs['oracle'])} % at least one is right"
        )
    if "rows_checked" not in found:
        return
    say(
        f"checked against torch on {found['rows_checked']:,} rows: "
        f"largest difference {found['max_abs_diff']:.1e}, {found['flips']} other labels"
    )
