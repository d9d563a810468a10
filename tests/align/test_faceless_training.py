"""Rows without a found face that were asked to be left out do not train, also where the select part trains too."""

from __future__ import annotations

import numpy as np
import pytest

from ensemble_fer.align import align
from ensemble_fer.config import Recipe
from ensemble_fer.data.derived import alignment_of
from ensemble_fer.data.importing import store_faces
from ensemble_fer.data.synthetic import draw_faces
from ensemble_fer.store import Store
from ensemble_fer.train import prepare
from ensemble_fer.types import FaceSet

RECIPE = Recipe(train_on="train+select", batch_size=16, epochs=1)


@pytest.mark.parametrize("asked", [None, "train"])
def test_select_rows_without_a_face_train_only_where_faceless_rows_do(store: Store, asked: str | None) -> None:
    drawn = draw_faces(200, seed=5)
    faces = FaceSet(drawn.images, drawn.labels, drawn.usage, "few")
    made = align(store, store_faces(store, faces, {}), drop_faceless=asked, device="cpu", quiet=True)
    alignment = alignment_of(made)
    assert alignment is not None
    both = np.sort(np.concatenate([faces.rows_of("Training"), faces.rows_of("PublicTest")]))
    wanted = both if asked is None else both[alignment.found[both]]
    select = faces.rows_of("PublicTest")
    assert not alignment.found[select].all(), "there are select rows to leave out"
    request = prepare(store, RECIPE, data=store.name_of(made), quiet=True)
    assert np.array_equal(np.sort(request.rows.parent_a), wanted)
    assert len(request.select_rows) == 0
