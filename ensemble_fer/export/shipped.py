"""The ensemble that the package carries, so that a photograph can be read before anything is trained."""

from __future__ import annotations

from pathlib import Path

from ensemble_fer.errors import MissingError

PACKAGE = Path(__file__).parents[1]
PLACES = (PACKAGE / "released", PACKAGE.parent / "artifacts" / "released")
"""In an installed package, and in a checkout."""
GRAPH, CARD = "ensemble.onnx", "README.md"


def shipped_graph() -> Path:
    """The ONNX file of the shipped ensemble; its card, recipes and logits lie beside it.

    Raises
    ------
    MissingError
        This copy of the package came without it.
    """
    found = next((place / GRAPH for place in PLACES if (place / GRAPH).is_file()), None)
    if found is None:
        raise MissingError(
            f"this copy of ensemble-fer came without its ensemble: there is no {GRAPH} in {PLACES[0]} or {PLACES[1]}. "
            "Install the package again, or name a graph of yours."
        )
    return found
