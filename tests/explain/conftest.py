from __future__ import annotations

from pathlib import Path

import pytest

from tests.export import making


@pytest.fixture
def graph_file() -> Path:
    return making.graph_file()


@pytest.fixture
def tiny_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """``tiny`` is a model like any other."""
    from ensemble_fer.models import MODELS

    monkeypatch.setitem(MODELS, "tiny", making.tiny)
