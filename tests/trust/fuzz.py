"""A coverage-guided fuzzer on each reader: what it reaches decides what it tries next (atheris, libFuzzer).

python -m tests.trust.fuzz READER --seconds 60     # or all of them:  make fuzz SECONDS=60

A reader may read or refuse with a reason; whatever else it raises ends the run, and what did it is kept in
``build/fuzz/READER``. What was found to reach something new is kept there too, and is where the next run begins.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "fuzz"
READERS = ("csv", "npz", "predictions", "picture", "weights", "graph", "recipe", "study", "manifest")


def reader(name: str, folder: Path) -> tuple[Callable[[bytes], object], list[bytes]]:
    """What reads the bytes that it is given, and inputs to begin with."""
    from tests.data.pictures import csv_line, faces
    from tests.evaluate.examples import some_predictions
    from tests.trust.test_files import STUDIES
    from tests.trust.test_graphs import small_graph

    path = folder / {"recipe": "a.toml", "study": "a.toml", "graph": "a.onnx", "csv": "a.csv"}.get(name, "a.npz")

    def of_file(read: Callable[[Path], object]) -> Callable[[bytes], object]:
        def from_bytes(content: bytes) -> object:
            path.write_bytes(content)
            return read(path)

        return from_bytes

    match name:
        case "csv":
            from ensemble_fer.data.csv_reader import read_csv

            lines = [csv_line(image, i, "Training") for i, image in enumerate(faces(2, seed=1))]
            return of_file(lambda file: read_csv(file, quiet=True)), [
                ("emotion,pixels,Usage\n" + "\n".join(lines)).encode()
            ]
        case "npz":
            from ensemble_fer.data.npz import read_npz

            out = io.BytesIO()
            np.savez(out, images=faces(2), labels=np.arange(2), usage=np.zeros(2, int))
            return of_file(read_npz), [out.getvalue()]
        case "predictions":
            from ensemble_fer.evaluate.predictions import load_predictions, save_predictions

            save_predictions(path, some_predictions(3))
            return of_file(load_predictions), [path.read_bytes()]
        case "picture":
            from PIL import Image

            from ensemble_fer.data.readers import picture_limits, read_whole

            seeds = []
            for kind in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"):
                out = io.BytesIO()
                Image.fromarray(faces(1)[0]).save(out, kind)
                seeds.append(out.getvalue())

            def read_picture(content: bytes) -> object:
                with picture_limits():
                    return read_whole(content)

            return read_picture, seeds
        case "weights":
            import torch
            from safetensors.torch import save

            from ensemble_fer.models import build
            from ensemble_fer.models.pretrained import start_weights

            member = build("compact", 0.0)
            out = io.BytesIO()
            torch.save({"a": torch.zeros(3)}, out)
            seeds = [save({"a": torch.zeros(3)}), out.getvalue()]
            return of_file(lambda file: start_weights(member, "compact", str(file))), seeds
        case "graph":
            from ensemble_fer.export.session import open_graph

            return of_file(open_graph), [small_graph().SerializeToString()]
        case "recipe":
            from ensemble_fer.config import resolve_recipe

            return of_file(resolve_recipe), [resolve_recipe(model="vggnet").to_toml().encode()]
        case "study":
            from ensemble_fer.study.reading import read_study

            return of_file(read_study), [study.read_bytes() for study in STUDIES if study.name != "first.toml"]
        case _:
            from ensemble_fer.store import Store

            store = Store(folder / "store")
            made = store.put("run", {"recipe": {"seed": 1}}, ["0123456789ab"], lambda _: {"score": 0.5}, name="one")
            manifest = made.path / "manifest.json"
            whole = manifest.read_bytes()

            def read_manifest(content: bytes) -> object:
                manifest.write_bytes(content)
                return store.get("run", "one")

            return read_manifest, [whole]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.trust.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("reader", choices=READERS)
    parser.add_argument("--seconds", type=int, default=60)
    asked = parser.parse_args(arguments)
    import atheris  # pyright: ignore[reportMissingImports]

    with atheris.instrument_imports(include=["ensemble_fer"]):
        from ensemble_fer.data.readers import BadPicture
        from ensemble_fer.errors import EnsembleFerError

        folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        read, seeds = reader(asked.reader, folder)
    corpus = KEPT / asked.reader
    corpus.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(content)

    def one(content: bytes) -> None:
        try:
            read(content)
        except (EnsembleFerError, BadPicture) as error:
            if not str(error).strip():
                raise ValueError("a refusal without a reason") from error

    atheris.Setup(
        [
            sys.argv[0],
            str(corpus),
            f"-max_total_time={asked.seconds}",
            f"-artifact_prefix={corpus}/crash-",
            "-max_len=20000",
            "-timeout=20",
            "-rss_limit_mb=3000",
            "-print_final_stats=1",
            "-verbosity=0",
        ],
        one,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
