"""Every member from timm exports to one ONNX graph that gives its numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contracts.exporting import exports_with_parity
from tests.contracts.members import FROM_TIMM


@pytest.mark.slow
@pytest.mark.parametrize("name", FROM_TIMM)
def test_exports_with_parity(name: str, tmp_path: Path) -> None:
    exports_with_parity(name, tmp_path)
