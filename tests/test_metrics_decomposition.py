"""The parts of the KL: against the oracle, the truth known in closed form, and peers' bugs."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from betavae_core.errors import DataError, UsageError
from betavae_core.metrics import mixture
from betavae_core.metrics.decomposition import (
    kl_decomposition,
    own_share,
    stratified,
    total_correlation,
    weighted,
)
from betavae_core.metrics.latents import kl_per_latent
from betavae_core.metrics.mixture import Mixture
from betavae_core.metrics.stand_in import StandIn, copula_log_ratio, normal_scores
from betavae_core.reference import kl_decomposition as oracle

N = 20_000
Codes = tuple[np.ndarray, np.ndarray]


def gaussian(covariance: np.ndarray, sigma: float, n: int = N, seed: int = 0) -> Codes:
    """Posteriors of width sigma whose aggregate is N(0, covariance)."""
    D = len(covariance)
    root = np.linalg.cholesky(covariance - sigma**2 * np.eye(D))
    mu = np.random.default_rng(seed).normal(size=(n, D)) @ root.T
    return mu, np.full((n, D), 2 * np.log(sigma))


def pairs(rho: float, D: int = 10) -> np.ndarray:
    return np.kron(np.eye(D // 2), [[1, rho], [rho, 1]])


def one_in_all(rho: float, D: int = 10) -> np.ndarray:
    return np.full((D, D), rho) + (1 - rho) * np.eye(D)


def with_idle_latents(mu: np.ndarray, sigma: float, D: int = 10) -> Codes:
    """The codes, and latents hardly in use up to D."""
    rng = np.random.default_rng(1)
    idle = 0.1 * rng.normal(size=(len(mu), D - mu.shape[1]))
    logvar = np.full((len(mu), D), np.log(0.99))
    logvar[:, : mu.shape[1]] = 2 * np.log(sigma)
    return np.column_stack((mu, idle)), logvar


def quadrature(mu: np.ndarray, sigma: float) -> float:
    """The total correlation of a mixture of equal Gaussians in the plane, on a grid."""
    grid, step = np.linspace(-5, 5, 1001, retstep=True)
    x, y = (np.exp(oracle.log_normal(grid, m[:, None], 2 * np.log(sigma))) for m in mu.T)
    q = np.einsum("ni,nj->ij", x, y) / len(mu)
    product = np.outer(x.mean(0), y.mean(0))
    inside = q > 1e-300
    return float((q[inside] * np.log(q[inside] / product[inside])).sum() * step**2)


# --- the estimators, as they are defined -------------------------------------------------------


@pytest.mark.parametrize("block", [1, 1000, 2**17])
def test_the_whole_aggregate_is_the_oracles(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixture, "_BLOCK", block)
    mu, logvar = gaussian(pairs(0.5, 4), 0.3, 101)
    logvar[::3] -= 3
    rng = np.random.default_rng(1)
    z = mu + np.exp(logvar / 2) * rng.normal(size=mu.shape)
    rows = rng.permutation(101)[:37, None]
    joint, product = Mixture().densities(z, mu, logvar, rows)
    expected, marginals = oracle.log_mixture(z[rows[:, 0]], mu, logvar, -np.log(101))
    assert joint == pytest.approx(expected, rel=1e-12)
    assert product == pytest.approx(marginals.sum(1), rel=1e-12)


@pytest.mark.parametrize("block", [1, 1000, 2**17])
@pytest.mark.parametrize("weights", [stratified, weighted])
def test_the_minibatches_are_the_oracles(
    block: int, weights: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mixture, "_BLOCK", block)
    mu, logvar = gaussian(pairs(0.5, 4), 0.3, 101)
    rng = np.random.default_rng(1)
    z = mu + np.exp(logvar / 2) * rng.normal(size=mu.shape)
    rows = rng.permutation(101)[:91].reshape(13, 7)
    joint, product = Mixture(weights(7, 101)).densities(z, mu, logvar, rows)
    for k, batch in enumerate(rows):
        log_weights = np.log(getattr(oracle, weights.__name__)(7, 101))
        expected, marginals = oracle.log_mixture(z[batch], mu[batch], logvar[batch], log_weights)
        assert joint[7 * k : 7 * k + 7] == pytest.approx(expected, rel=1e-12)
        assert product[7 * k : 7 * k + 7] == pytest.approx(marginals.sum(1), rel=1e-12)


def test_posteriors_too_far_apart_to_count_have_finite_densities() -> None:
    mu = np.array([[0.0, 0.0], [1e6, -1e6]])
    logvar = np.full((2, 2), -30.0)
    joint, product = Mixture().densities(mu, mu, logvar, np.array([[0], [1]]))
    own = oracle.log_normal(mu, mu, logvar)
    assert joint == pytest.approx(own.sum(1) - np.log(2))
    assert product == pytest.approx((own - np.log(2)).sum(1))


def test_uncorrected_terms_are_the_oracles_up_to_the_draws() -> None:
    mu, logvar = gaussian(pairs(0.7, 4), 0.4, 1000)
    rng = np.random.default_rng(1)
    draws = [mu + np.exp(logvar / 2) * rng.normal(size=mu.shape) for _ in range(4)]
    expected = np.mean([oracle.kl_decomposition(z, mu, logvar) for z in draws], axis=0)
    found = kl_decomposition(mu, logvar, corrected=False, samples=4000)
    assert found == pytest.approx(tuple(expected), abs=0.05)


def test_uncorrected_minibatches_are_the_oracles_up_to_the_draws() -> None:
    mu, logvar = gaussian(pairs(0.7, 4), 0.4, 2000)
    rng = np.random.default_rng(1)
    z = mu + np.exp(logvar / 2) * rng.normal(size=mu.shape)
    for sampling in ("stratified", "weighted"):
        each = [
            oracle.minibatch_decomposition(z[b], mu[b], logvar[b], 2000, sampling)
            for b in rng.permutation(2000).reshape(-1, 50)
        ]
        found = kl_decomposition(mu, logvar, batch_size=50, sampling=sampling, corrected=False)
        assert found == pytest.approx(tuple(np.mean(each, axis=0)), abs=0.1)


def test_the_whole_aggregate_is_the_integral() -> None:
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 300)
    mu = 1.4 * np.column_stack((np.cos(angle), np.sin(angle)))
    logvar = np.full_like(mu, 2 * np.log(0.3))
    found = total_correlation(mu, logvar, corrected=False, samples=10_000)
    assert found == pytest.approx(quadrature(mu, 0.3), abs=0.02)


@pytest.mark.parametrize("settings", [{}, {"batch_size": 64}, {"corrected": False},
                                      {"batch_size": 64, "corrected": False}])  # fmt: skip
def test_the_three_terms_sum_to_the_kl(settings: dict[str, Any]) -> None:
    mu, logvar = gaussian(pairs(0.5, 4), 0.3, 300)
    parts = kl_decomposition(mu, logvar, **settings)
    assert sum(parts) == pytest.approx(kl_per_latent(mu, logvar).sum(), rel=1e-12)
    assert parts.total_correlation == total_correlation(mu, logvar, **settings)


def test_codes_far_apart_tell_the_index_and_no_more() -> None:
    mu, logvar = gaussian(pairs(0, 10), 0.02, 1000)
    parts = kl_decomposition(mu, logvar, corrected=False, samples=1000)
    assert parts.mutual_information == pytest.approx(np.log(1000), abs=1e-6)


def test_a_collapsed_posterior_has_no_term() -> None:
    zero = np.zeros((500, 3))
    assert kl_decomposition(zero, zero, corrected=False) == pytest.approx((0, 0, 0), abs=1e-12)
    # The stand-in's latents are told apart by its grid alone, to a ten-millionth of a nat.
    assert kl_decomposition(zero, zero) == pytest.approx((0, 0, 0), abs=1e-6)
    assert kl_decomposition(zero, zero, batch_size=64) == pytest.approx((0, 0, 0), abs=1e-6)


@pytest.mark.parametrize("sigma", [0.1, 0.5])
def test_the_corrected_terms_are_those_of_the_population(sigma: float) -> None:
    """q(z) = N(0, covariance): the information is H(z) - H(z|n), and each latent is at the prior.

    The N samples, of which each has its own code, could tell ln N = 8.0 nats at most.
    """
    covariance = one_in_all(0.3)
    mu, logvar = gaussian(covariance, sigma, 3000)
    information = np.linalg.slogdet(covariance)[1] / 2 - 10 * np.log(sigma)
    expected = (information, oracle.gaussian_total_correlation(covariance), 0)
    assert kl_decomposition(mu, logvar, samples=2000) == pytest.approx(expected, abs=0.15)


def test_memory_does_not_grow_with_the_draws() -> None:
    mu, logvar = gaussian(pairs(0, 2), 0.3)
    tracemalloc.start()
    total_correlation(mu, logvar, corrected=False, samples=400)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12e6  # the densities of a round of draws, 100 under 20,000, take 16 MB


# --- the bias, and what peers make of it ---------------------------------------------------------


def in_minibatches(mu: np.ndarray, logvar: np.ndarray, weights: np.ndarray) -> float:
    """Total correlation at batch 64 with any weights."""
    z = mu + np.exp(logvar / 2) * np.random.default_rng(1).normal(size=mu.shape)
    rows = np.random.default_rng(2).permutation(N)[: N // 64 * 64].reshape(-1, 64)
    joint, product = Mixture(weights).densities(z, mu, logvar, rows)
    return float((joint - product).mean())


def in_a_column(M: int, n: int) -> np.ndarray:
    """The stratified weights as the authors' code has them, and four libraries after it."""
    m = M - 1
    weights = np.full((M, M), 1 / m)
    weights.reshape(-1)[:: m + 1] = 1 / n
    weights.reshape(-1)[1 :: m + 1] = (n - m) / (n * m)
    weights[m - 1, 0] = (n - m) / (n * m)
    return weights


def test_stratified_weights_on_the_diagonal_read_2_and_peers_read_7_and_minus_30() -> None:
    mu, logvar = gaussian(pairs(0), np.sqrt(0.1))
    assert in_minibatches(mu, logvar, stratified(64, N)) == pytest.approx(2.2, abs=0.1)
    assert in_minibatches(mu, logvar, in_a_column(64, N)) == pytest.approx(7.0, abs=0.1)
    assert in_minibatches(mu, logvar, np.ones((64, 64))) == pytest.approx(-30.4, abs=0.1)
    uncorrected = total_correlation(mu, logvar, batch_size=64, corrected=False)
    assert uncorrected == pytest.approx(2.2, abs=0.1)


def test_the_weights_are_the_oracles() -> None:
    for M, n in ((2, 2), (5, 9), (64, N)):
        assert np.array_equal(stratified(M, n), oracle.stratified(M, n))
        assert np.array_equal(weighted(M, n), oracle.weighted(M, n))


def test_uncorrected_the_bias_is_nats_and_of_either_sign() -> None:
    read = [
        total_correlation(*gaussian(pairs(0), sigma), batch_size=64, corrected=False)
        for sigma in (0.1, 0.5)
    ]
    assert read == pytest.approx([15.04, -1.01], abs=0.05)


# --- the correction ------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.02, np.sqrt(0.1), 0.6])
def test_independent_latents_read_zero_at_batch_64(sigma: float) -> None:
    found = total_correlation(*gaussian(pairs(0), sigma), batch_size=64)
    assert found == pytest.approx(0, abs=0.05)  # 0.5 is asked for


def test_independent_latents_read_zero_by_weighted_sampling_too() -> None:
    found = total_correlation(*gaussian(pairs(0), 0.5, 5000), batch_size=64, sampling="weighted")
    assert found == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize(
    ("covariance", "sigma"),
    [
        (pairs(0.277), 0.1),  # 0.2 nats
        (pairs(0.277), 0.5),
        (one_in_all(0.3), 0.3),  # 1
        (pairs(0.93), 0.05),  # 5
        (one_in_all(0.7), 0.5),  # 4.4
    ],
)
def test_a_gaussian_reads_its_total_correlation_at_batch_64(
    covariance: np.ndarray, sigma: float
) -> None:
    truth = oracle.gaussian_total_correlation(covariance)
    found = total_correlation(*gaussian(covariance, sigma), batch_size=64)
    assert found == pytest.approx(truth, rel=0.1)


@pytest.mark.parametrize("sigma", [0.1, 0.5])
@pytest.mark.parametrize("rho", [0.0, 0.7])
def test_the_whole_aggregate_reads_the_same(rho: float, sigma: float) -> None:
    truth = oracle.gaussian_total_correlation(one_in_all(rho))
    found = total_correlation(*gaussian(one_in_all(rho), sigma, 3000), samples=2000)
    assert found == pytest.approx(truth, rel=0.1, abs=0.05)


@pytest.mark.parametrize("batch_size", [None, 64])
@pytest.mark.parametrize("sigma", [0.05, 0.4])
def test_duplicates_of_three_classes_read_what_they_share(
    sigma: float, batch_size: int | None
) -> None:
    """No Gaussian, and no Gaussian copula: clusters that posteriors resolve.

    Over seeds the whole reads 2 % high, give or take 2 %, batch 64 7 % high, give or take 2 %.
    """
    classes = 1.2 * np.random.default_rng(0).integers(-1, 2, 3000)
    mu = np.column_stack((classes, classes))
    truth = quadrature(1.2 * np.array([[-1, -1], [0, 0], [1, 1]]), sigma)
    codes = with_idle_latents(mu, sigma)
    found = total_correlation(*codes, batch_size=batch_size, samples=3000)
    assert found == pytest.approx(truth, rel=0.15 if batch_size else 0.1)


def test_a_ring_has_no_correlation_and_yet_is_seen() -> None:
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 3000)
    mu = 1.4 * np.column_stack((np.cos(angle), np.sin(angle)))
    found = total_correlation(*with_idle_latents(mu, 0.1), samples=2000)
    assert found == pytest.approx(quadrature(mu[:1000], 0.1), rel=0.1)


def test_what_no_posterior_overlaps_is_the_rank_correlation_alone_and_the_own_share_says_so() -> (
    None
):
    uniform = np.random.default_rng(0).uniform(-1.7, 1.7, (2000, 10))
    turned = uniform @ (np.kron(np.eye(5), [[1, 1], [1, -1]]) / np.sqrt(2))
    narrow = np.full_like(turned, 2 * np.log(0.03))
    assert total_correlation(turned, narrow, samples=1000) == pytest.approx(
        0, abs=0.05
    )  # 1.5 in truth
    assert own_share(turned, narrow) == pytest.approx(1, abs=0.01)


def test_the_own_share_is_one_nth_where_all_posteriors_are_one() -> None:
    zero = np.zeros((50, 3))
    assert own_share(zero, zero) == pytest.approx(1 / 50)


@pytest.mark.parametrize("batch_size", [None, 64])
def test_order_and_sign_of_latents_do_not_matter(batch_size: int | None) -> None:
    rng = np.random.default_rng(1)
    mu, logvar = gaussian(one_in_all(0.5, 5), 0.3, 3000)
    order, sign = rng.permutation(5), rng.choice([-1, 1], 5)
    settings: dict[str, Any] = {"batch_size": batch_size, "samples": 2000}
    before = total_correlation(mu, logvar, **settings)
    after = total_correlation(mu[:, order] * sign, logvar[:, order], **settings)
    assert after == pytest.approx(before, abs=0.1)


def test_turning_unequal_latents_by_45_degrees_makes_them_correlate() -> None:
    mu, logvar = gaussian(np.diag([1.0, 0.2]), 0.1, 3000)
    turned = mu @ (np.array([[1, 1], [1, -1]]) / np.sqrt(2))
    truth = -0.5 * np.log(1 - (0.8 / 1.2) ** 2)
    assert total_correlation(mu, logvar) == pytest.approx(0, abs=0.05)
    assert total_correlation(turned, logvar) == pytest.approx(truth, rel=0.1)


def test_a_single_latent_correlates_with_nothing() -> None:
    mu, logvar = gaussian(np.eye(1), 0.3, 1000)
    assert total_correlation(mu, logvar, samples=500) == pytest.approx(0, abs=1e-9)


def test_the_seed_decides_the_draws() -> None:
    codes = gaussian(pairs(0.5, 4), 0.3, 1000)
    first, again, other = (total_correlation(*codes, samples=200, seed=seed) for seed in (0, 0, 1))
    assert first == again != other


# --- the stand-in --------------------------------------------------------------------------------


def test_a_stand_in_has_every_latent_as_it_was() -> None:
    rng = np.random.default_rng(0)
    mu, logvar = rng.normal(size=(2, 300, 3))
    stand_in = StandIn.of(mu, logvar, rng)
    for d in range(3):
        given, dealt = (
            sorted(zip(m[:, d], v[:, d], strict=True))
            for m, v in ((mu, logvar), (stand_in.mu, stand_in.logvar))
        )
        assert given == dealt
    assert not np.array_equal(mu, stand_in.mu)


def test_a_stand_in_has_the_rank_correlation_and_no_other_dependence() -> None:
    rng = np.random.default_rng(0)
    mu, logvar = gaussian(np.array([[1, 0.8], [0.8, 1]]), 0.1)
    curved = np.column_stack((mu**3, mu[:, 0] ** 2))  # the last depends on the first, unranked
    stand_in = StandIn.of(curved, np.column_stack((logvar, logvar[:, 0])), rng)
    found = np.corrcoef(normal_scores(stand_in.mu, rng).T)
    expected = np.corrcoef(normal_scores(curved, rng).T)
    assert found == pytest.approx(expected, abs=0.03)
    assert abs(np.corrcoef(stand_in.mu[:, 0] ** 2, stand_in.mu[:, 2] ** 2)[0, 1]) < 0.05


@pytest.mark.parametrize("sigma", [0.05, 0.5])
def test_the_total_correlation_of_a_gaussian_stand_in_is_known(sigma: float) -> None:
    rng = np.random.default_rng(0)
    covariance = np.array([[1, 0.7], [0.7, 1]])
    stand_in = StandIn.of(*gaussian(covariance, sigma), rng)
    z, rows = stand_in.draw(rng.normal(size=(N, 2))), np.arange(N)
    inverse = np.linalg.inv(covariance) - np.eye(2)
    exact = -(np.log(1 - 0.7**2) + ((z @ inverse) * z).sum(1)) / 2  # ln q(z)/q(z_1)q(z_2)
    found = stand_in.log_ratio(z, rows)
    assert np.abs(found - exact).mean() < 0.03
    assert found.mean() == pytest.approx(-0.5 * np.log(1 - 0.7**2), abs=0.03)


def test_the_total_correlation_of_a_stand_in_that_is_no_gaussian_is_known() -> None:
    rng = np.random.default_rng(0)
    classes = np.random.default_rng(1).integers(-1, 2, 3000) * 1.2
    mu = np.column_stack((classes, classes)) + 1e-3 * rng.normal(size=(3000, 1))
    stand_in = StandIn.of(mu, np.full_like(mu, 2 * np.log(0.3)), rng)
    z, rows = stand_in.draw(rng.normal(size=mu.shape)), np.arange(3000)
    truth = quadrature(stand_in.mu, 0.3)
    # What the Gaussian in place of a class's share of the copula costs: it reads 6 % low here.
    assert stand_in.log_ratio(z, rows).mean() == pytest.approx(truth, rel=0.1)


def test_ties_do_not_pass_for_correlation() -> None:
    scores = normal_scores(np.zeros((2000, 2)), np.random.default_rng(0))
    assert abs(np.corrcoef(scores.T)[0, 1]) < 0.1


def test_the_fitted_copula_has_its_mean_exactly() -> None:
    rng = np.random.default_rng(0)
    scores = normal_scores(gaussian(one_in_all(0.5, 4), 0.1, 700)[0], rng)
    expected = oracle.gaussian_total_correlation(np.corrcoef(scores.T))
    assert copula_log_ratio(scores).mean() == pytest.approx(expected, abs=1e-12)


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"batch_size": 1}, "batch_size must be from 2 to the 50 samples, got 1"),
        ({"batch_size": 51}, "batch_size must be from 2 to the 50 samples, got 51"),
        ({"batch_size": 8, "samples": 7}, "samples must be at least the batch of 8, got 7"),
        ({"samples": 0}, "samples must be at least"),
        ({"sampling": "importance"}, "sampling must be one of stratified, weighted"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], said: str) -> None:
    codes = gaussian(np.eye(3), 0.3, 50)
    for function in (total_correlation, kl_decomposition):
        with pytest.raises(UsageError, match=said):
            function(*codes, **settings)


def test_too_few_samples_for_a_correction_are_refused() -> None:
    mu, logvar = gaussian(np.eye(10), 0.3, 10)
    with pytest.raises(DataError, match="more samples than the 10 latents, got 10"):
        total_correlation(mu, logvar)
    assert np.isfinite(total_correlation(mu, logvar, corrected=False))


def test_what_is_no_posterior_is_refused() -> None:
    with pytest.raises(DataError, match="mu and logvar must share one shape"):
        kl_decomposition(np.zeros((3, 2)), np.zeros((2, 3)))
    with pytest.raises(DataError, match="must be finite"):
        total_correlation(np.full((3, 2), np.nan), np.zeros((3, 2)))
