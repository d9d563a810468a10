"""Votes of FER+: what is read, what is refused, and what follows from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ensemble_fer.data.importing import store_faces
from ensemble_fer.data.injection import inject_data
from ensemble_fer.data.synthetic import draw_faces
from ensemble_fer.data.votes import (
    RULES,
    Votes,
    agreement_of,
    find_votes,
    join_votes,
    label_agreement,
    left_out,
    need_votes,
    soft_labels,
    votes_of,
)
from ensemble_fer.data.votes_csv import COLUMNS, read_votes
from ensemble_fer.errors import BadData, MissingError, StoreError, UsageError
from ensemble_fer.store import Store
from ensemble_fer.types import CLASSES, OFFICIAL, FaceSet
from tests.data.pictures import faces as noise

HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
COLUMN_OF = dict(zip(CLASSES, ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"), strict=True))


def line(usage: str = "Training", name: str = "fer0.png", **votes: int) -> str:
    return ",".join([usage, name, *(str(votes.get(column, 0)) for column in COLUMNS)])


def write(path: Path, lines: list[str], header: str = HEADER) -> Path:
    path.write_bytes("\r\n".join([header, *lines, ""]).encode())
    return path


def votes_on(faces: FaceSet, seed: int = 0) -> np.ndarray:
    """Ten votes a face, mostly for its label."""
    rng = np.random.default_rng(seed)
    shares = np.full((len(faces), len(COLUMNS)), 0.03)
    shares[np.arange(len(faces)), [COLUMNS.index(COLUMN_OF[CLASSES[code]]) for code in faces.labels]] += 0.7
    return rng.multinomial(10, shares / shares.sum(axis=1, keepdims=True))


def file_of(path: Path, faces: FaceSet, counts: np.ndarray, unnamed: int = -1) -> Path:
    lines = [
        ",".join([OFFICIAL[usage], "" if row == unnamed else f"fer{row:07d}.png", *map(str, votes)])
        for row, (usage, votes) in enumerate(zip(faces.usage, counts, strict=True))
    ]
    return write(path, lines)


@pytest.fixture
def faces() -> FaceSet:
    labels = np.tile(np.arange(7), 20)
    return FaceSet(noise(140), labels, np.repeat([0, 1, 2], [100, 20, 20]), "few")


def some(*rows: dict[str, int], named: list[bool] | None = None) -> Votes:
    counts = np.array([[row.get(column, 0) for column in COLUMNS] for row in rows])
    return Votes(counts, np.array(named or [True] * len(rows)), np.ones(len(rows)))


# -- reading ---------------------------------------------------------------------------------------


def test_columns_in_any_order_case_and_encoding_of_utf8(tmp_path: Path) -> None:
    path = write(tmp_path / "v.csv", [line(happiness=7, NF=3), line("PrivateTest", "", unknown=10), ""])
    usage, named, counts = read_votes(path)
    assert (usage.tolist(), named.tolist()) == ([0, 2], [True, False])
    assert counts.tolist() == [[0, 7, 0, 0, 0, 0, 0, 0, 0, 3], [0, 0, 0, 0, 0, 0, 0, 0, 10, 0]]
    turned = HEADER.split(",")[::-1]
    lines = [",".join([*cells.split(",")[::-1], "more"]) for cells in (line(happiness=7, NF=3),)]
    other = tmp_path / "w.csv"
    other.write_bytes(b"\xef\xbb\xbf" + "\n".join([",".join([*turned, "x"]).upper(), *lines]).encode())
    assert np.array_equal(read_votes(other)[2][0], counts[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no column Usage"),
        (HEADER.encode(), "no line of votes"),
        (b"emotion,pixels,Usage\n0,1 2 3,Training\n", "It looks like the file of pixels"),
        (HEADER.replace("anger,", "").encode(), "no column anger"),
        (HEADER.replace("sadness", "sadnes").encode(), "Did you mean 'sadnes' to be 'sadness'"),
        (HEADER.replace("anger", "fear").encode(), "no column anger"),
        ((HEADER + ",fear").encode(), "names the column fear twice"),
        (HEADER.encode("utf-16"), "UTF-16"),
        (f"{HEADER}\n{line(name='é')}".encode("latin-1"), "line 2: not UTF-8"),
        (f"{HEADER}\nTraining,a,1,2\n".encode(), "line 2: 4 of 12 columns"),
        (f"{HEADER}\n{line('Train')}".encode(), "line 2: unknown usage 'Train'"),
        (f'{HEADER}\n"{"x" * 200_000}'.encode(), "field larger"),
        (b"\x89PNG\r\n\x1a\n\0\0", "no text"),
    ],
)
def test_what_is_no_file_of_votes_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "v.csv"
    path.write_bytes(content)
    with pytest.raises(BadData, match=message):
        read_votes(path)


@pytest.mark.parametrize("vote", ["-1", "1.5", "256", "9" * 400, "", "x", "1e2", "٣", "nan", "0x1"])
def test_what_is_no_vote_is_named_with_its_line(tmp_path: Path, vote: str) -> None:
    bad = line(happiness=4).replace("4", vote)
    path = write(tmp_path / "v.csv", [line(fear=1), bad, line(), bad])
    with pytest.raises(BadData, match=r"2 bad rows") as caught:
        read_votes(path)
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["line 3", "line 5"]
    assert all("happiness is" in problem and len(problem) < 150 for problem in caught.value.problems)


def test_the_file_of_pixels_is_not_read_to_its_end(tmp_path: Path) -> None:
    with (tmp_path / "v.csv").open("wb") as file:
        file.truncate(301_000_000)
    with pytest.raises(BadData, match="Is it the file of the pixels"):
        read_votes(tmp_path / "v.csv")


# -- joining ---------------------------------------------------------------------------------------


def test_votes_are_kept_with_the_set(store: Store, tmp_path: Path, faces: FaceSet) -> None:
    data, counts = store_faces(store, faces, {}), votes_on(faces)
    assert votes_of(store, data) is None
    with pytest.raises(MissingError, match=r"data votes fer2013new\.csv --data few"):
        need_votes(store, data)
    path = file_of(tmp_path / "v.csv", faces, counts, unnamed=5)
    made = join_votes(store, path, data)
    assert (made.inputs, store.refs("votes")["few-votes"]) == ([data.id], made.id)
    votes = votes_of(store, data)
    assert votes is not None
    assert np.array_equal(votes.counts, counts)
    assert np.flatnonzero(~votes.named).tolist() == [5]
    assert votes.asked.all()
    assert made.metrics["rows"] == 140
    assert made.metrics["not_a_face"] == left_out(votes, "not_a_face").sum() >= 1
    assert made.metrics["no_majority"] == left_out(votes, "no_majority").sum()
    assert made.metrics["kappa"] > 0.7
    assert need_votes(store, data)[0].id == made.id
    # The same votes again are the same artifact, others are joined in their stead.
    assert join_votes(store, path, data, name="again").id == made.id
    other = join_votes(store, file_of(tmp_path / "w.csv", faces, votes_on(faces, 1)), data, name="other")
    assert other.id != made.id


def test_the_votes_joined_last_count(store: Store, tmp_path: Path, faces: FaceSet) -> None:
    """Within a second too, and where they had been joined before."""
    data = store_faces(store, faces, {})
    made = []
    for seed in (0, 1, 2, 0, 2):
        path = file_of(tmp_path / f"{seed}.csv", faces, votes_on(faces, seed))
        made.append(join_votes(store, path, data, name=f"votes-{seed}"))
        found = find_votes(store, data)
        assert found is not None
        assert found.id == made[-1].id
    assert len({one.id for one in made}) == 3


def test_a_part_in_another_order_does_not_hide_behind_the_rest(store: Store, tmp_path: Path, faces: FaceSet) -> None:
    n = 12
    many = FaceSet(*(np.concatenate([array] * n) for array in (faces.images, faces.labels, faces.usage)), "many")
    counts = votes_on(many)
    data = store_faces(store, many, {})
    join_votes(store, file_of(tmp_path / "v.csv", many, counts), data)
    assert len(many) > 1500
    shuffled = counts.copy()
    shuffled[1000:] = np.roll(counts[1000:], 1, axis=0)[np.random.default_rng(0).permutation(len(counts) - 1000)]
    with pytest.raises(BadData, match="from row 1,000 of many on"):
        join_votes(store, file_of(tmp_path / "w.csv", many, shuffled), data)


def test_votes_are_found_for_a_set_with_injected_rows(store: Store, tmp_path: Path) -> None:
    base_faces = draw_faces(200, 1).faces("base")
    base, other = store_faces(store, base_faces, {}), store_faces(store, draw_faces(200, 2).faces("other"), {})
    injected = inject_data(store, base, other, classes=["disgust"], quiet=True)
    twice = inject_data(store, injected, other, classes=["fear"], quiet=True)
    assert votes_of(store, twice) is None
    path = file_of(tmp_path / "v.csv", base_faces, votes_on(base_faces))
    join_votes(store, path, base)
    rows = twice.metrics["rows"]
    votes = votes_of(store, twice)
    assert votes is not None
    assert len(votes) == rows > 200
    assert np.array_equal(votes.asked, np.arange(rows) < 200)
    for rule in RULES:
        assert not left_out(votes, rule)[200:].any()
    labels = np.arange(rows) % 7
    assert np.array_equal(soft_labels(votes, labels)[200:], np.eye(7)[labels[200:]])
    assert np.isnan(agreement_of(votes)[200:]).all()
    aligned = store.put("data", {"align": {}}, [twice.id], lambda folder: {"rows": rows})
    assert np.array_equal(need_votes(store, aligned)[1].counts, votes.counts)
    # Joined to it directly, the rows of the base are what they are compared with.
    own = join_votes(store, path, injected, name="own")
    assert (own.metrics["rows"], own.inputs) == (200, [injected.id])


def test_a_set_that_is_not_row_for_row_what_was_voted_on_is_refused(
    store: Store, tmp_path: Path, faces: FaceSet
) -> None:
    counts = votes_on(faces)
    path = file_of(tmp_path / "v.csv", faces, counts)
    short = store_faces(store, FaceSet(faces.images[1:], faces.labels[1:], faces.usage[1:], "short"), {})
    with pytest.raises(BadData, match="votes on 140 rows; short has 139"):
        join_votes(store, path, short)
    usage = faces.usage.copy()
    usage[[3, 120]] = usage[[120, 3]]
    other = store_faces(store, FaceSet(faces.images, faces.labels, usage, "other"), {})
    with pytest.raises(BadData, match="2 rows have another usage, the first is row 3: Training in the file and Priv"):
        join_votes(store, path, other)
    order = np.concatenate([np.random.default_rng(0).permutation(100), np.arange(100, 140)])
    shuffled = store_faces(store, FaceSet(faces.images[order], faces.labels[order], faces.usage, "shuffled"), {})
    file_of(path, faces, votes_on(FaceSet(faces.images, np.roll(faces.labels, 3), faces.usage)))
    with pytest.raises(BadData, match="another order of rows"):
        join_votes(store, path, shuffled)
    empty = write(tmp_path / "none.csv", [line(OFFICIAL[u], NF=10) for u in faces.usage])
    with pytest.raises(BadData, match="another order of rows"):
        join_votes(store, empty, store_faces(store, faces, {}))
    with pytest.raises(MissingError, match="microsoft/FERPlus"):
        join_votes(store, tmp_path / "absent.csv", short)
    with pytest.raises(UsageError, match="cannot be a name"):
        join_votes(store, path, short, name="a/b")
    assert store.ids("votes") == []


def test_a_changed_file_of_votes_is_noticed(store: Store, tmp_path: Path, faces: FaceSet) -> None:
    data = store_faces(store, faces, {})
    made = join_votes(store, file_of(tmp_path / "v.csv", faces, votes_on(faces)), data)
    file = made.path / "votes.npz"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(StoreError, match="not what was written"):
        votes_of(store, data)


# -- what follows ----------------------------------------------------------------------------------


def test_soft_labels_are_shares_of_the_seven_in_our_order() -> None:
    votes = some(
        {"anger": 2, "happiness": 6, "contempt": 1, "unknown": 1},
        {"contempt": 6, "unknown": 3, "NF": 1},
        {"disgust": 1},
        {},
    )
    soft = soft_labels(votes, np.array([4, 5, 6, 2]))
    assert soft.dtype == np.float32
    np.testing.assert_allclose(soft[0], [0.25, 0, 0, 0.75, 0, 0, 0])
    assert np.array_equal(soft[1:], np.eye(7)[[5, 1, 2]])


def test_rules_leave_out_what_they_say() -> None:
    cases = [
        ({"happiness": 10}, True, ""),
        ({"happiness": 10}, False, "not_a_face no_majority"),
        ({"NF": 6, "happiness": 4}, True, "not_a_face no_majority"),
        ({"NF": 5, "happiness": 5}, True, "no_majority"),
        ({"unknown": 9, "fear": 1}, True, "no_majority"),
        ({"contempt": 9, "fear": 1}, True, "no_majority"),
        ({"fear": 5, "surprise": 5}, True, "no_majority"),
        ({"fear": 6, "surprise": 4}, True, ""),
        # Votes that stand alone are put aside: 4 of the other 7.
        ({"fear": 4, "surprise": 3, "anger": 1, "sadness": 1, "NF": 1}, True, ""),
        ({"fear": 3, "surprise": 3, "anger": 1, "sadness": 1, "NF": 2}, True, "no_majority"),
        ({"fear": 1}, True, "no_majority"),
        ({}, True, "no_majority"),
    ]
    votes = some(*(case for case, _, _ in cases), named=[named for _, named, _ in cases])
    for rule in RULES:
        assert left_out(votes, rule).tolist() == [rule in text.split() for _, _, text in cases], rule
    with pytest.raises(UsageError, match="Did you mean 'no_majority'"):
        left_out(votes, "majority")


def naive_majority(row: np.ndarray) -> str | None:
    """The mode "majority" of the released code, as a walk over the columns."""
    kept = {column: int(n) for column, n in zip(COLUMNS, row, strict=True) if n > 1}
    for column, n in kept.items():
        if n > sum(kept.values()) / 2:
            return column
    return None


@settings(max_examples=60, deadline=None)
@given(arrays(np.uint8, (5, 10), elements=st.integers(0, 255)), st.lists(st.integers(0, 6), min_size=5, max_size=5))
def test_properties_of_any_votes(counts: np.ndarray, labels: list[int]) -> None:
    votes = Votes(counts, np.ones(5), np.ones(5))
    own = np.array(labels)
    soft = soft_labels(votes, own)
    np.testing.assert_allclose(soft.sum(axis=1), 1, atol=1e-5)
    assert (soft >= 0).all()
    out = left_out(votes, "no_majority")
    assert (out | ~left_out(votes, "not_a_face")).all()
    for row, seven in zip(counts, ~out, strict=True):
        found = naive_majority(row)
        assert seven == (found in COLUMN_OF.values())
    agreement = agreement_of(votes)
    asked = counts.sum(axis=1) > 0
    assert np.array_equal(np.isnan(agreement), ~asked)
    assert ((agreement[asked] >= 0) & (agreement[asked] <= 1)).all()


def test_agreement_and_kappa_against_scikit_learn() -> None:
    from sklearn.metrics import cohen_kappa_score

    rng = np.random.default_rng(4)
    labels = rng.integers(0, 7, 500)
    said = np.where(rng.random(500) < 0.6, labels, rng.integers(0, 7, 500))
    votes = some(*({COLUMN_OF[CLASSES[code]]: 8, "unknown": 2} for code in said))
    share, kappa = label_agreement(votes, labels)
    assert share == pytest.approx((said == labels).mean())
    assert kappa == pytest.approx(cohen_kappa_score(labels, said))
    assert (agreement_of(votes) == 0.8).all()
    assert label_agreement(some({"happiness": 3}), np.array([3])) == (1.0, 1.0)
    assert label_agreement(some({"unknown": 3}), np.array([3])) == (0.0, 0.0)
