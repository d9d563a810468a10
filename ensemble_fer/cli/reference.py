"""``docs/cli.md``, written from the program itself: ``python -m ensemble_fer.cli.reference docs/cli.md``.

A test compares the page with the program, so it cannot say what is not so.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HEAD = """# Commands

Made from the program by `make docs`; do not edit.

Data goes to stdout (with `--json` one JSON document and nothing else), progress and remarks to stderr.
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 something is missing (the message says how to get it), 130 interrupted.
"""


def commands() -> Iterator[tuple[str, Any]]:
    """Every command by its full name, such as ``data import``, in the order of the help."""
    from typer.main import get_command

    from ensemble_fer.cli import app

    def walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        if not hasattr(command, "commands"):
            yield " ".join(path), command
            return
        for name in command.list_commands(None):
            yield from walk(command.commands[name], (*path, name))

    yield from walk(get_command(app), ())


def page() -> str:
    """The whole page as Markdown."""
    known = list(commands())
    lines = [HEAD, "| command | does |", "|---|---|"]
    lines += [f"| [`{name}`](#{name.replace(' ', '-')}) | {_first(command)} |" for name, command in known]
    for name, command in known:
        lines += ["", *_section(name, command)]
    return "\n".join(lines) + "\n"


def _section(name: str, command: Any) -> list[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    usage = " ".join(["ensemble-fer", name, *(_metavar(p) for p in arguments), "[OPTIONS]"])
    lines = [f"## {name}", "", *_text(command).splitlines(), "", "```", usage, "", *_example(command), "```", ""]
    lines += ["| option | default | meaning |", "|---|---|---|"]
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            spelt, default = f"`{_metavar(parameter)}`", "needed" if parameter.required else ""
        else:
            words = [*parameter.opts, *parameter.secondary_opts]
            metavar = "" if parameter.is_flag else f" {_metavar(parameter)}"
            spelt, default = f"`{', '.join(words)}{metavar}`", _default(parameter)
        lines.append(f"| {_cell(spelt)} | {default} | {_cell(parameter.help or '')}{_environment(parameter)} |")
    return lines


def _metavar(parameter: Any) -> str:
    return parameter.metavar or parameter.name.upper()


def _default(parameter: Any) -> str:
    if parameter.required:
        return "needed"
    if parameter.default is None or parameter.default is False:
        return ""
    if parameter.default is True:
        return f"`{parameter.opts[0]}`"
    return f"`{parameter.default}`"


def _environment(parameter: Any) -> str:
    return f" Also `{parameter.envvar}` in the environment." if getattr(parameter, "envvar", None) else ""


def _text(command: Any) -> str:
    return inspect.cleandoc(command.help or "")


def _first(command: Any) -> str:
    return _cell(_text(command).split("\n\n")[0].replace("\n", " "))


def _example(command: Any) -> list[str]:
    return [line.removeprefix("Example:").strip() for line in (command.epilog or "").splitlines()]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
