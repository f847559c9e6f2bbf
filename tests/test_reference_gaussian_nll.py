"""The oracle's Gaussian likelihood: closed forms, extreme logits, the gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from betavae_core.reference.checks import check_gradients
from betavae_core.reference.gaussian_nll import gaussian_nll, gaussian_nll_backward

SHAPES = [(1,), (5,), (3, 7), (2, 1, 5, 3)]


def logits_and_bytes(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return 2 * rng.normal(size=shape), rng.integers(0, 256, size=shape).astype(np.uint8)


def test_a_perfect_mean_costs_the_entropy_term_alone() -> None:
    zero, half = np.zeros((2, 10)), np.full((2, 10), 0.5)
    assert gaussian_nll(zero, half, 1, 1.0) == pytest.approx([5 * np.log(2 * np.pi)] * 2)
    narrow = 10 * (np.log(0.1) + np.log(2 * np.pi) / 2)
    assert gaussian_nll(zero, half, 1, 0.1) == pytest.approx([narrow] * 2)
    assert narrow < 0  # a density


@pytest.mark.parametrize("sigma", [0.05, 1.0, 3.0])
def test_it_is_minus_the_log_density_of_torch(sigma: float) -> None:
    logits, x = logits_and_bytes((3, 7))
    density = torch.distributions.Normal(torch.sigmoid(torch.tensor(logits)), sigma)
    expected = -density.log_prob(torch.tensor(x / 255)).sum(1)
    assert gaussian_nll(logits, x, 255, sigma) == pytest.approx(expected.numpy(), rel=1e-12)


@pytest.mark.parametrize(
    ("logit", "mean"), [(np.inf, 1.0), (1e4, 1.0), (-1e4, 0.0), (-np.inf, 0.0)]
)
def test_extreme_logits_have_the_mean_of_their_limit_and_no_slope(
    logit: float, mean: float
) -> None:
    expected = (mean - 0.25) ** 2 / 2 + np.log(2 * np.pi) / 2
    assert gaussian_nll([[logit]], [[0.25]], 1, 1.0) == pytest.approx([expected])
    assert gaussian_nll_backward([[logit]], [[0.25]], 1, 1.0, [1.0])[0, 0] == 0


def test_nan_stays_nan() -> None:
    assert np.isnan(gaussian_nll([[np.nan]], [[1.0]], 1, 1.0)).all()
    assert np.isnan(gaussian_nll_backward([[np.nan]], [[1.0]], 1, 1.0, [1.0])).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sigma", [0.1, 2.0])
def test_the_backward_is_the_derivative(shape: tuple[int, ...], sigma: float) -> None:
    logits, x = logits_and_bytes(shape)
    check_gradients(
        lambda logits: gaussian_nll(logits, x, 255, sigma),
        lambda logits, dnll: gaussian_nll_backward(logits, x, 255, sigma, dnll),
        {"logits": logits},
        tolerance=1e-9,
    )


@pytest.mark.parametrize("sigma", [0.0, -1.0, np.inf, np.nan])
def test_a_width_that_is_no_positive_number_is_refused(sigma: float) -> None:
    zero = np.zeros((1, 1))
    with pytest.raises(ValueError, match="sigma must be a finite number > 0"):
        gaussian_nll(zero, zero, 1, sigma)
    with pytest.raises(ValueError, match="sigma must be a finite number > 0"):
        gaussian_nll_backward(zero, zero, 1, sigma, [1.0])


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        gaussian_nll(np.zeros((2, 3)), np.zeros((3, 2)), 1, 1.0)
