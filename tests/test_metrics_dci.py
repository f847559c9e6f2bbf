"""DCI: its scores of an importance matrix, its predictors, and resamples without a refit."""

from __future__ import annotations

import numpy as np
import pytest
from code_cases import Codes, blurred, drawn, noise, perfect, turned
from scipy.stats import entropy
from sklearn.ensemble import GradientBoostingClassifier, RandomForestRegressor
from sklearn.linear_model import Lasso, LassoCV
from sklearn.model_selection import ShuffleSplit

from betavae_core.errors import DataError, UsageError
from betavae_core.metrics import predictors
from betavae_core.metrics.dci import METRIC, NAMES, dci, measure
from betavae_core.metrics.points import Measured, Points, resampled_rows
from betavae_core.metrics.resampling import draw_weights, split

MODELS = ("boosting", "lasso", "forest")


def scores_of(importance: Codes, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Disentanglement and completeness where the predictors are found to have this importance."""

    def given(z: Codes, values: Codes, z_test: Codes, *_: object) -> predictors.Prediction:
        column = importance[:, len(np.unique(values)) - 2]  # factor k has k + 2 values
        return predictors.Prediction(column[None], values, np.zeros(len(z_test)))

    monkeypatch.setitem(
        predictors.PREDICTORS, "given", predictors.Predictor(given, predictors.accuracy)
    )
    D, K = importance.shape
    points = Points.of(noise(300, D), drawn(300, tuple(range(2, K + 2))))
    measured = measure(points, model="given")
    np.testing.assert_array_equal(measured[NAMES[0]].details["importance"], importance)
    return [measured[name].score for name in NAMES[:2]]


def as_in_the_paper(R: Codes) -> list[float]:
    """Section 2, with scipy's entropies."""
    latents = [1 - entropy(row, base=R.shape[1]) if row.any() else 0 for row in R]
    factors = [1 - entropy(column, base=R.shape[0]) if column.any() else 0 for column in R.T]
    return [float(np.average(latents, weights=R.sum(1))), float(np.mean(factors))]


def test_scores_are_those_of_the_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    importance = np.random.default_rng(0).gamma(0.3, size=(5, 3))
    importance[2] = 0
    importance /= importance.sum(0)
    expected = as_in_the_paper(importance)
    assert scores_of(importance, monkeypatch) == pytest.approx(expected, abs=1e-12)


def test_one_latent_a_factor_is_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    assert scores_of(np.eye(4), monkeypatch) == pytest.approx([1, 1], abs=1e-12)


def test_all_latents_for_all_factors_is_the_worst(monkeypatch: pytest.MonkeyPatch) -> None:
    assert scores_of(np.ones((4, 3)), monkeypatch) == pytest.approx([0, 0], abs=1e-12)


def test_two_latents_for_each_factor_are_disentangled_and_half_complete(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    twice = np.repeat(np.eye(2), 2, axis=0)
    assert scores_of(twice, monkeypatch) == pytest.approx([1, 0.5], abs=1e-12)


def test_one_latent_for_two_factors_is_complete_and_half_disentangled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared = np.repeat(np.eye(2), 2, axis=1)
    assert scores_of(shared, monkeypatch) == pytest.approx([0.5, 1], abs=1e-12)


def test_nothing_of_importance_scores_0(monkeypatch: pytest.MonkeyPatch) -> None:
    assert scores_of(np.zeros((3, 2)), monkeypatch) == pytest.approx([0, 0], abs=1e-12)


@pytest.mark.parametrize("model", MODELS)
def test_perfect_codes_score_high_turned_codes_lower_and_noise_lowest(model: str) -> None:
    factors = drawn(300)
    codes = perfect(factors, idle=1)
    best, worse, worst = (
        dci(z, factors, model=model) for z in (codes, turned(codes), noise(300, 4))
    )
    assert min(best) > 0.9
    assert worse[0] < best[0] - 0.2
    assert worse[1] < best[1] - 0.2
    assert worst[2] < best[2] - 0.5


def test_boosting_is_disentanglement_libs() -> None:
    factors = drawn(300, (2, 3))
    points = Points.of(blurred(factors, 0.4), factors)
    measured = measure(points)
    train, test = split(points, 0)
    columns, right, fitted = [], [], []
    for v, v_test in zip(train.factors.T, test.factors.T, strict=True):
        model = GradientBoostingClassifier(random_state=0).fit(train.codes, v)
        columns.append(model.feature_importances_)
        right.append(np.mean(model.predict(test.codes) == v_test))
        fitted.append(np.mean(model.predict(train.codes) == v))
    R = np.transpose(columns)
    np.testing.assert_allclose(measured[NAMES[0]].details["importance"], R, atol=0.02)
    assert [measured[n].score for n in NAMES] == pytest.approx(
        [*as_in_the_paper(R), np.mean(right)], abs=0.02
    )
    assert measured[NAMES[2]].details["fitted"] == pytest.approx(np.mean(fitted), abs=0.01)


@pytest.mark.parametrize("model", MODELS)
def test_the_order_of_the_latents_changes_nothing_beyond_the_interval(model: str) -> None:
    factors = drawn(300, (3, 3))
    codes = turned(blurred(factors, 0.3))
    measured = measure(Points.of(codes, factors), resamples=40, model=model)
    other = measure(Points.of(-codes[:, [2, 0, 1]], factors), model=model)
    for name in NAMES:
        low, high = measured[name].interval(0.99)
        assert low <= other[name].score <= high


def test_informativeness_is_resampled_over_the_scoring_points() -> None:
    factors = drawn(450, (3, 3))
    points = Points.of(turned(blurred(factors, 0.3)), factors)
    measured = measure(points, seed=3, resamples=4, model="lasso")[NAMES[2]]
    train, test = split(points, 3)
    weights = np.ones((1, len(train)))
    predicted = [predictors.lasso(train.codes, v, test.codes, weights, 3) for v in train.factors.T]
    for score, rows in zip(measured.resampled, resampled_rows(len(test), 4, 3), strict=True):
        of_rows = [
            1 - np.sqrt(np.mean((p.test[rows] - v[rows]) ** 2)) / v[rows].std()
            for p, v in zip(predicted, test.factors.T, strict=True)
        ]
        assert score == pytest.approx(np.mean(of_rows), abs=1e-10)


def test_the_lasso_is_refitted_to_each_resample_at_its_penalty() -> None:
    factors = drawn(200, (5,))
    codes, weights = blurred(factors), draw_weights(200, 2, 0)
    found = predictors.lasso(codes, factors[:, 0], codes, weights, 0).importance
    x, y = ((a - a.mean(0)) / a.std(0) for a in (codes, factors[:, 0]))
    fifths = ShuffleSplit(5, test_size=0.2, random_state=0)
    penalty = LassoCV(cv=fifths).fit(x, y).alpha_
    for row, weight in zip(found, weights, strict=True):
        rows = np.repeat(np.arange(200), weight.astype(int))
        alone = Lasso(penalty).fit(x[rows], y[rows]).coef_
        np.testing.assert_allclose(row, np.abs(alone), atol=1e-3)


def test_the_falls_of_a_tree_are_its_impurity_importances() -> None:
    factors = drawn(300, (6,))
    codes = blurred(factors, 0.4)
    forest = RandomForestRegressor(3, max_depth=5, bootstrap=False, random_state=0)
    for tree in forest.fit(codes, factors[:, 0]).estimators_:
        falls = predictors._falls(tree, codes, factors[:, 0], np.array([[1.0] * 300, [3.0] * 300]))
        np.testing.assert_allclose(falls, [tree.feature_importances_] * 2, atol=1e-12)


def test_the_number_of_workers_changes_nothing() -> None:
    factors = drawn(90, (2, 3))
    points = Points.of(blurred(factors), factors)
    alone, together = (measure(points, resamples=2, workers=w) for w in (1, 2))
    for name in NAMES:
        assert alone[name].score == together[name].score
        np.testing.assert_array_equal(alone[name].resampled, together[name].resampled)


def test_scores_are_those_of_the_fit_with_any_number_of_resamples() -> None:
    factors = drawn(90, (2, 3))
    points = Points.of(blurred(factors), factors)
    few, many = (measure(points, resamples=r) for r in (0, 5))
    for name in NAMES:
        assert few[name].score == pytest.approx(many[name].score, abs=1e-12)
        assert isinstance(many[name], Measured)
        assert len(many[name].resampled) == 5


@pytest.mark.parametrize("model", MODELS)
def test_a_factor_that_does_not_vary_where_it_is_fitted_matters_to_nothing(model: str) -> None:
    factors = drawn(60, (2, 3))
    factors[:, 0] = np.arange(60) == 0
    points = Points.of(noise(60, 3), factors)
    seed = next(s for s in range(50) if not split(points, s)[0].factors[:, 0].any())
    measured = measure(points, seed=seed, model=model, resamples=2)
    assert (measured[NAMES[0]].details["importance"][:, 0] == 0).all()
    assert all(np.isfinite(measured[name].score) for name in NAMES)


def test_another_model_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"^model must be one of boosting, lasso, forest, got 'svm'$"
    ):
        dci(noise(30, 2), drawn(30), model="svm")


@pytest.mark.parametrize(
    ("latents", "sizes", "what"), [(1, (3, 3), "codes"), (3, (3, 1), "factors that vary")]
)
def test_one_of_either_cannot_be_compared(latents: int, sizes: tuple[int, int], what: str) -> None:
    with pytest.raises(DataError, match=f"^dci compares both ways: .* at least 2 {what}, got 1$"):
        dci(noise(30, latents), drawn(30, sizes))


def test_it_is_registered_under_its_names() -> None:
    assert METRIC.names == NAMES
