"""Sheets of explained faces and maps of all faces: what is shown is what was asked, and looked at nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ensemble_fer.app.drawing import overlay
from ensemble_fer.config import resolve_recipe
from ensemble_fer.data.synthetic import synth_data
from ensemble_fer.errors import MissingError, SplitMisuse, UsageError
from ensemble_fer.evaluate.predictions import load_predictions
from ensemble_fer.explain import embedding, explaining
from ensemble_fer.explain.attribution import attribute
from ensemble_fer.explain.embedding import embeddings_of, tsne
from ensemble_fer.explain.explaining import explain, subject_of
from ensemble_fer.export.fusing import fuse
from ensemble_fer.resample import make_resampling
from ensemble_fer.store import Artifact, Store
from ensemble_fer.train import load_member, train
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


@pytest.mark.parametrize("pictures", [False, True])
def test_the_sheet_shows_each_face_with_the_map_of_its_answer(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures: bool
) -> None:
    sheets: list[tuple] = []
    whole = explaining.contact_sheet
    monkeypatch.setattr(explaining, "contact_sheet", lambda *a, **b: sheets.append(a) or whole(*a, **b))
    images = making.faces(2, 9)
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    given = [tmp_path / "0.png", tmp_path / "1.png"] if pictures else []
    found = explain(store, "plain", tmp_path / "why.png", pictures=given, mistakes=2, methods=["saliency"], quiet=True)
    ((rows, heads, _),) = sheets
    assert heads == ["face", "saliency"]
    strips = [strip for _, line in rows for strip in line]
    subject = subject_of(store, store.get("run", "plain"))
    faces = images if pictures else faces_of().images[[face["row"] for face in found["faces"]]]
    answers = [CLASSES.index(face["answer"]) for face in found["faces"]]
    maps = attribute(subject, faces, np.array(answers), "saliency")
    assert len(strips) == len(faces)
    for strip, face, shown, said in zip(strips, faces, maps, found["faces"], strict=True):
        np.testing.assert_array_equal(strip.face, face)
        np.testing.assert_allclose(strip.maps[0], shown, atol=1e-5)
        assert strip.title == f"{said['answer']} {100 * said['probability']:.0f} %"


def test_a_picture_is_not_written_over(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "face.png"
    Image.fromarray(faces_of().images[0]).save(path)
    before = path.read_bytes()
    answer = run("explain", "duo", "--picture", path, "--out", path, "--store", store.root)
    assert answer.exit_code == 2
    assert "would be written over what is read" in answer.stderr
    assert path.read_bytes() == before


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


def test_the_subject_has_the_temperatures(tmp_path: Path, tiny_model: None) -> None:
    import torch

    opened = Store(tmp_path / "more")
    images = making.faces(700, 4)
    usage = np.repeat([0, 1, 2], [200, 400, 100]).astype(np.uint8)
    many = FaceSet(images, (np.arange(700) % 7).astype(np.uint8), usage, "many")
    for seed, name in enumerate(("a", "b")):
        making.untrained_run(opened, name, seed, data=many)
    ensemble = fuse(opened, ["a", "b"], calibrate="both", name="duo", quiet=True)
    by = subject_of(opened, ensemble).by
    assert by.temperature != 1
    assert (by.temperatures != 1).all()
    from ensemble_fer.export.session import open_graph

    wanted = open_graph(ensemble.file("ensemble.onnx")).run(images[:5])["probabilities"]
    with torch.no_grad():
        shares = subject_of(opened, ensemble).scores(torch.from_numpy(images[:5]).float()).exp().numpy()
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
    with pytest.raises(UsageError, match="do not show the same faces"):
        explain(store, "plain", tmp_path / "c.png", beside="short", quiet=True)
    others = FaceSet(before.images, before.labels[::-1].copy(), before.usage, "others")
    making.untrained_run(store, "others", 0, data=others)
    with pytest.raises(UsageError, match="do not show the same faces"):
        explain(store, "plain", tmp_path / "c.png", beside="others", quiet=True)
    making.untrained_run(store, "swapped", 0, data=before, split="official-swapped")
    explain(store, "plain", tmp_path / "d.png", mistakes=1, beside="swapped", quiet=True)
    making.untrained_run(store, "folded", 0, data=before, split="kfold:3:0")
    with pytest.raises(SplitMisuse, match="Train both on the same split"):
        explain(store, "plain", tmp_path / "c.png", beside="folded", quiet=True)
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
    for more in (["--method", "tsne", "--method", "lime"], ["--method", "tsne", "--mistakes", "2"],
                 ["--perplexity", "3"], ["--resampled", "foo"], ["--count", "99"],
                 ["--picture", "a.png", "--mistakes", "2"]):  # fmt: skip
        answer = run("explain", "plain", *more, "--out", out, "--store", store.root)
        assert answer.exit_code == 2, more
        assert "eave" in answer.stderr or "alone" in answer.stderr
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
    red, blue = drawn[..., 0] - drawn[..., 2], drawn[..., 2] - drawn[..., 0]
    assert red[:24].min() > -0.01, "no blue around what is for"
    assert blue[24:].min() > -0.01, "no red around what is against"


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
    with pytest.raises(UsageError, match="of which there are"):
        tsne(store, "plain", tmp_path / "points.png", count=2000, perplexity=60)
    for count, perplexity in ((10, 3), (60, 30), (60, 0)):
        with pytest.raises(UsageError, match="expected 50"):
            tsne(store, "plain", tmp_path / "points.png", count=count, perplexity=perplexity)


def test_points_of_a_run_are_those_that_it_was_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies are marked, and count once; other sets and other splits are refused."""
    store = Store(tmp_path / "store")
    data = synth_data(store, rows=400)
    recipe = resolve_recipe(model="compact", resampling="ros", epochs=1, epoch_rows=128)
    train(store, recipe, data=data.id, name="copied", threads=1, quiet=True)
    drawn = []
    monkeypatch.setattr(embedding, "figure", lambda points, *a, **b: drawn.append(points))
    found = tsne(store, "copied", tmp_path / "p.png", count=200, perplexity=10)
    (points,) = drawn
    assert 0 < found["synthetic"] == int(points.synthetic.sum())
    assert len(np.unique(points.alike)) < len(points.alike)
    assert found["neighbours"]["pixels"] == embedding._alike(points.pixels, points.labels, points.alike)
    with_copies = embedding._alike(points.pixels, points.labels, np.arange(len(points.labels)))
    assert with_copies > found["neighbours"]["pixels"], "a copy is nearest to itself"
    other = synth_data(store, rows=300, seed=1, name="other")
    foreign = make_resampling(store, other, method="ros", quiet=True)
    with pytest.raises(UsageError, match="of another set"):
        tsne(store, "copied", tmp_path / "p.png", resampled=foreign.id)
    swapped = make_resampling(store, data, method="ros", split="kfold:3:0", quiet=True)
    with pytest.raises(SplitMisuse):
        tsne(store, "copied", tmp_path / "p.png", resampled=swapped.id)
