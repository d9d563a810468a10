"""Paths as they are typed."""

from __future__ import annotations

from pathlib import Path

from ensemble_fer.errors import MissingError


def typed_path(text: str | Path) -> Path:
    """A path with ``~`` and ``~name`` replaced by the home folder that they mean.

    Raises
    ------
    MissingError
        There is no such home folder.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise MissingError(
            f"the path {text} begins with a home folder that is not here. Give the path as seen from here, without ~."
        ) from error
