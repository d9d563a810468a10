"""All pages of studies again from what was kept of them; ``make results`` is this program over ``docs/results``.

What is kept of a study lies in ``data/studies/NAME.SCALE``, its pages in the folder itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ensemble_fer.study.finding import study_file
from ensemble_fer.study.gathering import load_gathered
from ensemble_fer.study.reading import read_study
from ensemble_fer.study.reporting import write_report

KEPT = Path("data/studies")


def kept_studies(results: str | Path) -> list[tuple[str, str, Path]]:
    """Name, scale and folder of every study of which something is kept."""
    folders = sorted(path for path in (Path(results) / KEPT).glob("*.*") if path.is_dir())
    return [(path.stem, path.suffix[1:], path) for path in folders]


def write_pages(results: str | Path, out: str | Path | None = None) -> list[Path]:
    """Write the pages of every kept study.

    Parameters
    ----------
    results : path
        Holds ``data/studies``.
    out : path, optional
        Where the pages go; ``results`` by default.

    Returns
    -------
    list of Path
        The pages.
    """
    made: list[Path] = []
    for name, scale, folder in kept_studies(results):
        made += write_report(read_study(study_file(name), scale), load_gathered(folder), out or results)
    return made


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("results", nargs="?", default="docs/results", type=Path)
    for page in write_pages(parser.parse_args(arguments).results):
        print(page)


if __name__ == "__main__":
    main()
