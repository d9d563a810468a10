"""A page as a list of blocks, written as Markdown beside its figures, or as one HTML file that needs nothing else."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ensemble_fer.files import write_atomic


@dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    """A paragraph; ``this`` is code."""

    text: str


@dataclass(frozen=True)
class Table:
    """Cells as text; all columns but the first ``left`` are numbers and stand to the right."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    left: int = 1


@dataclass(frozen=True)
class Figure:
    """A picture as SVG text.

    Parameters
    ----------
    name : str
        Of its file beside a Markdown page.
    says : str
        What it shows, for who does not see it, and under it.
    """

    name: str
    svg: str = field(repr=False)
    says: str = ""


@dataclass(frozen=True)
class Code:
    text: str


Block = Heading | Text | Table | Figure | Code

MOST_IN_A_LINE = 21
"""Characters of a cell; a longer one is broken."""
_STYLE = """
:root { color-scheme: light; --ink: #1d2733; --soft: #5b6775; --line: #dfe4ea; --leak: #b00020; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem; color: var(--ink); background: #fff;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 1rem; } h2 { margin: 2.4rem 0 .6rem; font-size: 1.3rem; }
h3 { margin: 1.6rem 0 .4rem; font-size: 1.05rem; }
p { max-width: 46rem; } .note, figcaption { color: var(--soft); font-size: .88rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .32rem .55rem; border-bottom: 1px solid var(--line); white-space: nowrap; text-align: right; }
th { font-weight: 600; border-bottom: 2px solid var(--ink); vertical-align: bottom; white-space: normal; }
th.l, td.l { text-align: left; } td.l { white-space: normal; min-width: 7.2rem; } td.leaky { color: var(--leak); }
td.long { white-space: normal; min-width: 8.4rem; }
tr:hover td { background: #f5f7fa; }
figure { margin: 1rem 0; } figure svg { max-width: 100%; height: auto; }
pre { background: #f5f7fa; padding: .8rem 1rem; overflow-x: auto; border-radius: 6px; }
code { font: .9em ui-monospace, Menlo, Consolas, monospace; }
@media (max-width: 40rem) { body { font-size: 15px; padding-top: 1rem; } h1 { font-size: 1.5rem; } }
"""


def to_markdown(title: str, blocks: Sequence[Block], path: Path) -> None:
    """Write ``path``, and each figure as ``images/STEM-NAME.svg`` beside it."""
    parts = [f"# {title}"]
    for block in blocks:
        if isinstance(block, Figure):
            picture = path.parent / "images" / f"{path.stem}-{block.name}.svg"
            write_atomic(picture, block.svg)
            parts.append(f"![{block.says}]({picture.relative_to(path.parent).as_posix()})")
        else:
            parts.append(as_markdown(block))
    write_atomic(path, "\n\n".join(parts) + "\n")


def as_markdown(block: Block) -> str:
    """A block other than a figure."""
    match block:
        case Heading():
            return f"{'#' * block.level} {block.text}"
        case Text():
            return block.text
        case Code():
            return f"```\n{block.text}\n```"
        case Table():
            marks = ["---" if i < block.left else "---:" for i in range(len(block.heads))]
            lines = [block.heads, marks, *block.rows]
            table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
            return table + (f"\n\n{block.note}" if block.note else "")
        case _:
            raise TypeError(type(block))


def to_html(title: str, blocks: Sequence[Block], path: Path) -> None:
    """Write one file with style and figures inside; it asks for nothing from anywhere."""
    body = "\n".join(_html(block) for block in blocks)
    write_atomic(
        path,
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{_inline(title)}</h1>\n{body}\n</body>\n</html>\n",
    )


def _html(block: Block) -> str:
    match block:
        case Heading():
            return f"<h{block.level}>{_inline(block.text)}</h{block.level}>"
        case Text():
            return f"<p>{_inline(block.text)}</p>"
        case Code():
            return f"<pre><code>{html.escape(block.text)}</code></pre>"
        case Figure():
            svg = block.svg[block.svg.index("<svg") :]
            label = html.escape(block.says, quote=True)
            return (
                f'<figure role="img" aria-label="{label}">{svg}<figcaption>{_inline(block.says)}</figcaption></figure>'
            )
        case Table():
            heads = "".join(_cell("th", text, i < block.left) for i, text in enumerate(block.heads))
            rows = "\n".join(
                "<tr>" + "".join(_cell("td", text, i < block.left) for i, text in enumerate(row)) + "</tr>"
                for row in block.rows
            )
            note = f'<p class="note">{_inline(block.note)}</p>' if block.note else ""
            return (
                f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>\n{rows}\n</tbody></table></div>{note}'
            )


def _cell(tag: str, text: str, left: bool) -> str:
    each = {"l": left, "leaky": "LEAKY" in text and tag == "td", "long": len(text) > MOST_IN_A_LINE and not left}
    classes = " ".join(name for name, there in each.items() if there)
    attribute = f' class="{classes}"' if classes else ""
    # An interval stays on one line.
    whole = re.sub(r"\[[^\]]{1,20}\]", lambda found: found[0].replace(" ", "&nbsp;"), _inline(text))
    return f"<{tag}{attribute}>{whole}</{tag}>"


def _inline(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
