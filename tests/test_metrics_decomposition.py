"""The parts of the KL: against the oracle, the truth known in closed form, and peers' bugs."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from posterior_cases import N, gaussian, one_in_all, pairs, quadrature

from betavae_core.errors import DataError, UsageError
from betavae_core.metrics import mixture
from betavae_core.metrics.decomposition import (
    kl_decomposition,
    stratified,
    total_correlation,
    weighted,
)
from betavae_core.metrics.latents import kl_per_latent
from betavae_core.metrics.mixture import Mixture
from betavae_core.reference import kl_decomposition as oracle

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
