"""Twins: every planted kind is found, nothing else is, and the groups are what the pairs say."""

from __future__ import annotations

import io
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ensemble_fer.data.importing import store_faces
from ensemble_fer.data.registration import align, band, correlation, identity_maps, sample
from ensemble_fer.data.screening import Screen
from ensemble_fer.data.twins import SCREEN, TANGENT, compare, find_twins, groups_of, twins_of
from ensemble_fer.store import Store
from ensemble_fer.types import FaceSet, TwinMap


def textured(n: int, seed: int = 0) -> NDArray[np.uint8]:
    """Head-shaped pictures, alike in layout as faces are and different in everything finer, at 96 x 96."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    out = []
    for _ in range(n):
        head = ((x / rng.uniform(0.6, 0.8)) ** 2 + (y / rng.uniform(0.8, 0.95)) ** 2 < 1) * rng.uniform(50, 110)
        fields = [rng.standard_normal((96, 96)) for _ in range(3)]
        texture = sum(
            a * f / f.std()
            for s, a, f in zip(
                (14, 6, 2.5),
                (30, 25, 15),
                (gaussian_filter(f, s) for f, s in zip(fields, (14, 6, 2.5), strict=True)),
                strict=True,
            )
        )
        eyes = sum(
            -70 * (((x - side) / 0.14) ** 2 + ((y - rng.uniform(-0.35, -0.2)) / 0.08) ** 2 < 1)
            for side in (-rng.uniform(0.25, 0.4), rng.uniform(0.25, 0.4))
        )
        mouth = -60 * (
            (x / rng.uniform(0.2, 0.4)) ** 2 + ((y - rng.uniform(0.4, 0.55)) / rng.uniform(0.05, 0.15)) ** 2 < 1
        )
        out.append(np.clip(90 + head + texture + eyes + mouth, 0, 255))
    return np.array(out).astype(np.uint8)


def shrunk(picture: NDArray, box: tuple[float, float, float, float] = (0, 0, 96, 96)) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(picture).resize((48, 48), Image.Resampling.BILINEAR, box=box))


def jpeg(picture: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=quality)
    return np.asarray(Image.open(out))


def watermarked(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    out = picture.astype(int)
    out[32:38, 4:44] += 45 * (np.arange(40) % 5 < 2)
    return np.clip(out, 0, 255).astype(np.uint8)


KINDS = {
    "identical": lambda p: shrunk(p),
    "jpeg": lambda p: jpeg(shrunk(p), 60),
    "darker": lambda p: (0.5 * shrunk(p)).astype(np.uint8),
    "contrast": lambda p: np.clip(1.4 * (shrunk(p) - 110.0) + 130, 0, 255).astype(np.uint8),
    "watermark": lambda p: watermarked(shrunk(p)),
    "crop": lambda p: shrunk(p, (3, 2, 94, 93)),
    "shift": lambda p: np.pad(shrunk(p), 2, mode="edge")[4:, 1:49],
    "zoom": lambda p: shrunk(p, (5, 5, 91, 91)),
    "turned": lambda p: shrunk(np.asarray(Image.fromarray(p).rotate(4, Image.Resampling.BILINEAR))),
    "mirrored": lambda p: shrunk(p)[:, ::-1],
    "mirrored jpeg": lambda p: jpeg(shrunk(p, (2, 0, 95, 94))[:, ::-1], 70),
}


@pytest.fixture(scope="module")
def planted() -> tuple[NDArray[np.uint8], dict[tuple[int, int], str]]:
    """Distinct pictures, and after them one twin of each kind for a few; the pairs with their kinds."""
    sources = textured(150)
    images = [shrunk(p) for p in sources]
    pairs = {}
    for k, (kind, change) in enumerate(KINDS.items()):
        for source in range(4 * k, 4 * k + 4):
            pairs[(source, len(images))] = kind
            images.append(change(sources[source]))
    return np.stack(images), pairs


@pytest.fixture(scope="module")
def found(planted) -> TwinMap:
    return find_twins(planted[0], quiet=True)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_found(kind, planted, found):
    wanted = {pair for pair, k in planted[1].items() if k == kind}
    got = {tuple(p): m for p, m in zip(found.pairs.tolist(), found.mirrored, strict=True)}
    assert wanted <= set(got)
    assert all(got[pair] == ("mirrored" in kind) for pair in wanted)


def test_nothing_else_is_found(planted, found):
    assert {tuple(p) for p in found.pairs.tolist()} == set(planted[1])


def test_numbers_beside_the_pairs(planted, found):
    images = planted[0].astype(float)
    for (a, b), rms, r, mirrored in zip(found.pairs, found.rms, found.correlation, found.mirrored, strict=True):
        other = images[b][:, ::-1] if mirrored else images[b]
        assert rms == pytest.approx(np.sqrt(((images[a] - other) ** 2).mean()), rel=1e-5, abs=1e-4)
        # Aligning never makes it worse than the pixels as they lie (its edge aside).
        assert r >= np.corrcoef(images[a].ravel(), other.ravel())[0, 1] - 0.03
    assert (found.pairs[:, 0] < found.pairs[:, 1]).all()
    assert found.pairs.tolist() == sorted(found.pairs.tolist())


def test_groups_are_named_by_their_smallest_row():
    pairs = np.array([[5, 7], [2, 7], [0, 3]])
    assert groups_of(pairs, 9).tolist() == [0, 1, 2, 0, 4, 2, 6, 2, 8]
    assert groups_of(np.zeros((0, 2), int), 3).tolist() == [0, 1, 2]


def test_groups_against_a_naive_closure():
    rng = np.random.default_rng(4)
    for _ in range(20):
        n = int(rng.integers(2, 30))
        pairs = np.sort(np.stack([rng.integers(0, n, 12), rng.integers(0, n, 12)], 1), 1)
        naive = list(range(n))
        for _ in range(n):
            for a, b in pairs:
                naive[a] = naive[b] = min(naive[a], naive[b])
        assert groups_of(pairs, n).tolist() == naive


def test_screen_against_all_pairs_one_by_one(planted):
    """The tiled products miss no pair, straight or mirrored, that the definition lets pass."""
    images = planted[0][::3]

    def small(picture: NDArray, side: int) -> NDArray:
        return picture.reshape(side, 48 // side, side, 48 // side).mean((1, 3)).ravel()

    def explained(a: NDArray, b: NDArray) -> float:
        """Least squares of b by a and its derivatives, fitted by numpy."""
        dy, dx = np.gradient(a)
        grid = np.arange(12) - 5.5
        terms = np.stack([np.ones((12, 12)), a, dy, dx, dy * grid[:, None] + dx * grid]).reshape(5, -1).T
        fit = terms @ np.linalg.lstsq(terms, b.ravel(), rcond=None)[0]
        return np.corrcoef(fit, b.ravel())[0, 1] * np.sign(np.corrcoef(a.ravel(), b.ravel())[0, 1])

    bands = band(images, 2.0, 8.0, step=4).astype(float)
    wanted, unsure = set(), set()
    for a, b in combinations(range(len(images)), 2):
        for mirrored in (0, 1):
            other, other_band = (p[:, ::-1] if mirrored else p for p in (images[b], bands[b]))
            r = np.corrcoef(small(images[a].astype(float), 12), small(other.astype(float), 12))[0, 1]
            if r < SCREEN - 1e-4:
                continue
            flipped_a = bands[a][:, ::-1] if mirrored else bands[a]
            share = max(explained(bands[a], other_band), explained(bands[b], flipped_a))
            close = min(abs(r - SCREEN), abs(share - TANGENT)) < 1e-3
            if close or share >= TANGENT:
                (unsure if close else wanted).add((a, b, mirrored))
    sieve = Screen(images, screen=SCREEN, tangent=TANGENT)
    got = [tuple(map(int, p)) for start in sieve.starts for p in sieve.block(start)]
    assert len(set(got)) == len(got)
    assert wanted <= set(got) <= wanted | unsure
    assert len(wanted) >= 10


def test_screen_does_not_depend_on_tiles(planted, monkeypatch):
    import ensemble_fer.data.screening as screening

    def all_pairs() -> set:
        sieve = Screen(planted[0], screen=SCREEN, tangent=TANGENT)
        return {tuple(map(int, p)) for start in sieve.starts for p in sieve.block(start)}

    whole = all_pairs()
    monkeypatch.setattr(screening, "TALL", 16)
    monkeypatch.setattr(screening, "WIDE", 48)
    monkeypatch.setattr(screening, "BATCH", 5)
    assert all_pairs() == whole


def test_whether_two_rows_are_twins_depends_on_them_alone(planted, found):
    rows = np.unique(found.pairs[::2])
    alone = find_twins(planted[0][rows], quiet=True)
    position = {row: i for i, row in enumerate(rows)}
    inside = [[position[a], position[b]] for a, b in found.pairs if a in position and b in position]
    assert alone.pairs.tolist() == inside


def test_alignment_finds_the_map():
    """A picture seen through a known map: the aligned one agrees where both are seen."""
    images = np.stack([shrunk(p) for p in textured(6, seed=9)]).astype(np.float32)
    first = band(images, 0.8, 4.0)
    true = identity_maps(6)
    true[:, 0] += [0.05, -0.03, 1.5]
    true[:, 1] += [0.03, -0.04, -2.0]
    second, _ = sample(first, true)
    assert correlation(first, second).max() < 0.8
    score, maps = align(first, second, identity_maps(6), steps=8)
    assert score.min() > 0.995
    np.testing.assert_allclose(maps[:, :, :2], true[:, :, :2], atol=0.01)
    np.testing.assert_allclose(maps[:, :, 2], true[:, :, 2], atol=0.15)


def test_sample_against_one_pixel_at_a_time():
    rng = np.random.default_rng(1)
    image = rng.random((1, 7, 7)).astype(np.float32)
    maps = identity_maps(1) + rng.normal(0, 0.1, (1, 2, 3))
    seen, inside = sample(image, maps)
    for r in range(7):
        for c in range(7):
            y, x = maps[0] @ [r - 3, c - 3, 1] + 3
            assert bool(inside[0, r, c]) == (-0.01 < y < 6.01 and -0.01 < x < 6.01)
            if 0 <= y < 6 and 0 <= x < 6:
                i, j = int(y), int(x)
                u, v = y - i, x - j
                square = image[0, i : i + 2, j : j + 2]
                expected = (1 - u) * ((1 - v) * square[0, 0] + v * square[0, 1]) + u * (
                    (1 - v) * square[1, 0] + v * square[1, 1]
                )
                assert seen[0, r, c] == pytest.approx(expected, abs=1e-4)


def test_flat_rows_are_twins_of_flat_rows_of_their_level_only():
    images = np.stack([shrunk(p) for p in textured(4)] + [np.full((48, 48), v, np.uint8) for v in (0, 0, 1, 9, 200)])
    images[8, 0, 0] += 1  # flat, but not constant
    twins = find_twins(images, quiet=True)
    assert twins.groups.tolist() == [0, 1, 2, 3, 4, 4, 4, 7, 8]


def test_copies_are_linked_to_the_first():
    faces = np.stack([shrunk(p) for p in textured(3)])
    twins = find_twins(faces[[0, 1, 0, 2, 0, 1, 0]], quiet=True)
    assert twins.groups.tolist() == [0, 1, 0, 3, 0, 1, 0]
    assert twins.pairs.tolist() == [[0, 2], [0, 4], [0, 6], [1, 5]]
    assert (twins.rms == 0).all()
    assert (twins.correlation == 1).all()


def test_low_contrast_noise_makes_no_twins():
    rng = np.random.default_rng(0)
    images = (100 + 2 * rng.standard_normal((300, 48, 48))).astype(np.uint8)
    assert len(find_twins(images, quiet=True).pairs) == 0


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_rows(n):
    images = np.stack([shrunk(p) for p in textured(3)])[:n]
    assert find_twins(images, quiet=True).groups.tolist() == list(range(n))


def test_other_sizes_are_compared_at_48():
    sources = textured(5)
    images = np.concatenate([sources, sources[:1]])
    assert find_twins(images, quiet=True).groups.tolist() == [0, 1, 2, 3, 4, 0]


def test_compare_says_how_alike():
    source = textured(2, seed=3)
    first = np.stack([shrunk(source[0])] * 2).astype(np.float32)
    second = np.stack([shrunk(source[0], (3, 2, 94, 93)), shrunk(source[1])]).astype(np.float32)
    detail, plain = compare(first, second)
    assert detail[0] > 0.9
    assert detail[1] < 0.7
    assert plain[0] > 0.97


def test_synthetic_faces_are_told_apart():
    from ensemble_fer.data.synthetic import draw_faces

    drawn = draw_faces(1500, seed=1)
    twins = find_twins(drawn.images, quiet=True)
    planted = [(t["row"], t["of"]) for t in drawn.planted["twins"]]
    assert np.mean([twins.groups[a] == twins.groups[b] for a, b in planted]) >= 0.97
    together = {frozenset(p) for p in planted}
    extra = [p for p in twins.pairs.tolist() if frozenset(p) not in together]
    assert len(extra) <= 0.004 * len(drawn.images)


def test_stored_and_answered_from_disk(store: Store, planted, monkeypatch):
    import ensemble_fer.data.twins as module

    images = planted[0][:170]
    data = store_faces(store, FaceSet(images, np.zeros(170), np.zeros(170), "some"), {})
    made, twins = twins_of(store, data, quiet=True)
    assert made.inputs == [data.id]
    assert made.spec["detail"] == module.DETAIL
    assert made.metrics["pairs"] == len(twins.pairs) > 0
    monkeypatch.setattr(module, "find_twins", lambda *a, **k: pytest.fail("looked for again"))
    again, loaded = twins_of(store, data, quiet=True)
    assert again.id == made.id
    for key in ("groups", "pairs", "correlation", "rms", "mirrored"):
        np.testing.assert_array_equal(getattr(loaded, key), getattr(twins, key))
