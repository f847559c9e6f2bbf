"""Explicitness: the regressions and areas of scikit-learn, its ceiling and its floor."""

from __future__ import annotations

import numpy as np
import pytest
from code_cases import SHAPES, Codes, Factors, blurred, drawn, noise, perfect, turned
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler

from betavae_core.errors import DataError
from betavae_core.metrics import logistic
from betavae_core.metrics.explicitness import METRIC, explicitness, measure
from betavae_core.metrics.points import Points, resampled_rows
from betavae_core.metrics.resampling import split


def regression(x: Codes, answers: Factors) -> LogisticRegression:
    return LogisticRegression(tol=1e-12, max_iter=100_000).fit(x, answers)


def as_in_the_paper(
    points: Points, seed: int = 0, rows: Factors | slice = slice(None)
) -> tuple[float, list[float]]:
    """One regression and one area a value, in turn; `rows` of the scoring points count."""
    train, test = split(points, seed)
    scaler = StandardScaler().fit(train.codes)
    x, x_test = scaler.transform(train.codes), scaler.transform(test.codes)[rows]
    means = []
    for v, v_test in zip(train.factors.T, test.factors[rows].T, strict=True):
        areas = [
            roc_auc_score(v_test == value, regression(x, v == value).decision_function(x_test))
            for value in np.unique(v)
        ]
        means.append(np.mean(areas))
    return float(np.mean(means)), means


def one_hot(factors: Factors) -> Codes:
    return np.concatenate([v[:, None] == np.unique(v) for v in factors.T], axis=1).astype(float)


def test_it_is_the_mean_area_of_the_paper() -> None:
    factors = drawn(400, (2, 3, 5))
    points = Points.of(turned(blurred(factors, 0.5)), factors)
    measured = measure(points)["explicitness"]
    score, means = as_in_the_paper(points)
    assert measured.score == pytest.approx(score, abs=1e-6)
    assert measured.details["per_factor"] == pytest.approx(means, abs=1e-6)


def test_normalised_probabilities_are_those_of_one_against_the_rest() -> None:
    factors = drawn(400, (2, 3, 5))
    points = Points.of(turned(blurred(factors, 0.5)), factors)
    train, test = split(points, 0)
    scaler = StandardScaler().fit(train.codes)
    means = []
    for v, v_test in zip(train.factors.T, test.factors.T, strict=True):
        model = OneVsRestClassifier(LogisticRegression(tol=1e-12, max_iter=100_000))
        p = model.fit(scaler.transform(train.codes), v).predict_proba(scaler.transform(test.codes))
        means.append(np.mean([roc_auc_score(v_test == k, p[:, k]) for k in range(v.max() + 1)]))
    found = explicitness(points.codes, points.factors, normalised=True)
    assert found == pytest.approx(np.mean(means), abs=1e-6)
    assert found > explicitness(points.codes, points.factors) + 0.01


@pytest.mark.parametrize(("normalised", "ceiling"), [(False, 0.78), (True, 0.92)])
def test_the_ceiling_of_the_2d_shapes_depends_on_how_points_are_ranked(
    normalised: bool, ceiling: float
) -> None:
    shapes = drawn(10_000, SHAPES)
    found = explicitness(perfect(shapes, idle=5), shapes, normalised=normalised)
    assert found == pytest.approx(ceiling, abs=0.01)


def test_the_regressions_are_those_of_scikit_learn() -> None:
    factors = drawn(500, (3, 9))
    x, answers = blurred(factors), one_hot(factors).astype(bool)
    weights = logistic.fit(x, answers)
    for m, fitted in enumerate(weights.T):
        theirs = regression(x, answers[:, m])
        np.testing.assert_allclose(fitted[:-1], theirs.coef_[0], atol=2e-5)
        assert fitted[-1] == pytest.approx(theirs.intercept_[0], abs=2e-5)


def test_the_gradient_vanishes_at_the_weights() -> None:
    factors = drawn(500, (3, 9))
    x, answers = blurred(factors), one_hot(factors)
    weights = logistic.fit(x, answers.astype(bool))
    p = expit(logistic.scores(x, weights))
    np.testing.assert_allclose(x.T @ (p - answers) + weights[:-1], 0, atol=1e-7)
    np.testing.assert_allclose((p - answers).sum(0), 0, atol=1e-7)


def test_answers_that_a_plane_parts_have_finite_weights() -> None:
    x = np.concatenate([np.linspace(-2, -1, 50), [1e3]])[:, None]
    weights = logistic.fit(x, x > 0)
    assert np.isfinite(weights).all()
    assert ((logistic.scores(x, weights) > 0) == (x > 0)).all()


def test_a_whole_newton_step_that_leads_away_is_shortened() -> None:
    x = np.random.default_rng(5).standard_t(1, size=(60, 4)) * 200
    answers = (x[:, 0] >= np.sort(x[:, 0])[-17])[:, None]
    weights = logistic.fit(x, answers)
    p = expit(logistic.scores(x, weights))
    np.testing.assert_allclose(x.T @ (p - answers) + weights[:-1], 0, atol=1e-6)


def test_many_inputs_give_what_few_at_a_time_do(monkeypatch: pytest.MonkeyPatch) -> None:
    x, answers = noise(300, 40), drawn(300, (2, 2, 2)).astype(bool)
    whole = logistic.fit(x, answers)
    monkeypatch.setattr(logistic, "CACHED", 1)
    np.testing.assert_allclose(logistic.fit(x, answers), whole, atol=1e-9)


def test_codes_that_say_every_value_score_1() -> None:
    factors = drawn(600)
    assert explicitness(one_hot(factors), factors) == 1.0


def test_values_in_the_middle_of_a_line_are_not_explicit() -> None:
    """On one number no line tells the middle of three values from both others."""
    factors = drawn(3000, (3,))
    measured = measure(Points.of(perfect(factors, idle=1), factors))["explicitness"]
    assert 0.7 < measured.score < 0.9


def test_noise_scores_one_half() -> None:
    assert explicitness(noise(6000, 6), drawn(6000)) == pytest.approx(0.5, abs=0.02)


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(4)), st.lists(st.floats(0.01, 100), min_size=4, max_size=4))
def test_order_signs_scale_and_origin_change_nothing(order: list[int], scale: list[float]) -> None:
    factors = drawn(150)
    codes = blurred(factors, 0.5)
    other = codes[:, order] * [-scale[0], *scale[1:]] + 1e7
    assert explicitness(other, factors) == pytest.approx(explicitness(codes, factors), abs=1e-4)


def test_turning_hardly_matters() -> None:
    factors = drawn(1500)
    codes = blurred(factors, 0.5)
    assert explicitness(turned(codes), factors) == pytest.approx(
        explicitness(codes, factors), abs=2e-3
    )


def test_mixing_factors_in_one_latent_lowers_it() -> None:
    factors = drawn(2000, (4, 4))
    one = factors.sum(1, keepdims=True)
    assert explicitness(one, factors) < explicitness(perfect(factors), factors) - 0.05


def test_a_resample_draws_the_scoring_points() -> None:
    factors = drawn(400, (2, 3))
    points = Points.of(np.round(blurred(factors, 0.6)), factors)  # rounded, so that scores tie
    resampled = measure(points, seed=2, resamples=3)["explicitness"].resampled
    n = len(split(points, 2)[1])
    alone = [as_in_the_paper(points, 2, rows)[0] for rows in resampled_rows(n, 3, 2)]
    assert resampled == pytest.approx(alone, abs=1e-6)


def test_a_constant_latent_is_ignored() -> None:
    factors = drawn(200)
    codes = blurred(factors)
    idle = np.concatenate([codes, np.full((200, 1), 7.0)], axis=1)
    assert explicitness(idle, factors) == pytest.approx(explicitness(codes, factors), abs=1e-9)


def test_a_value_on_one_side_of_the_split_is_left_out() -> None:
    factors = drawn(200)
    rare = factors.copy()
    rare[17, 0] = 3
    assert explicitness(blurred(factors), rare) == pytest.approx(
        explicitness(blurred(factors), factors), abs=0.02
    )


def test_values_that_occur_once_cannot_be_told() -> None:
    with pytest.raises(DataError, match=r"^explicitness needs points .* split, got 6 points$"):
        explicitness(noise(6, 2), np.arange(6)[:, None])


def test_it_is_registered_under_its_name() -> None:
    assert METRIC.names == ("explicitness",)
