"""Where the studies are: files of a user's own by their path, ours by name, in an installed package or a checkout."""

from __future__ import annotations

from pathlib import Path

from ensemble_fer.errors import MissingError, unknown_name

PACKAGE = Path(__file__).parents[1]
PLACES = (PACKAGE / "study" / "files", PACKAGE.parent / "studies")
RECIPES = ("first",)
"""Files there that are recipes."""


def studies_folder() -> Path:
    """Where the files are that come with the package.

    Raises
    ------
    MissingError
        The package is not whole.
    """
    found = next((place for place in PLACES if place.is_dir()), None)
    if found is None:
        raise MissingError(f"there are no studies at {PLACES[0]}. Install the package again.")
    return found


def known_studies() -> dict[str, Path]:
    """The studies that come with the package, by name."""
    found = sorted(studies_folder().glob("*.toml"))
    return {path.stem: path for path in found if path.stem not in RECIPES}


def study_file(name: str) -> Path:
    """The file of a study: what ends in ``.toml`` is a path, all else a name.

    Raises
    ------
    MissingError
        No such file.
    UsageError
        No such study.
    """
    if name.endswith(".toml"):
        if not Path(name).is_file():
            raise MissingError(f"there is no study file {name}.")
        return Path(name)
    known = known_studies()
    if name not in known:
        raise unknown_name("study", name, known)
    return known[name]
