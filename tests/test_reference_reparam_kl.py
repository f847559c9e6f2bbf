"""The oracle's latent half: closed forms, bounds, hand-written gradients, the inverse."""

from __future__ import annotations

import numpy as np
import pytest

from betavae_core.reference.checks import check_gradients
from betavae_core.reference.philox import normal
from betavae_core.reference.reparam_kl import (
    LOGVAR_MAX,
    LOGVAR_MIN,
    inverse,
    inverse_backward,
    reparam_kl,
    reparam_kl_backward,
)

SHAPES = [(1, 1), (3, 5), (7, 13), (2, 64)]
OUTSIDE = [-np.inf, -1e300, -30.01, 18.01, 1e300, np.inf]


def draw(shape: tuple[int, int], count: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) for _ in range(count)]


def test_kl_is_zero_at_the_prior() -> None:
    zero = np.zeros((4, 10))
    z, kl_per_sample, kl_per_latent = reparam_kl(zero, zero, zero)
    assert not z.any()
    assert not kl_per_sample.any()
    assert not kl_per_latent.any()


def test_kl_of_unit_means_is_half_a_nat_a_latent() -> None:
    one, zero = np.ones((3, 10)), np.zeros((3, 10))
    _, kl_per_sample, kl_per_latent = reparam_kl(one, zero, zero)
    assert kl_per_sample == pytest.approx([5.0] * 3)
    assert kl_per_latent == pytest.approx([0.5] * 10)


def test_kl_of_unit_means_and_log_variances() -> None:
    one = np.ones((3, 10))
    assert reparam_kl(one, one, one).kl_per_sample == pytest.approx([5 * (np.e - 1)] * 3)
    assert 5 * (np.e - 1) == pytest.approx(8.591, abs=5e-4)


def test_kl_is_the_expected_log_ratio() -> None:
    mu, logvar = draw((1, 6), 2)
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    z = mu.T + np.exp(logvar.T / 2) * nodes
    log_ratio = (z**2 - nodes**2 - logvar.T) / 2  # ln q(z) - ln p(z)
    expected = log_ratio @ weights / weights.sum()
    assert reparam_kl(mu, logvar, np.zeros((1, 6))).kl_per_latent == pytest.approx(expected)


def test_kl_is_never_negative() -> None:
    mu = np.zeros((1, 2001))
    logvar = np.concatenate((np.linspace(-40, 30, 1001), np.linspace(-1e-6, 1e-6, 1000)))[None]
    assert reparam_kl(mu, logvar, mu).kl_per_latent.min() >= 0


def test_both_reductions_hold_the_same_nats() -> None:
    mu, logvar, eps = draw((7, 13), 3)
    _, kl_per_sample, kl_per_latent = reparam_kl(mu, logvar, eps)
    assert kl_per_sample.mean() == pytest.approx(kl_per_latent.sum())


def test_the_sample_has_the_mean_and_the_spread_of_the_posterior() -> None:
    eps = normal(0, 0, np.arange(40_000), 1)
    z = reparam_kl(np.full_like(eps, 2.0), np.full_like(eps, np.log(0.25)), eps).z
    assert z.mean() == pytest.approx(2.0, abs=4 * 0.5 / 200)
    assert z.std() == pytest.approx(0.5, abs=4 * 0.5 / 200)


def test_an_empty_batch_has_zero_means() -> None:
    empty = np.zeros((0, 5))
    z, kl_per_sample, kl_per_latent = reparam_kl(empty, empty, empty)
    assert (z.shape, kl_per_sample.shape) == ((0, 5), (0,))
    assert kl_per_latent.tolist() == [0.0] * 5
    gradients = reparam_kl_backward(empty, empty, empty, empty, np.zeros(0), np.ones(5))
    assert [g.shape for g in gradients] == [(0, 5), (0, 5)]


@pytest.mark.parametrize("logvar", OUTSIDE)
def test_a_log_variance_outside_the_bounds_is_the_nearest_bound(logvar: float) -> None:
    mu, eps = draw((2, 3), 2)
    bound = LOGVAR_MIN if logvar < 0 else LOGVAR_MAX
    outside = reparam_kl(mu, np.full((2, 3), logvar), eps)
    at_the_bound = reparam_kl(mu, np.full((2, 3), bound), eps)
    assert all(map(np.array_equal, outside, at_the_bound))
    assert all(np.isfinite(output).all() for output in outside)


def test_the_largest_sigma_times_the_largest_normal_fits_float16() -> None:
    largest = np.full((1, 1), np.sqrt(48 * np.log(2)))
    z = reparam_kl([[0.0]], [[LOGVAR_MAX]], largest).z
    assert np.isfinite(z.astype(np.float16)).all()


def test_nan_stays_nan() -> None:
    zero, nan = np.zeros((2, 2)), np.full((2, 2), np.nan)
    assert np.isnan(reparam_kl(zero, nan, zero).kl_per_sample).all()
    assert np.isnan(reparam_kl(nan, zero, zero).z).all()
    _, dlogvar = reparam_kl_backward(zero, nan, zero, zero, np.ones(2), np.ones(2))
    assert np.isnan(dlogvar).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_backward_is_the_derivative(shape: tuple[int, int]) -> None:
    mu, logvar, eps = draw(shape, 3)
    errors = check_gradients(
        lambda mu, logvar: reparam_kl(mu, logvar, eps),
        lambda mu, logvar, *upstream: reparam_kl_backward(mu, logvar, eps, *upstream),
        {"mu": mu, "logvar": 2 * logvar},
        tolerance=1e-9,
    )
    assert errors.keys() == {"mu", "logvar"}


@pytest.mark.parametrize("output", [0, 1, 2])
def test_the_backward_is_right_for_each_output_alone(output: int) -> None:
    mu, logvar, eps = draw((4, 3), 3)
    shapes = [(4, 3), (4,), (3,)]

    def backward(mu: np.ndarray, logvar: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, ...]:
        upstream = [u if k == output else np.zeros(s) for k, s in enumerate(shapes)]
        return reparam_kl_backward(mu, logvar, eps, *upstream)

    arguments = {"mu": mu, "logvar": logvar}
    check_gradients(lambda m, v: reparam_kl(m, v, eps)[output], backward, arguments, tolerance=1e-9)


@pytest.mark.parametrize("logvar", [-31.0, 19.0])
def test_no_gradient_passes_a_bound(logvar: float) -> None:
    mu, eps, dz = draw((2, 3), 3)
    dkl, logvars = np.ones(2), np.full((2, 3), logvar)
    dmu, dlogvar = reparam_kl_backward(mu, logvars, eps, dz, dkl, np.ones(3))
    assert not dlogvar.any()
    assert dmu.any()
    check_gradients(
        lambda v: reparam_kl(mu, v, eps),
        lambda v, *upstream: reparam_kl_backward(mu, v, eps, *upstream)[1],
        {"logvar": logvars},
    )


@pytest.mark.parametrize("logvar", [-np.inf, np.inf])
def test_an_infinite_log_variance_has_a_finite_gradient(logvar: float) -> None:
    mu, eps, dz = draw((2, 3), 3)
    gradients = reparam_kl_backward(mu, np.full((2, 3), logvar), eps, dz, np.ones(2), np.ones(3))
    assert all(np.isfinite(g).all() for g in gradients)
    assert not gradients[1].any()


@pytest.mark.parametrize("bound", [LOGVAR_MIN, LOGVAR_MAX])
def test_the_bounds_themselves_are_inside(bound: float) -> None:
    at, just_inside = ([[bound]], [[bound * (1 - 1e-12)]])
    upstream = ([[1.0]], [[1.0]], [1.0], [1.0])
    got = reparam_kl_backward([[0.0]], at, *upstream)[1]
    expected = reparam_kl_backward([[0.0]], just_inside, *upstream)[1]
    assert got == pytest.approx(expected, rel=1e-9)
    assert got[0, 0] != 0


def test_the_inverse_finds_the_noise() -> None:
    mu, logvar, eps = draw((7, 13), 3)
    z = reparam_kl(mu, logvar, eps).z
    assert inverse(z, mu, logvar) == pytest.approx(eps, rel=1e-12, abs=1e-12)
    # Levy's formula adds mu once more, and does not come back.
    assert not np.allclose(inverse(z, mu, logvar) + mu, eps)


def test_the_inverse_is_bounded_where_the_sample_is() -> None:
    mu, eps = draw((2, 3), 2)
    for logvar in (np.full((2, 3), value) for value in OUTSIDE):
        z = reparam_kl(mu, logvar, eps).z
        sigma = np.exp(np.clip(logvar, LOGVAR_MIN, LOGVAR_MAX) / 2)
        lost = 4 * np.finfo(float).eps * np.abs(mu).max() / sigma  # z rounds mu + sigma·eps
        assert (np.abs(inverse(z, mu, logvar) - eps) <= lost + 1e-12).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_backward_of_the_inverse_is_the_derivative(shape: tuple[int, int]) -> None:
    z, mu, logvar = draw(shape, 3)
    arguments = {"z": z, "mu": mu, "logvar": logvar}
    check_gradients(inverse, inverse_backward, arguments, tolerance=1e-9)


def test_the_inverse_passes_no_gradient_through_a_bound() -> None:
    z, mu, deps = draw((2, 3), 3)
    dz, _, dlogvar = inverse_backward(z, mu, np.full((2, 3), 20.0), deps)
    assert dz.any()
    assert not dlogvar.any()


def test_shapes_that_differ_are_refused_by_name() -> None:
    square, row = np.zeros((2, 2)), np.zeros((1, 2))
    with pytest.raises(ValueError, match=r"mu \(2, 2\), logvar \(1, 2\), eps \(2, 2\)"):
        reparam_kl(square, row, square)
    with pytest.raises(ValueError, match="must share one shape"):
        reparam_kl(np.zeros(2), np.zeros(2), np.zeros(2))
