"""The lowest versions that pyproject.toml allows, as pins: what ``make test-lowest`` installs.

python -m tests.floors > build/lowest.txt
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def floors(project: Path = PROJECT) -> list[str]:
    """``NAME==VERSION`` for every library that is asked for by a lowest version, extras included."""
    found = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    asked = [*found["dependencies"], *(each for extra in found["optional-dependencies"].values() for each in extra)]
    pins = []
    for each in asked:
        match = re.fullmatch(r"([A-Za-z0-9_.-]+)(\[[^]]*\])?>=([0-9][0-9.]*)", each)
        if match:
            pins.append(f"{match[1]}=={match[3]}")
    return sorted(set(pins))


if __name__ == "__main__":
    print("\n".join(floors()))
