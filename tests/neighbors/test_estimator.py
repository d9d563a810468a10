"""The search as an estimator for imbalanced-learn and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from ensemble_fer.neighbors.estimator import PixelNeighbors


class TestEstimator:
    """``PixelNeighbors`` beside scikit-learn's ``NearestNeighbors`` on rows without ties."""

    @pytest.fixture
    def rows(self):
        return np.random.default_rng(0).integers(0, 256, (80, 60)).astype(np.uint8)

    def test_is_clonable_and_answers_like_scikit_learn(self, rows):
        from sklearn.base import clone
        from sklearn.neighbors import NearestNeighbors

        ours = clone(PixelNeighbors(n_neighbors=4)).fit(rows)
        theirs = NearestNeighbors(n_neighbors=4, algorithm="brute").fit(rows.astype(float))
        for asked in (None, rows, rows[::3]):
            distance, found = ours.kneighbors(asked)
            expected = theirs.kneighbors(None if asked is None else asked.astype(float))
            assert np.array_equal(found, expected[1])
            assert np.allclose(distance, expected[0], atol=1e-4)
            for mode in ("connectivity", "distance"):
                graph = ours.kneighbors_graph(asked, 3, mode=mode)
                reference = theirs.kneighbors_graph(None if asked is None else asked.astype(float), 3, mode=mode)
                assert np.allclose(graph.toarray(), reference.toarray(), atol=1e-4)

    def test_without_queries_no_row_is_its_own_neighbour_even_among_copies(self):
        rows = np.zeros((6, 4), np.uint8)
        found = PixelNeighbors(2).fit(rows).kneighbors(return_distance=False)
        assert found.tolist() == [[1, 2], [0, 2], [0, 1], [0, 1], [0, 1], [0, 1]]

    def test_goes_into_samplers(self, rows):
        from imblearn.over_sampling import SMOTE

        labels = np.repeat([0, 1], [60, 20])
        ours = SMOTE(random_state=3, k_neighbors=PixelNeighbors(6)).fit_resample(rows.astype(float), labels)[0]
        theirs = SMOTE(random_state=3).fit_resample(rows.astype(float), labels)[0]
        assert np.array_equal(ours, theirs)

    def test_other_numbers_are_searched_as_they_are(self, rows):
        from sklearn.neighbors import NearestNeighbors

        for values in (rows / 7, rows.astype(int) + 1, rows * 1e-200, rows * 1e9 - 3e11):
            distance, found = PixelNeighbors(4).fit(values).kneighbors()
            expected = NearestNeighbors(n_neighbors=4, algorithm="kd_tree").fit(values).kneighbors()
            if values.max() > 1e-190:  # the squares of smaller numbers are 0
                assert np.array_equal(found, expected[1])
            np.testing.assert_allclose(distance, expected[0], rtol=1e-7)

    def test_queries_of_another_order_of_magnitude(self):
        from sklearn.neighbors import NearestNeighbors

        draw = np.random.default_rng(0)
        fitted, asked = draw.normal(0, 1, (700, 5)), draw.normal(0, 1e25, (9, 5))
        distance, found = PixelNeighbors(3).fit(fitted).kneighbors(asked)
        assert np.isfinite(distance).all()
        near = fitted / 1e3
        found = PixelNeighbors(3).fit(near).kneighbors(near[:9] + 1e4)[1]
        assert np.array_equal(found, NearestNeighbors(n_neighbors=3).fit(near).kneighbors(near[:9] + 1e4)[1])

    def test_refuses_what_is_no_table_of_numbers(self, rows):
        with pytest.raises(ValueError, match="NaN"):
            PixelNeighbors().fit(np.where(rows > 250, np.nan, rows))
        with pytest.raises(ValueError, match="2D array"):
            PixelNeighbors().fit(rows[0])

    def test_refuses_with_value_errors_as_other_estimators_do(self, rows):
        fitted = PixelNeighbors().fit(rows)
        for k in (0, 80):
            with pytest.raises(ValueError, match=f"{k} neighbours were asked for; among 80 fitted rows: 1 to 79"):
                fitted.kneighbors(n_neighbors=k)
        with pytest.raises(ValueError, match="X has 59 features; 60 were fitted"):
            fitted.kneighbors(rows[:, :59])
        with pytest.raises(ValueError, match="mode 'both'"):
            fitted.kneighbors_graph(mode="both")

    def test_later_changes_to_the_given_rows_change_no_answer(self, rows):
        given = rows.copy()
        fitted = PixelNeighbors(3).fit(given)
        before = fitted.kneighbors(rows)[1]
        given[:] = 255 - given[::-1]
        assert np.array_equal(fitted.kneighbors(rows)[1], before)

    def test_goes_through_joblib(self, rows, tmp_path):
        import joblib

        fitted = PixelNeighbors(3).fit(rows)
        joblib.dump(fitted, tmp_path / "fitted")
        assert np.array_equal(joblib.load(tmp_path / "fitted").kneighbors()[1], fitted.kneighbors()[1])


def dense_checks():
    """Pairs (sampler, check) of imbalanced-learn's own battery for samplers, those of sparse matrices left out."""
    from imblearn.combine import SMOTEENN, SMOTETomek
    from imblearn.over_sampling import ADASYN, SMOTE, BorderlineSMOTE
    from imblearn.under_sampling import AllKNN, EditedNearestNeighbours, RepeatedEditedNearestNeighbours
    from imblearn.utils.estimator_checks import parametrize_with_checks

    samplers = [
        SMOTE(random_state=0, k_neighbors=PixelNeighbors(6)),
        BorderlineSMOTE(random_state=0, k_neighbors=PixelNeighbors(6), m_neighbors=PixelNeighbors(11)),
        ADASYN(random_state=0, n_neighbors=PixelNeighbors(6)),
        EditedNearestNeighbours(n_neighbors=PixelNeighbors(4)),
        RepeatedEditedNearestNeighbours(n_neighbors=PixelNeighbors(4)),
        AllKNN(n_neighbors=PixelNeighbors(4)),
        SMOTEENN(
            random_state=0,
            smote=SMOTE(random_state=0, k_neighbors=PixelNeighbors(6)),
            enn=EditedNearestNeighbours(sampling_strategy="all", n_neighbors=PixelNeighbors(4)),
        ),
        SMOTETomek(random_state=0, smote=SMOTE(random_state=0, k_neighbors=PixelNeighbors(6))),
    ]
    marks = parametrize_with_checks(samplers).args[1]
    for sampler, check in marks:
        name = getattr(check, "func", check).__name__
        if "sampler" in name and "sparse" not in name:
            yield pytest.param(sampler, check, id=f"{type(sampler).__name__}-{name}")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("sampler", "check"), list(dense_checks()))
def test_imbalanced_learns_own_checks_pass_with_our_search_inside(sampler, check):
    check(sampler)
