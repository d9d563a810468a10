"""Every member of ours exports to one ONNX graph that gives its numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from ensemble_fer.models import MODELS
from tests.contracts.exporting import exports_with_parity
from tests.contracts.members import FROM_TIMM


@pytest.mark.parametrize("name", sorted(set(MODELS) - set(FROM_TIMM)))
def test_exports_with_parity(name: str, tmp_path: Path) -> None:
    exports_with_parity(name, tmp_path)
