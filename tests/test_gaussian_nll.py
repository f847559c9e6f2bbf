"""gaussian_nll: the contract of a likelihood, closed forms, and its fixed width."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kernel_cases import wide
from likelihood_contract import DTYPES, Array, LikelihoodContract, pixels
from op_cases import sample, with_gradient
from torch import Tensor

from betavae_core.ops import gaussian_nll
from betavae_core.reference import checks
from betavae_core.reference import gaussian_nll as oracle
from betavae_core.reference.bernoulli_nll import sigmoid

HALF_LN_2_PI = 0.5 * np.log(2 * np.pi)


class TestGaussian(LikelihoodContract):
    name = "gaussian_nll"
    op = staticmethod(gaussian_nll)
    exact_nll = staticmethod(oracle.gaussian_nll)
    exact_gradient = staticmethod(oracle.gaussian_nll_backward)
    parameters = (0.3,)

    def naive(self, logits: Tensor, t: Tensor) -> Tensor:
        (sigma,) = self.parameters
        r = (logits.sigmoid() - t) / sigma
        return (0.5 * r**2 + (np.log(sigma) + HALF_LN_2_PI)).sum(1)

    def terms(self, logits: Array, t: Array) -> tuple[Array, Array]:
        """With m = sigmoid(l): m - t adds m + t, and 1 - m, in the slope m (1 - m), adds 1."""
        (sigma,) = self.parameters
        m, complement = sigmoid(logits), sigmoid(-logits)
        difference, magnitude = np.abs(m - t), m + t
        nll = difference * magnitude / sigma**2 + np.abs(np.log(sigma)) + HALF_LN_2_PI
        return nll, (magnitude * complement + difference) * m / sigma**2


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_pixel_at_its_mean_costs_the_constants_alone(dtype: torch.dtype) -> None:
    nll = gaussian_nll(torch.zeros(2, 3, dtype=dtype), torch.full((2, 3), 0.5), 1, 0.1)
    np.testing.assert_allclose(nll, 3 * (np.log(0.1) + HALF_LN_2_PI), rtol=1e-6)


def test_it_is_the_log_density_of_torch_s_normal() -> None:
    logits, t = sample((4, 6), torch.float64, "contiguous"), torch.rand(4, 6, dtype=torch.float64)
    for sigma in (0.05, 1.0, 7.0):
        density = torch.distributions.Normal(logits.sigmoid(), sigma)
        expected = -density.log_prob(t).sum(1)
        torch.testing.assert_close(gaussian_nll(logits, t, 1, sigma), expected)


@pytest.mark.parametrize("sigma", [1e-3, 0.1, 0.5, 1.0, 7.0])
def test_every_width_agrees_with_the_oracle(sigma: float) -> None:
    logits, x = with_gradient(sample((5, 60), torch.float64, "contiguous")), pixels(16, (5, 60))
    nll = gaussian_nll(logits, x, 16, sigma)
    checks.compare("nll", wide(nll), oracle.gaussian_nll(wide(logits), x, 16, sigma), 1e-10)
    (dlogits,) = torch.autograd.grad(nll.sum(), logits)
    exact = oracle.gaussian_nll_backward(wide(logits), x, 16, sigma, np.ones(5))
    checks.compare("dlogits", wide(dlogits), exact, 1e-10)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("logit", [1e4, np.inf])
def test_any_logit_has_a_finite_cost_and_a_gradient_of_zero(
    logit: float, dtype: torch.dtype
) -> None:
    logits = with_gradient(torch.tensor([[logit, -logit]], dtype=dtype))
    nll = gaussian_nll(logits, torch.tensor([[0, 1]], dtype=torch.uint8), 1, 1.0)
    assert nll.item() == pytest.approx(2 * (0.5 + HALF_LN_2_PI), rel=1e-6)
    nll.sum().backward()
    assert logits.grad.tolist() == [[0, 0]]


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("inf"), float("nan")])
def test_a_width_that_is_no_positive_number_is_refused(sigma: float) -> None:
    with pytest.raises(ValueError, match="sigma must be a positive number, got"):
        gaussian_nll(torch.zeros(1, 1), torch.zeros(1, 1), 1, sigma)
