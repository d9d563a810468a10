"""Sheets of explained faces and maps of all faces: what is shown is what was asked, and looked at nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ensemble_fer.app.drawing import overlay
from ensemble_fer.errors import MissingError, UsageError
from ensemble_fer.evaluate.predictions import load_predictions
from ensemble_fer.explain import embedding
from ensemble_fer.explain.embedding import embeddings_of, tsne
from ensemble_fer.explain.explaining import explain, subject_of
from ensemble_fer.export.fusing import fuse
from ensemble_fer.resample import make_resampling
from ensemble_fer.store import Artifact, Store
from ensemble_fer.train import load_member
from ensemble_fer.types import CLASSES, FaceSet, softmax
from tests.cli.running import run
from tests.export import making


def faces_of(seed: int = 0, count: int = 140) -> FaceSet:
    images = making.faces(count, seed)
    usage = np.repeat([0, 1, 2], [count - 70, 35, 35])
    return FaceSet(images, (np.arange(count) % 7).astype(np.uint8), usage.astype(np.uint8), f"blocks{seed}")


@pytest.fixture
def store(tmp_path: Path, tiny_model: None) -> Store:
    opened = Store(tmp_path / "store")
    for seed, name in enumerate(("plain", "other")):
        making.untrained_run(opened, name, seed, data=faces_of())
    return opened


def test_the_surest_mistakes_of_each_class(store: Store, tmp_path: Path) -> None:
    found = explain(store, "plain", tmp_path / "why.png", mistakes=2, quiet=True)
    said = load_predictions(store.get("run", "plain").file("select.npz"))
    shares = softmax(said.logits)
    for label, name in enumerate(CLASSES):
        wrong = [i for i in range(len(said.rows)) if said.labels[i] == label and shares[i].argmax() != label]
        surest = sorted(wrong, key=lambda i: -shares[i].max())[:2]
        shown = [face for face in found["faces"] if face["label"] == name]
        assert [face["row"] for face in shown] == [int(said.rows[i]) for i in surest]
        assert [face["answer"] for face in shown] == [CLASSES[shares[i].argmax()] for i in surest]
        np.testing.assert_allclose([face["probability"] for face in shown], [shares[i].max() for i in surest])
    picture = np.asarray(Image.open(tmp_path / "why.png").convert("RGB")).astype(int)
    assert picture.shape[0] > 1000
    assert (picture[..., 0] - picture[..., 2]).max() > 100, "red marks what spoke for the answer"
    assert not (store.root / "looks.jsonl").exists(), "the test part was not looked at"


def test_pictures_by_all_methods(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "face.png"
    Image.fromarray(making.faces(1, 9)[0]).save(path)
    ensemble = fuse(store, ["plain", "other"], tta="flip", name="duo", quiet=True)
    answer = run("explain", "duo", "--picture", path, "--out", tmp_path / "why.png", "--store", store.root, "--json")
    assert answer.exit_code == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert found["methods"] == ["saliency", "integrated_gradients", "grad_cam", "lime"]
    from ensemble_fer.app.prediction import predict

    ((said,),) = [item["faces"] for item in predict(path, graph=ensemble)]
    assert found["faces"][0]["answer"] == said["label"]
    assert found["faces"][0]["probability"] == pytest.approx(said["probabilities"][said["label"]], abs=1e-5)


def test_the_subject_is_the_ensemble_as_it_was_fused(store: Store) -> None:
    import torch

    ensemble = fuse(store, ["plain", "other"], rule="mean_logits", name="duo", quiet=True)
    from ensemble_fer.export.session import open_graph

    given = making.faces(5, 3)
    wanted = open_graph(ensemble.file("ensemble.onnx")).run(given)["probabilities"]
    with torch.no_grad():
        shares = subject_of(store, ensemble).scores(torch.from_numpy(given).float()).exp().numpy()
    np.testing.assert_allclose(shares, wanted, atol=1e-5)


def test_beside_another_version_of_the_set(store: Store, tmp_path: Path) -> None:
    """As after alignment: the same rows, other pixels."""
    before = faces_of()
    after = FaceSet(before.images[:, :, ::-1].copy(), before.labels, before.usage, "mirrored")
    making.untrained_run(store, "mirrored", 0, data=after)
    found = explain(store, "plain", tmp_path / "a.png", mistakes=1, beside="mirrored", quiet=True)
    alone = explain(store, "plain", tmp_path / "b.png", mistakes=1, quiet=True)
    assert found["faces"] == alone["faces"]
    assert Image.open(tmp_path / "a.png").width > 1.7 * Image.open(tmp_path / "b.png").width
    making.untrained_run(store, "short", 0, data=faces_of(3, 105))
    with pytest.raises(UsageError, match="different numbers of faces"):
        explain(store, "plain", tmp_path / "c.png", beside="short", quiet=True)
    assert not (tmp_path / "c.png").exists()


def test_what_is_refused(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "why.png"
    with pytest.raises(UsageError, match="grad_cam"):
        explain(store, "plain", out, methods=["grad_kam"], quiet=True)
    with pytest.raises(UsageError, match="1 to 10"):
        explain(store, "plain", out, mistakes=0, quiet=True)
    with pytest.raises(UsageError, match="Leave one"):
        explain(store, "plain", out, pictures=["a.png"], beside="other", quiet=True)
    with pytest.raises(MissingError, match=r"a\.png"):
        explain(store, "plain", out, pictures=[tmp_path / "a.png"], quiet=True)
    answer = run("explain", "plain", "--method", "tsne", "--method", "lime", "--store", store.root)
    assert answer.exit_code == 2
    import sys

    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(MissingError, match=r"ensemble-fer\[explain\]"):
        explain(store, "plain", out, quiet=True)
    assert not out.exists()


def test_overlay_is_red_for_and_blue_against() -> None:
    face = np.full((48, 48), 128, np.uint8)
    shown = np.zeros((48, 48), np.float32)
    shown[10:16, 10:16], shown[30:36, 30:36] = 1, -1
    drawn = overlay(face, shown)
    assert drawn[12, 12, 0] > 0.7 > 0.3 > drawn[12, 12, 2]
    assert drawn[32, 32, 2] > 0.7 > 0.3 > drawn[32, 32, 0]
    np.testing.assert_allclose(drawn[0, 0], 128 / 255, atol=0.01)


def test_embeddings_are_what_the_last_layer_is_given(store: Store) -> None:
    import torch

    member = load_member(store.get("run", "plain"))
    given = making.faces(300, 2)
    inside = embeddings_of(member, given)
    last = [*member.body.children()][-1]
    with torch.no_grad():
        np.testing.assert_allclose(last(torch.from_numpy(inside)), member(torch.from_numpy(given)), atol=1e-4)


def test_points_of_a_balanced_set_with_its_synthetic_rows(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    whole = embedding.figure
    monkeypatch.setattr(embedding, "figure", lambda points, *a, **b: drawn.append(points) or whole(points, *a, **b))
    data = store.get("data", "blocks0")
    made = make_resampling(store, data, method="augment", target=40, quiet=True)
    assert isinstance(made, Artifact)
    found = tsne(store, "plain", tmp_path / "points.png", resampled=made.id, count=120, perplexity=10)
    (points,) = drawn
    assert found["faces"] == len(points.labels) == len(points.pixels) == len(points.embeddings)
    assert 0 < found["synthetic"] == int(points.synthetic.sum()) < found["faces"]
    assert np.isfinite(points.pixels).all()
    assert Image.open(tmp_path / "points.png").width > 1500
    again = tsne(store, "plain", tmp_path / "points.png", resampled=made.id, count=120, perplexity=10)
    assert again == found
    plain = run("explain", "plain", "--method", "tsne", "--out", tmp_path / "p.png", "--count", 60,
                "--perplexity", 5, "--store", store.root, "--json")  # fmt: skip
    assert plain.exit_code == 0, plain.stderr
    assert json.loads(plain.stdout)["synthetic"] == 0
    for count, perplexity in ((10, 3), (60, 30), (60, 0)):
        with pytest.raises(UsageError, match="expected 50"):
            tsne(store, "plain", tmp_path / "points.png", count=count, perplexity=perplexity)
