"""The oracle's parts of the KL: densities in loops, sums, closed forms, unbiased weights."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest

from betavae_core.reference.kl_decomposition import (
    gaussian_total_correlation,
    kl_decomposition,
    log_mixture,
    log_normal,
    minibatch_decomposition,
    stratified,
    weighted,
)


def draw(N: int, D: int, sigma: float, seed: int = 0) -> tuple[np.ndarray, ...]:
    """z, mu, logvar (N, D) with q(z) = N(0, I) but for the luck of N draws."""
    rng = np.random.default_rng(seed)
    mu = rng.normal(size=(N, D)) * np.sqrt(1 - sigma**2)
    logvar = np.full((N, D), 2 * np.log(sigma))
    return mu + sigma * rng.normal(size=(N, D)), mu, logvar


def test_a_standard_normal_has_its_density() -> None:
    assert log_normal(0.0, 0.0, 0.0) == pytest.approx(math.log(1 / math.sqrt(2 * math.pi)))
    assert log_normal(3.0, 1.0, math.log(4)) == pytest.approx(
        math.log(math.exp(-0.5) / (2 * math.sqrt(2 * math.pi)))
    )


def test_a_mixture_is_the_weighted_sum_of_densities() -> None:
    z, mu, logvar = draw(5, 3, 0.4)
    weights = np.random.default_rng(1).uniform(size=(5, 5))
    joint, marginals = log_mixture(z, mu, logvar, np.log(weights))
    for s in range(5):
        density, of_latent = 0.0, [0.0] * 3
        for n in range(5):
            each = [
                math.exp(-((z[s, d] - mu[n, d]) ** 2) / 0.32) / (0.4 * math.sqrt(2 * math.pi))
                for d in range(3)
            ]
            density += weights[s, n] * math.prod(each)
            of_latent = [q + weights[s, n] * e for q, e in zip(of_latent, each, strict=True)]
        assert joint[s] == pytest.approx(math.log(density))
        assert marginals[s] == pytest.approx([math.log(q) for q in of_latent])


def test_the_three_terms_sum_to_the_kl_of_the_draws() -> None:
    z, mu, logvar = draw(200, 4, 0.3)
    of_draws = (log_normal(z, mu, logvar) - log_normal(z, 0, 0)).sum(1).mean()
    assert sum(kl_decomposition(z, mu, logvar)) == pytest.approx(of_draws)
    for scheme in ("stratified", "weighted"):
        assert sum(minibatch_decomposition(z, mu, logvar, 900, scheme)) == pytest.approx(of_draws)


def test_the_kl_of_the_draws_is_the_closed_form_in_the_mean() -> None:
    z, mu, logvar = draw(700, 4, 0.3)
    closed = (mu**2 + np.exp(logvar) - 1 - logvar).sum(1).mean() / 2
    spread = (log_normal(z, mu, logvar) - log_normal(z, 0, 0)).sum(1).std() / np.sqrt(len(z))
    assert sum(kl_decomposition(z, mu, logvar)) == pytest.approx(closed, abs=4 * spread)


def test_one_sample_has_no_information_and_independent_latents() -> None:
    z, mu, logvar = draw(1, 4, 0.3)
    information, correlation, dimension_wise = kl_decomposition(z, mu, logvar)
    assert (information, correlation) == pytest.approx((0, 0))
    assert dimension_wise == pytest.approx(
        (log_normal(z, mu, logvar) - log_normal(z, 0, 0)).sum(1).mean()
    )


def test_a_collapsed_posterior_has_no_term() -> None:
    z, mu, logvar = draw(50, 4, 1.0)
    assert kl_decomposition(z, mu, logvar) == pytest.approx((0, 0, 0))


def test_codes_far_apart_tell_the_sample_and_no_more() -> None:
    z, mu, logvar = draw(50, 4, 1e-4)
    assert kl_decomposition(z, mu, logvar).mutual_information == pytest.approx(math.log(50))


def test_duplicated_binary_latents_share_one_bit() -> None:
    mu = np.repeat([[-1.0, -1.0], [1.0, 1.0]], 10, axis=0)
    logvar = np.full_like(mu, math.log(1e-4))
    z = mu + 0.01 * np.random.default_rng(0).normal(size=mu.shape)
    information, correlation, _ = kl_decomposition(z, mu, logvar)
    assert (information, correlation) == pytest.approx((math.log(2), math.log(2)))


@pytest.mark.parametrize("M", [2, 3, 4])
def test_stratified_weights_estimate_the_density_without_bias(M: int) -> None:
    N = 5
    z, mu, logvar = draw(N, 2, 0.5)
    exact = np.exp(log_mixture(z, mu, logvar, -np.log(N))[0])
    estimates: list[list[float]] = [[] for _ in range(N)]
    for batch in permutations(range(N), M):
        rows = list(batch)
        joint, _ = log_mixture(z[rows], mu[rows], logvar[rows], np.log(stratified(M, N)))
        for n, value in zip(rows, np.exp(joint), strict=True):
            estimates[n].append(value)
    assert [np.mean(e) for e in estimates] == pytest.approx(exact)


@pytest.mark.parametrize(("M", "N"), [(2, 2), (2, 10), (64, 20_000), (5, 5)])
def test_the_weights_sum_to_one_or_to_one_nth(M: int, N: int) -> None:
    assert stratified(M, N).sum(1) == pytest.approx(np.ones(M))
    assert np.diag(stratified(M, N)) == pytest.approx(np.full(M, 1 / N))
    assert weighted(M, N).sum(1) == pytest.approx(np.full(M, 1 / N))


@pytest.mark.parametrize("rho", [0.0, 0.5, -0.9])
def test_the_total_correlation_of_a_gaussian_pair(rho: float) -> None:
    covariance = [[4.0, 2 * 3 * rho], [2 * 3 * rho, 9.0]]
    expected = -0.5 * math.log(1 - rho**2)
    assert gaussian_total_correlation(covariance) == pytest.approx(expected, abs=1e-15)
