"""A store with faces, twins, split and resampling, to be copied: making them takes seconds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ensemble_fer.data.synthetic import synth_data
from ensemble_fer.data.twins import twins_of
from ensemble_fer.resample import make_resampling
from ensemble_fer.store import Store

ROWS = 600


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = Store(tmp_path_factory.mktemp("template"))
    data = synth_data(store, rows=ROWS, seed=1)
    twins_of(store, data, quiet=True)
    make_resampling(store, data, method="none")
    return store.root


@pytest.fixture
def prepared(template: Path, tmp_path: Path) -> Store:
    return Store(shutil.copytree(template, tmp_path / "store"))
