"""Latents without labels: which are in use, the moments of q(z), the correlation of the means."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from betavae_core.errors import DataError
from betavae_core.metrics.latents import (
    active_latents,
    active_units,
    aggregate_moments,
    gaussian_total_correlation,
    kl_per_latent,
    posteriors,
)
from betavae_core.reference.reparam_kl import reparam_kl


def codes(N: int = 500, D: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(N, D)), rng.normal(size=(N, D)) - 1


def test_the_kl_per_latent_is_the_oracles() -> None:
    mu, logvar = codes()
    logvar[0] = [-40, -30, 18, 20]  # outside the bounds, and at them
    expected = reparam_kl(mu, logvar, np.zeros_like(mu)).kl_per_latent
    assert kl_per_latent(mu, logvar) == pytest.approx(expected, rel=1e-12)


def test_float32_codes_are_as_good() -> None:
    mu, logvar = (a.astype(np.float32) for a in codes())
    assert kl_per_latent(mu, logvar).dtype == np.float64
    assert kl_per_latent(mu, logvar) == pytest.approx(kl_per_latent(*codes()), rel=1e-5)


def test_a_latent_at_the_prior_is_not_active() -> None:
    mu, logvar = np.zeros((10, 3)), np.zeros((10, 3))
    mu[:, 1], logvar[:, 2] = 1.0, -2.0  # .5 nats, .57 nats
    assert active_latents(mu, logvar).tolist() == [False, True, True]
    assert active_latents(mu, logvar, threshold=0.55).tolist() == [False, False, True]


def test_a_tenth_of_a_nat_is_the_threshold() -> None:
    mu = np.sqrt([[0.199, 0.201]])  # half the square each
    assert active_latents(mu, np.zeros((1, 2))).tolist() == [False, True]


def test_a_unit_is_active_by_the_variance_of_its_mean() -> None:
    sign = np.array([[1.0], [-1.0]])
    mu = 5 + sign * [0.0, 0.09, 0.11]  # variances 0, .0081, .0121
    assert active_units(mu).tolist() == [False, False, True]
    assert active_units(mu, threshold=0.005).tolist() == [False, True, True]


def test_the_moments_are_those_of_draws() -> None:
    mu, logvar = codes()
    rng = np.random.default_rng(1)
    z = (mu + np.exp(logvar / 2) * rng.normal(size=(400, *mu.shape))).reshape(-1, 4)
    moments = aggregate_moments(mu, logvar)
    assert moments.mean == pytest.approx(z.mean(0), abs=0.01)
    assert moments.covariance == pytest.approx(np.cov(z.T), abs=0.02)


def test_an_aggregate_at_the_prior_has_no_kl_to_it() -> None:
    mu = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]) * np.sqrt(0.75)
    moments = aggregate_moments(mu, np.full((4, 2), np.log(0.25)))
    assert moments.kl_to_prior == pytest.approx(0, abs=1e-15)


def test_the_kl_of_the_aggregate_is_that_of_its_gaussian() -> None:
    one = np.ones((3, 2))  # N(1, e) in each of two latents
    assert aggregate_moments(one, one).kl_to_prior == pytest.approx(np.e - 1)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), shift=st.floats(-3, 3), scale=st.floats(0.1, 3))
def test_the_aggregate_is_nearer_the_prior_than_its_posteriors(
    seed: int, shift: float, scale: float
) -> None:
    """KL(q(z) ‖ p) <= mean KL(q(z|n) ‖ p), and the Gaussian of its moments is nearer still."""
    mu, logvar = codes(30, 3, seed)
    mu = shift + scale * mu
    kl = aggregate_moments(mu, logvar).kl_to_prior
    assert 0 <= kl <= kl_per_latent(mu, logvar).sum()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_total_correlation_ignores_order_sign_shift_and_scale(seed: int) -> None:
    rng = np.random.default_rng(seed)
    turned, again = np.linalg.qr(rng.normal(size=(2, 4, 4))).Q
    mu = rng.normal(size=(200, 4)) @ (turned * rng.uniform(0.3, 3, 4)) @ again  # well conditioned
    changed = mu[:, rng.permutation(4)] * rng.choice([-1, 1], 4) * rng.uniform(0.1, 9, 4) + 5
    expected = pytest.approx(gaussian_total_correlation(mu), abs=1e-9)
    assert gaussian_total_correlation(changed) == expected
    assert gaussian_total_correlation(mu) >= 0


@pytest.mark.parametrize("rho", [0.3, -0.9])
def test_the_total_correlation_of_a_correlated_pair(rho: float) -> None:
    a, b = np.linalg.qr(np.random.default_rng(0).normal(size=(100, 3)))[0].T[:2]
    a, b = a - a.mean(), b - b.mean()
    b -= a * (a @ b) / (a @ a)  # uncorrelated to the last bit
    a, b = a / a.std(), b / b.std()
    mu = np.stack((a, rho * a + np.sqrt(1 - rho**2) * b), axis=1)
    assert gaussian_total_correlation(mu) == pytest.approx(-0.5 * np.log(1 - rho**2))


def test_constant_latents_are_left_out_of_the_total_correlation() -> None:
    mu, _ = codes(D=2)
    with_constants = np.column_stack((mu, np.zeros(500), np.full(500, 0.1)))
    assert gaussian_total_correlation(with_constants) == gaussian_total_correlation(mu)
    assert gaussian_total_correlation(np.ones((5, 3))) == 0


@pytest.mark.parametrize(
    ("mu", "logvar", "said"),
    [
        (np.zeros(3), np.zeros(3), r"mu must be \(N, D\) numbers"),
        (np.zeros((0, 3)), np.zeros((0, 3)), r"mu must be \(N, D\) numbers"),
        (np.zeros((2, 3)), np.zeros((3, 3)), r"one shape \(N, D\), got \(2, 3\), \(3, 3\)"),
        ([[np.nan]], [[0.0]], "mu must be finite"),
        ([[0.0]], [[np.inf]], "logvar must be finite"),
        ([["a"]], [[0.0]], "mu must be"),
    ],
)
def test_what_is_no_posterior_is_refused_by_name(mu: object, logvar: object, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        posteriors(mu, logvar)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
