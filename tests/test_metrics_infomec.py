"""InfoMEC: the estimator of information, the three scores, and the authors' formulas as loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.special import digamma
from scipy.stats import norm
from sklearn.feature_selection import mutual_info_classif
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, mutual_info_score

from betavae_core.errors import DataError, UsageError
from betavae_core.metrics.infomec import (
    METRIC,
    _explicitness,
    _normalised_informations,
    infoc,
    infoe,
    infom,
    information,
    measure,
)
from betavae_core.metrics.points import Points

SIZES = (3, 6, 10, 8)
NAMES = ("infom", "infoc", "infoe")


def arrays(
    angle: float = 0.0, noise: float = 0.05, n: int = 2000, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    factors = rng.integers(0, SIZES, (n, 4))
    c, s = np.cos(angle), np.sin(angle)
    codes = factors / np.array(SIZES) @ np.kron(np.eye(2), [[c, -s], [s, c]])
    return codes + noise * rng.normal(size=(n, 4)), factors


def scores(codes: NDArray[np.float64], factors: NDArray[np.int64]) -> dict[str, float]:
    measured = measure(Points.of(codes, factors))
    return {name: measured[name].score for name in NAMES}


def brute_force(code: NDArray[np.float64], labels: NDArray[np.int64], neighbours: int) -> float:
    """The estimator's definition, one point after another, over all distances."""
    shared = np.isin(labels, [v for v in np.unique(labels) if (labels == v).sum() > 1])
    code, labels, terms = code[shared], labels[shared], []
    for i in range(len(code)):
        distance = np.abs(code - code[i])
        own = np.delete(labels == labels[i], i)
        distance = np.delete(distance, i)
        radius = np.sort(distance[own])[min(neighbours, own.sum()) - 1]
        near = distance <= radius * (1 + 1e-12)
        terms.append(digamma((near & own).sum()) - digamma(own.sum() + 1) - digamma(near.sum()))
    return max(0.0, float(digamma(len(code)) + np.mean(terms))) if len(code) else 0.0


@pytest.mark.parametrize("neighbours", [1, 3, 10])
def test_information_of_continuous_codes_is_scikit_learns(neighbours: int) -> None:
    codes, factors = arrays(0.4, noise=0.1)
    for k in range(4):
        theirs = mutual_info_classif(codes, factors[:, k], n_neighbors=neighbours, random_state=0)
        ours = [information(z, factors[:, k], neighbours=neighbours) for z in codes.T]
        np.testing.assert_allclose(ours, theirs, atol=1e-4)  # their noise is of 1e-10


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), min_size=3, max_size=40),
       st.integers(1, 5), st.floats(1e-3, 1e3))  # fmt: skip
def test_information_is_its_definition_whatever_the_ties(
    rows: list[tuple[int, int]], neighbours: int, unit: float
) -> None:
    code, labels = np.array(rows).T
    if len(set(labels)) < 2:
        return
    ours = information(code * unit, labels, neighbours=neighbours)
    assert ours == pytest.approx(brute_force(code * unit, labels, neighbours), abs=1e-9)


def test_information_of_two_gaussians_is_its_integral() -> None:
    """Equal classes at ±1, deviation 1: ln 2 less the mean entropy of the class given the code."""

    def density(z: float) -> float:
        return float(norm.pdf(z - 1) + norm.pdf(z + 1)) / 2

    true = quad(lambda z: norm.pdf(z - 1) * np.log(norm.pdf(z - 1) / density(z)), -12, 12)[0]
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 20_000)
    estimate = information(rng.normal(size=20_000) + 2 * labels - 1, labels)
    assert estimate == pytest.approx(true, abs=0.015)


def test_a_discrete_code_gets_its_plug_in_information() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 8, 5000)
    for code in (labels // 2, labels % 3, labels, np.where(labels < 4, 0, labels)):
        plug_in = mutual_info_score(labels, code)
        assert information(code, labels) == pytest.approx(plug_in, abs=0.005)
        assert information(-0.1 * code, labels) == pytest.approx(plug_in, abs=0.005)


def test_a_code_that_is_zero_half_of_the_time_gets_the_information_of_both_halves() -> None:
    """The output of a rectifier: ties at 0 beside a continuous half."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 8000)
    code = np.maximum(labels - 1.5 + 0.1 * rng.normal(size=8000), 0)
    # Classes 0 and 1 are one value, 2 and 3 far from each other: ln 4 less half of ln 2.
    assert information(code, labels) == pytest.approx(np.log(4) - np.log(2) / 2, abs=0.01)


def test_information_is_never_negative_and_none_is_zero() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 500)
    assert information(np.ones(500), labels) == pytest.approx(0, abs=0.01)
    estimates = [information(rng.normal(size=500), labels) for _ in range(50)]
    assert min(estimates) == 0
    assert max(estimates) < 0.1


def test_information_does_not_depend_on_order_sign_or_place() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 1000)
    code = labels + rng.normal(size=1000)
    order = rng.permutation(1000)
    own = information(code, labels)
    assert information(code[order], labels[order]) == pytest.approx(own, abs=1e-12)
    assert information(-code, labels) == pytest.approx(own, abs=1e-12)
    assert information(code * 64 + 2**20, labels) == pytest.approx(own, abs=1e-3)


def test_points_alone_in_their_class_are_left_out() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    code = labels + 0.3 * rng.normal(size=300)
    lonely = np.append(labels, [7, 8, 9])
    with_lonely = information(np.append(code, [0.0, 1.0, 50.0]), lonely)
    assert with_lonely == pytest.approx(information(code, labels), abs=1e-12)
    assert information(np.arange(5.0), np.arange(5)) == 0


def test_infom_and_infoc_are_the_authors_formulas() -> None:
    codes, factors = arrays(0.4, noise=0.1)
    codes = np.insert(codes, 2, 0.01 * codes[:, 0], axis=1)  # a copy of little range: inactive
    nmi = np.array([[information(z, s) / mutual_info_score(s, s) for s in factors.T]
                    for z in codes.T])  # fmt: skip
    active = [j for j in range(5) if np.ptp(codes[:, j]) > np.ptp(codes, axis=0).max() / 20]
    assert active == [0, 1, 3, 4]
    of_latents = np.mean([max(nmi[j]) / sum(nmi[j]) for j in active])
    of_factors = np.mean([max(nmi[active, i]) / sum(nmi[active, i]) for i in range(4)])
    assert infom(codes, factors) == pytest.approx((of_latents - 1 / 4) / (1 - 1 / 4), abs=1e-12)
    assert infoc(codes, factors) == pytest.approx((of_factors - 1 / 4) / (1 - 1 / 4), abs=1e-12)
    details = measure(Points.of(codes, factors))["infom"].details
    np.testing.assert_allclose(details["nmi"], nmi, atol=1e-12)
    assert details["active"].tolist() == [True, True, False, True, True]


def test_infoe_is_the_authors_with_classes_that_balance() -> None:
    codes, factors = arrays(0.4, noise=0.2)
    factors = factors[:, 1:]
    expected = []
    for s in factors.T:
        # With the default penalty off; newton-cholesky goes to the minimum.
        fit = LogisticRegression(C=np.inf, solver="newton-cholesky", max_iter=500).fit(codes, s)
        shares = np.bincount(s) / len(s)
        null = -(shares * np.log(shares)).sum()
        expected.append((null - log_loss(s, fit.predict_proba(codes))) / null)
    assert 0.1 < np.mean(expected) < 0.9
    assert infoe(codes, factors) == pytest.approx(np.mean(expected), abs=1e-3)
    each = measure(Points.of(codes, factors))["infoe"].details["explicitness"]
    np.testing.assert_allclose(each, expected, atol=1e-3)


def test_factors_themselves_score_one() -> None:
    _, factors = arrays()
    own = scores(factors * [1.0, -0.5, 0.2, 0.3] + 7, factors)
    assert own["infom"] == pytest.approx(1, abs=0.03)
    assert own["infoc"] == pytest.approx(1, abs=0.03)
    assert own["infoe"] == pytest.approx(1, abs=0.002)


def test_a_turn_by_45_degrees_lowers_all_but_explicitness() -> None:
    straight, turned = scores(*arrays()), scores(*arrays(np.pi / 4))
    assert turned["infom"] < straight["infom"] - 0.3
    assert turned["infoc"] < straight["infoc"] - 0.3
    assert turned["infoe"] == pytest.approx(straight["infoe"], abs=0.03)


@settings(max_examples=5, deadline=None)
@given(st.permutations(range(4)), st.lists(st.sampled_from([-1.0, 1.0]), min_size=4, max_size=4),
       st.floats(0.01, 100))  # fmt: skip
def test_order_signs_and_a_common_scale_of_latents_are_of_no_effect(
    order: list[int], signs: list[float], scale: float
) -> None:
    codes, factors = arrays(0.4, noise=0.2, n=500)
    own, other = scores(codes, factors), scores(codes[:, order] * signs * scale, factors)
    assert other["infom"] == pytest.approx(own["infom"], abs=1e-6)
    assert other["infoc"] == pytest.approx(own["infoc"], abs=1e-6)
    assert other["infoe"] == pytest.approx(own["infoe"], abs=2e-3)


def test_explicitness_of_noise_is_what_a_fit_to_its_own_points_gains() -> None:
    """D (V - 1) / (2 N H), by Wilks: it stands in the docstring."""
    rng = np.random.default_rng(0)
    factors = rng.integers(0, (8, 20), (4000, 2))
    expected = np.mean([10 * (v - 1) / (2 * 4000 * np.log(v)) for v in (8, 20)])
    assert infoe(rng.normal(size=(4000, 10)), factors) == pytest.approx(expected, rel=0.2)


def test_modularity_of_noise_is_far_from_zero() -> None:
    """A flaw of the metric that its docstring states."""
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(2000, 20))
    assert infom(codes, rng.integers(0, SIZES, (2000, 4))) == pytest.approx(0.5, abs=0.2)


def test_codes_that_are_all_dead_score_zero() -> None:
    measured = measure(Points.of(np.ones((300, 3)), arrays(n=300)[1]), resamples=3)
    for name in NAMES:
        assert measured[name].score == pytest.approx(0, abs=1e-9)
        assert np.isfinite(measured[name].resampled).all()
    assert not measured["infom"].details["active"].any()


def test_one_latent_or_one_factor_has_nothing_to_spread_over() -> None:
    codes, factors = arrays()
    alone = scores(codes[:, 2:3], factors[:, 2:3])
    assert alone["infom"] == alone["infoc"] == 1
    rng = np.random.default_rng(1)
    one_latent = scores(codes[:, 2:3], np.stack([factors[:, 2], rng.integers(0, 2, 2000)], axis=1))
    assert one_latent["infoc"] in (0.5, 1)  # the second factor's estimate may be just above 0
    assert one_latent["infom"] > 0.9


def test_a_resample_weighs_the_terms_of_its_own_points() -> None:
    """Half of the points say what the factor is, half say nothing: three resamples tell."""
    labels = np.arange(400) % 2
    code = np.where(np.arange(400) < 200, labels * 2.0, 1.0)[:, None]
    first = (np.arange(400) < 200).astype(float)
    weights = np.stack([np.ones(400), first, 1 - first])
    points = Points.of(code, labels[:, None])
    nmi = _normalised_informations(points, 10, weights)[:, 0, 0]
    np.testing.assert_allclose(nmi, [0.5, 1, 0], atol=0.01)
    explained = _explicitness(points, weights)[:, 0]
    np.testing.assert_allclose(explained, [0.5, 1, 0], atol=0.01)


def test_the_resamples_spread_as_fresh_points_do() -> None:
    measured = measure(Points.of(*arrays(0.4, noise=0.2, n=800, seed=99)), resamples=100)
    draws = [scores(*arrays(0.4, noise=0.2, n=800, seed=s)) for s in range(30)]
    for name in NAMES:
        spread = np.std([drawn[name] for drawn in draws])
        assert measured[name].resampled.shape == (100,)
        assert measured[name].resampled.mean() == pytest.approx(measured[name].score, abs=0.02)
        assert measured[name].resampled.std() == pytest.approx(spread, rel=0.5)


def test_resamples_may_lack_values_of_a_factor() -> None:
    codes, factors = arrays(n=12)
    measured = measure(Points.of(codes, factors), resamples=50)
    for name in NAMES:
        assert np.isfinite(measured[name].resampled).all()


def test_points_taken_may_lack_values_of_a_factor() -> None:
    points = Points.of(*arrays(n=500))
    lacking = measure(points.take(np.flatnonzero(points.factors[:, 2] != 4)))
    assert all(0 < lacking[name].score < 1 for name in NAMES)


def test_public_functions_are_the_measured_scores() -> None:
    codes, factors = arrays(n=500)
    measured = measure(Points.of(codes, factors), resamples=2)
    for function in (infom, infoc, infoe):
        assert function(codes, factors) == pytest.approx(measured[function.__name__].score)
    assert METRIC.names == NAMES


def test_bad_settings_and_arrays_are_refused() -> None:
    with pytest.raises(UsageError, match="neighbours must be at least 1, got 0"):
        infom(*arrays(), neighbours=0)
    with pytest.raises(DataError, match="must be finite"):
        infoe(np.full((3, 2), np.inf), np.zeros((3, 1)))
    with pytest.raises(DataError, match="factors must vary"):
        information(np.arange(3.0), np.zeros(3, int))
