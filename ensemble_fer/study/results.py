"""All pages of studies again from what was kept of them; ``make results`` is this program over ``docs/results``.

What is kept of a study lies in ``data/studies/NAME.SCALE``, its pages in the folder itself. A page of prose shows the
tables of a report between the marks ``<!-- study:NAME.SCALE: HEADING -->`` and ``<!-- end -->``, those that stand under
that heading.
"""

from __future__ import annotations

import argparse
import re
from functools import lru_cache
from pathlib import Path

from ensemble_fer.errors import UsageError, unknown_name
from ensemble_fer.files import write_atomic
from ensemble_fer.study.finding import study_file
from ensemble_fer.study.gathering import load_gathered
from ensemble_fer.study.page import Block, Heading, Table, as_markdown
from ensemble_fer.study.reading import read_study
from ensemble_fer.study.reporting import report_blocks, write_blocks

KEPT = Path("data/studies")
_MARKED = re.compile(r"(<!-- study:(?P<study>[^:]+): (?P<heading>[^>]+) -->\n).*?(<!-- end -->)", re.DOTALL)


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
        made += write_blocks(read_study(study_file(name), scale), _report(name, scale, folder), out or results)
    return made


def _report(name: str, scale: str, folder: Path) -> list[Block]:
    """The report of what is kept in a folder; computed once, since its page and pages of prose show it."""
    times = tuple(path.stat().st_mtime_ns for path in sorted(folder.iterdir()))
    return _report_of(name, scale, folder.resolve(), times)


@lru_cache(maxsize=16)
def _report_of(name: str, scale: str, folder: Path, times: tuple[int, ...]) -> list[Block]:
    study = read_study(study_file(name), scale)
    return list(report_blocks(study, load_gathered(folder, study)))


def with_tables(page: str, results: str | Path) -> str:
    """The text of a page with the tables of its marks as they are now.

    Raises
    ------
    UsageError
        A mark names a study of which nothing is kept, or a heading that its report has not.
    """
    known = {folder.name: (name, scale, folder) for name, scale, folder in kept_studies(results)}
    reports: dict[str, dict[str, list[Table]]] = {}

    def shown(mark: re.Match[str]) -> str:
        study, heading = mark["study"], mark["heading"]
        if study not in known:
            raise unknown_name("kept study", study, known)
        if study not in reports:
            name, scale, folder = known[study]
            reports[study] = tables_by_heading(_report(name, scale, folder))
        if heading not in reports[study]:
            raise unknown_name(f"heading of {study}", heading, reports[study])
        text = "\n\n".join(as_markdown(table) for table in reports[study][heading])
        return f"{mark[1]}\n{text}\n\n{mark[4]}"

    if page.count("<!-- study:") != len(_MARKED.findall(page)):
        raise UsageError("a mark '<!-- study:NAME.SCALE: HEADING -->' is not written so, or has no '<!-- end -->'.")
    return _MARKED.sub(shown, page)


def tables_by_heading(blocks: list[Block]) -> dict[str, list[Table]]:
    """The tables of a report under the heading that each stands below."""
    found: dict[str, list[Table]] = {}
    heading = ""
    for block in blocks:
        if isinstance(block, Heading):
            heading = block.text
        elif isinstance(block, Table):
            found.setdefault(heading, []).append(block)
    return found


def marked_pages(results: str | Path) -> list[Path]:
    """Pages of prose that show tables of studies: those of the folder, and the README of the project above it."""
    here = Path(results).resolve()
    pages = [*sorted(here.glob("*.md")), here.parents[1] / "README.md"]
    return [page for page in pages if page.is_file() and "<!-- study:" in page.read_text(encoding="utf-8")]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("results", nargs="?", default="docs/results", type=Path)
    results = parser.parse_args(arguments).results
    for page in write_pages(results):
        print(page)
    for page in marked_pages(results):
        write_atomic(page, with_tables(page.read_text(encoding="utf-8"), results))
        print(page)


if __name__ == "__main__":
    main()
