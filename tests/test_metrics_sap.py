"""SAP: its ceiling, the machines against scikit-learn and a plain minimiser, the R² variant."""

from __future__ import annotations

import numpy as np
import pytest
from code_cases import SHAPES, Codes, Factors, blurred, drawn, noise, perfect, turned
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.svm import LinearSVC

from betavae_core.errors import DataError
from betavae_core.metrics.points import Points, resampled_rows
from betavae_core.metrics.resampling import split
from betavae_core.metrics.sap import METRIC, measure, sap


def as_formula(z: Codes, values: Factors, z_test: Codes) -> Factors:
    """One against the rest, each minimised by a general method; C = .01, balanced classes."""
    classes, counts = np.unique(values, return_counts=True)
    lines = []
    for v, count in zip(classes, counts, strict=True):
        y = np.where(values == v, 1.0, -1.0)
        cost = 0.01 * np.where(values == v, len(z) / (len(classes) * count), 1.0)

        def objective(line: Codes, y: Codes = y, cost: Codes = cost) -> tuple[float, Codes]:
            hinge = np.maximum(0, 1 - y * (line[0] * z + line[1]))
            pull = -2 * cost * hinge * y
            gradient = line + np.array([pull @ z, pull.sum()])
            return line @ line / 2 + cost @ hinge**2, gradient

        lines.append(minimize(objective, np.zeros(2), jac=True, tol=1e-12).x)
    return classes[np.argmax([w * z_test + b for w, b in lines], axis=0)]


def accuracies(points: Points, predicted: object, seed: int = 0) -> Codes:
    train, test = split(points, seed)
    return np.array(
        [
            [
                np.mean(predicted(z, v, z_test) == v_test)
                for v, v_test in zip(train.factors.T, test.factors.T, strict=True)
            ]
            for z, z_test in zip(train.codes.T, test.codes.T, strict=True)
        ]
    )


def test_the_ceiling_of_the_2d_shapes_is_far_below_1() -> None:
    shapes = drawn(10_000, SHAPES)
    measured = measure(Points.of(perfect(shapes, idle=5), shapes), resamples=50)["sap"]
    low, high = measured.interval()
    assert low < 0.229 < high
    assert high - low < 0.02


def test_predictability_is_the_accuracy_of_the_formula() -> None:
    factors = drawn(240, (3, 5))
    points = Points.of(blurred(factors, 0.3), factors)
    found = measure(points)["sap"].details["predictability"]
    np.testing.assert_array_equal(found, accuracies(points, as_formula))


@pytest.mark.parametrize("scale", [0.01, 1.0, 3.0])
def test_the_machines_are_those_of_the_dual_problem(scale: float) -> None:
    def dual(z: Codes, values: Factors, z_test: Codes) -> Factors:
        machine = LinearSVC(C=0.01, class_weight="balanced", dual=True, tol=1e-10, max_iter=10**6)
        return machine.fit(z[:, None], values).predict(z_test[:, None])

    factors = drawn(600, (2, 4))
    points = Points.of(scale * blurred(factors, 0.3), factors)
    found = measure(points)["sap"].details["predictability"]
    np.testing.assert_array_equal(found, accuracies(points, dual))


def test_it_is_the_mean_gap_of_the_two_best_latents() -> None:
    factors = drawn(300)
    measured = measure(Points.of(blurred(factors), factors))["sap"]
    ranked = np.sort(measured.details["predictability"], axis=0)
    assert measured.score == pytest.approx(np.mean(ranked[-1] - ranked[-2]), abs=1e-12)


def test_noise_scores_next_to_nothing() -> None:
    assert 0 <= sap(noise(3000, 6), drawn(3000)) < 0.03


@pytest.mark.parametrize("continuous", [False, True])
def test_turning_by_45_degrees_lowers_it(continuous: bool) -> None:
    factors = drawn(2000)
    straight = sap(perfect(factors), factors, continuous=continuous)
    assert sap(turned(perfect(factors)), factors, continuous=continuous) < 0.8 * straight


@pytest.mark.parametrize("continuous", [False, True])
def test_the_order_of_the_latents_changes_nothing(continuous: bool) -> None:
    factors = drawn(300)
    codes = blurred(factors)
    assert sap(codes[:, [2, 0, 3, 1]], factors, continuous=continuous) == pytest.approx(
        sap(codes, factors, continuous=continuous), abs=1e-12
    )


@settings(max_examples=10, deadline=None)
@given(st.lists(st.sampled_from([-1.0, 1.0]), min_size=4, max_size=4), st.integers(0, 100))
def test_signs_change_nothing(signs: list[float], seed: int) -> None:
    factors = drawn(200, seed=seed)
    codes = blurred(factors)
    assert sap(codes * signs, factors) == pytest.approx(sap(codes, factors), abs=1e-12)


def test_scale_matters_to_the_machines_and_not_to_the_correlations() -> None:
    factors = drawn(1000)
    codes = blurred(factors)
    assert abs(sap(codes / 100, factors) - sap(codes, factors)) > 0.05
    apart = sap(codes / 100, factors, continuous=True) - sap(codes, factors, continuous=True)
    assert apart == pytest.approx(0.0, abs=1e-12)


def test_the_continuous_variant_takes_squared_correlations() -> None:
    factors = drawn(300)
    codes = turned(blurred(factors)) + 1e6
    found = measure(Points.of(codes, factors), continuous=True)["sap"].details["predictability"]
    expected = np.corrcoef(codes.T, factors.T)[:4, 4:] ** 2
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_a_constant_latent_predicts_nothing() -> None:
    factors = drawn(300)
    codes = np.concatenate([perfect(factors), np.full((300, 1), 0.1)], axis=1)
    measured = measure(Points.of(codes, factors), continuous=True, resamples=3)["sap"]
    assert (measured.details["predictability"][3] == 0).all()
    assert (measured.resampled <= 1).all()
    assert 0 <= sap(codes, factors) <= 1


def test_a_resample_draws_the_scoring_points() -> None:
    factors = drawn(600)
    points = Points.of(blurred(factors), factors)
    train, test = split(points, 7)
    right = np.array(
        [
            [
                LinearSVC(C=0.01, class_weight="balanced", dual=False, tol=1e-8)
                .fit(z[:, None], v)
                .predict(z_test[:, None])
                == v_test
                for v, v_test in zip(train.factors.T, test.factors.T, strict=True)
            ]
            for z, z_test in zip(train.codes.T, test.codes.T, strict=True)
        ]
    )
    resampled = measure(points, seed=7, resamples=4)["sap"].resampled
    for score, rows in zip(resampled, resampled_rows(len(test), 4, 7), strict=True):
        ranked = np.sort(right[:, :, rows].mean(2), axis=0)
        assert score == pytest.approx(np.mean(ranked[-1] - ranked[-2]), abs=1e-12)


def test_a_resample_of_correlations_is_that_of_its_points() -> None:
    factors = drawn(300)
    points = Points.of(blurred(factors), factors)
    resampled = measure(points, seed=1, resamples=4, continuous=True)["sap"].resampled
    alone = [
        measure(points.take(rows), continuous=True)["sap"].score
        for rows in resampled_rows(300, 4, 1)
    ]
    assert resampled == pytest.approx(alone, abs=1e-10)


def test_values_that_are_not_fitted_are_predicted_wrong() -> None:
    """Three values of one point each: the side that is fitted lacks at least one."""
    factors = np.array([[0, 0], [1, 0], [2, 1], [0, 1], [0, 0], [0, 1]])
    assert 0 <= sap(noise(6, 2), factors) <= 1


def test_a_single_latent_has_no_gap_to_another() -> None:
    with pytest.raises(DataError, match=r"^sap compares latents: .* at least 2 columns, got 1$"):
        sap(np.arange(6.0)[:, None], drawn(6))


def test_two_points_cannot_be_fitted_and_scored() -> None:
    with pytest.raises(DataError, match=r"^points must be enough to fit on some .*, got 1$"):
        measure(Points.of(noise(9, 2), drawn(9)).take(np.array([0])))


def test_it_is_registered_under_its_name() -> None:
    assert METRIC.names == ("sap",)
