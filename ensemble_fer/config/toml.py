"""TOML files of anybody, read within limits. Nothing heavy is imported: the help of the command line needs this."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from ensemble_fer.errors import UsageError

_MOST_TOML, _LONGEST_TOML = 100_000, 2_000


def read_toml(path: str | Path) -> dict[str, Any]:
    """A TOML file as a table.

    Raises
    ------
    FileNotFoundError
        There is none.
    UsageError
        It is not TOML, cannot be read, or is larger than anything of ours: a short key of many parts takes gigabytes.
    """
    from ensemble_fer.files import opened_file  # which needs numpy

    path = Path(path)
    try:
        with opened_file(path) as file:
            content = file.read(_MOST_TOML + 1)
        if len(content) > _MOST_TOML:
            raise UsageError(f"{path} has more than {_MOST_TOML:,} bytes; expected a file that people write.")
        if max(map(len, content.splitlines()), default=0) > _LONGEST_TOML:
            raise UsageError(f"{path} has a line of more than {_LONGEST_TOML:,} characters. Break it.")
        found = tomllib.loads(content.decode("utf-8"))
        if _beyond_64_bits(found):
            raise UsageError(f"{path} has a whole number beyond 64 bits, which TOML does not know.")
        return found
    except FileNotFoundError:
        raise
    except (ValueError, RecursionError) as error:  # numbers and nesting without end are neither
        raise UsageError(f"{path} is not TOML: {error}.") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error


def _beyond_64_bits(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_beyond_64_bits, value.values()))
    if isinstance(value, list):
        return any(map(_beyond_64_bits, value))
    return isinstance(value, int) and not -(2**63) <= value < 2**63
