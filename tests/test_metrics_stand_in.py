"""The stand-in, whose total correlation is known: what the estimator is corrected by."""

from __future__ import annotations

import numpy as np
import pytest
from posterior_cases import N, gaussian, one_in_all, quadrature

from betavae_core.metrics.stand_in import StandIn, copula_log_ratio, normal_scores
from betavae_core.reference import kl_decomposition as oracle


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
