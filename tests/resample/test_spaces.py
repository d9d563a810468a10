"""Neighbours in another space, pixels mixed all the same."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from ensemble_fer.data.synthetic import synth_data
from ensemble_fer.errors import SplitMisuse, UsageError
from ensemble_fer.models import MODELS, build
from ensemble_fer.neighbors import Mixtures
from ensemble_fer.resample import (
    ResamplingWarning,
    SearchOptions,
    Space,
    load_resampling,
    make_resampling,
    pca_space,
    resample,
)
from ensemble_fer.store import Store
from ensemble_fer.train.spaces import embedding, space_of
from ensemble_fer.types import FaceSet, Kind, Part, Role
from tests.export import making
from tests.export.making import untrained_run


@pytest.fixture(scope="module")
def faces() -> FaceSet:
    draw = np.random.default_rng(0)
    base = draw.integers(60, 190, (7, 12, 12))
    labels = np.repeat(np.arange(7), [60, 12, 40, 70, 30, 20, 50])
    images = base[labels] + draw.normal(0, 25, (len(labels), 12, 12))
    return FaceSet(np.clip(images, 0, 255).astype(np.uint8), labels, np.zeros(len(labels)))


def part_of(faces: FaceSet) -> Part:
    return Part(np.arange(len(faces)), Role.TRAIN)


def test_parents_are_neighbours_among_principal_components(faces: FaceSet) -> None:
    made = resample(faces, part_of(faces), "smote", options=SearchOptions(pca_space("pca:3")))
    assert made.title == "smote in pca:3"
    table = faces.images.reshape(len(faces), -1).astype(np.float32)
    low = PCA(3, svd_solver="covariance_eigh").fit_transform(table)
    mixed = made.kind == Kind.SYNTHETIC
    elsewhere = 0
    for a, b, label in zip(made.parent_a[mixed], made.parent_b[mixed], made.labels[mixed], strict=True):
        own = np.flatnonzero(faces.labels == label)
        near = own[np.argsort(((low[own] - low[a]) ** 2).sum(1))[:6]]
        assert b in near
        by_pixels = own[np.argsort(((table[own] - table[a]) ** 2).sum(1))[:6]]
        elsewhere += b not in by_pixels
    assert elsewhere > 20, "another space must choose other parents"
    # Pixels are mixed, not components.
    first = np.flatnonzero(mixed)[0]
    a, b, w = made.parent_a[first], made.parent_b[first], made.weight[first]
    blend = faces.images[a] + w * (faces.images[b].astype(float) - faces.images[a])
    assert np.array_equal(made.pixels(faces.images, np.array([first]))[0], np.rint(blend))


def test_a_mixture_lies_where_the_space_puts_the_mixed_face(faces: FaceSet) -> None:
    pixels = faces.images.reshape(len(faces), -1)
    bent = Space("bent", lambda _: lambda values: (values[:, :5] / 255) ** 3)
    draw = np.random.default_rng(1)
    a, b = draw.integers(0, len(faces), (2, 40))
    every = np.arange(len(faces))
    points = Mixtures(
        pixels, np.append(every, a), np.append(every, b), np.append(np.zeros(len(faces)), draw.random(40))
    )
    found = SearchOptions(bent).search(pixels)(points, 4)
    placed = (points.values(np.arange(len(points)))[:, :5] / 255) ** 3
    expected = NearestNeighbors(n_neighbors=4).fit(placed).kneighbors(placed, return_distance=False)
    assert np.array_equal(found[:, 1:], expected[:, 1:])
    queries = Mixtures(pixels, a[:7], b[:7], np.full(7, 0.5))
    near = SearchOptions(bent).search(pixels)(points, 2, queries)
    middle = (queries.values(np.arange(7))[:, :5] / 255) ** 3
    assert np.array_equal(near, NearestNeighbors(n_neighbors=2).fit(placed).kneighbors(middle, return_distance=False))


def test_embedding_is_what_the_last_layer_is_given() -> None:
    member = build("compact").eval()
    images = making.faces(5)
    found = embedding(member, images)
    assert found.shape == (5, 160)
    import torch

    linear = [m for m in member.modules() if isinstance(m, torch.nn.Linear)][-1]
    with torch.inference_mode():
        logits = linear(torch.from_numpy(found))
        np.testing.assert_allclose(logits, member(torch.from_numpy(images)), atol=1e-5)


def test_a_run_of_the_same_split_opens_a_space(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "tiny", making.tiny)
    run = untrained_run(store, "first", 0)
    data = store.get("data", run.inputs[0])
    options = SearchOptions(space_of(store, "run:first"))
    with pytest.warns(ResamplingWarning):
        made = make_resampling(store, data, method="enn", options=options, quiet=True)
    assert made.inputs[-1] == run.id
    assert load_resampling(made).title == f"enn in run:{run.id}"
    with pytest.raises(SplitMisuse, match="another split than 'official-swapped'"):
        make_resampling(store, data, method="enn", split="official-swapped", options=options, quiet=True)


def test_spaces_that_are_none(store: Store) -> None:
    for text in ("pca", "pca:0", "pca:x", "pca:501"):
        with pytest.raises(UsageError, match="1 to 500"):
            pca_space(text)
    with pytest.raises(UsageError, match=r"unknown space 'umap:2'.*pca:50"):
        pca_space("umap:2")
    with pytest.raises(UsageError, match="unknown run"):
        space_of(store, "run:nobody")
    assert space_of(store, "pixels") is None
    data = synth_data(store, rows=200, seed=0)
    with pytest.raises(UsageError, match="'ros' looks for no neighbours"):
        make_resampling(store, data, method="ros", options=SearchOptions(pca_space("pca:2")), quiet=True)
