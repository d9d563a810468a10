"""``explain``: what decided, and how a network sees the faces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ensemble_fer.cli.options import DEFAULT_STORE, MOST_SEED, JsonOption, StoreOption, check_png, open_store
from ensemble_fer.cli.output import percent, print_json, print_table, remark

if TYPE_CHECKING:
    from ensemble_fer.store import Store


def add_to(app: typer.Typer) -> None:
    app.command("explain", epilog="Example:  ensemble-fer explain trio --picture face.png --out why.png")(explain)


def explain(
    name: Annotated[str, typer.Argument(help="A run or an ensemble, by name or id.", metavar="RUN|ENSEMBLE")],
    out: Annotated[Path, typer.Option("--out", help="Where to write the picture.", metavar="PNG")] = Path("why.png"),
    picture: Annotated[
        list[Path] | None,
        typer.Option("--picture", help="Explain the faces of this picture; may be repeated.", metavar="FILE"),
    ] = None,
    mistakes: Annotated[
        int | None,
        typer.Option("--mistakes", min=1, max=10, help="Without pictures: the N surest of each class, 4.", metavar="N"),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            help="saliency, integrated_gradients, grad_cam or lime; may be repeated. Or tsne alone.",
            metavar="NAME",
        ),
    ] = None,
    beside: Annotated[
        str | None,
        typer.Option("--beside", help="The same faces by a run on another version of the set.", metavar="RUN|ENSEMBLE"),
    ] = None,
    resampled: Annotated[
        str | None,
        typer.Option("--resampled", help="For tsne: rows of this resampling; its own.", metavar="R"),
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", min=1, help="For tsne: faces, about: 2,000.", metavar="N")
    ] = None,
    perplexity: Annotated[float | None, typer.Option("--perplexity", help="For tsne: 30.", metavar="P")] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=MOST_SEED, help="Of what LIME and t-SNE draw.", metavar="N")
    ] = 0,
    as_json: JsonOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Show which pixels decided, in pictures or in the surest mistakes on the select part.

    Red speaks for the answer, blue against it; saliency and Grad-CAM have no blue. tsne draws training faces as points,
    by their pixels and as a run sees them, synthetic ones as crosses.
    """
    from ensemble_fer.errors import UsageError
    from ensemble_fer.explain.explaining import MISTAKES
    from ensemble_fer.explain.explaining import explain as run_explain

    check_png("--out", out, store, picture or ())
    if method and "tsne" in method:
        if len(method) > 1 or picture or beside:
            raise UsageError("--method tsne draws all faces at once. Give it alone, without --picture and --beside.")
        if mistakes is not None:
            raise UsageError("--mistakes: tsne draws training faces, right and wrong. Leave it out.")
        _tsne(open_store(store), name, out, resampled, count, perplexity, seed, as_json)
        return
    for option, value in (("--resampled", resampled), ("--count", count), ("--perplexity", perplexity)):
        if value is not None:
            raise UsageError(f"{option} belongs to --method tsne. Leave it out.")
    if picture and mistakes is not None:
        raise UsageError("--mistakes are those of the select part; pictures are no part of it. Leave one of both out.")
    found = run_explain(
        open_store(store),
        name,
        out,
        pictures=picture or (),
        mistakes=MISTAKES if mistakes is None else mistakes,
        methods=method or (),
        beside=beside,
        seed=seed,
    )
    remark(f"drawn: {out}")
    if as_json:
        print_json(found)
        return
    rows = [
        [str(face.get("path", face.get("row"))), face["label"] or "", face["answer"], percent(face["probability"])]
        for face in found["faces"]
    ]
    print_table("", ["face", "label", "answer", "per cent"], rows)


def _tsne(
    store: Store,
    name: str,
    out: Path,
    resampled: str | None,
    count: int | None,
    perplexity: float | None,
    seed: int,
    as_json: bool,
) -> None:
    from ensemble_fer.explain.embedding import tsne

    numbers = {key: value for key, value in (("count", count), ("perplexity", perplexity)) if value is not None}
    found = tsne(store, name, out, resampled=resampled, seed=seed, **numbers)  # type: ignore[arg-type]
    remark(f"drawn: {out}")
    if as_json:
        print_json(found)
        return
    rows = [[what, f"{share:.1f}"] for what, share in found["neighbours"].items()]
    title = f"{found['faces']:,} faces, {found['synthetic']:,} synthetic"
    print_table(title, ["map", "nearest of the same class, per cent"], rows)
