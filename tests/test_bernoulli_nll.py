"""bernoulli_nll: the contract of a likelihood, closed forms, and stability for any logit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from likelihood_contract import DTYPES, Array, LikelihoodContract
from op_cases import with_gradient
from torch import Tensor

from betavae_core.ops import bernoulli_nll
from betavae_core.reference import bernoulli_nll as oracle


class TestBernoulli(LikelihoodContract):
    name = "bernoulli_nll"
    op = staticmethod(bernoulli_nll)
    exact_nll = staticmethod(oracle.bernoulli_nll)
    exact_gradient = staticmethod(oracle.bernoulli_nll_backward)

    def naive(self, logits: Tensor, t: Tensor) -> Tensor:
        return (logits.clamp(min=0) - logits * t + torch.log1p(torch.exp(-logits.abs()))).sum(1)

    def terms(self, logits: Array, t: Array) -> tuple[Array, Array]:
        """The nll adds what is never negative; t itself is rounded, and its product with l.

        Where t is 0 or 1 it is exact, and so must be the nll: no cancellation of l with l·t.
        A pixel costs at least float32's smallest normal number: the floor lets that pass.
        """
        greyness = np.where((t > 0) & (t < 1), t, 0)
        logits = np.clip(logits, -1e5, 1e5)
        nll = oracle.bernoulli_nll(logits.reshape(-1, 1), t.reshape(-1, 1)).reshape(t.shape)
        return np.maximum(nll, 2.0**-100) + np.abs(logits) * greyness, oracle.sigmoid(logits) + t


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_logit_of_zero_costs_ln_2_whatever_the_pixel(dtype: torch.dtype) -> None:
    x = torch.tensor([[0, 255, 100, 7]], dtype=torch.uint8)
    nll = bernoulli_nll(torch.zeros(1, 4, dtype=dtype), x, 255)
    assert nll.item() == pytest.approx(4 * np.log(2), rel=1e-6)


def test_it_is_the_log_likelihood_of_the_pixel() -> None:
    p = torch.tensor([[0.1, 0.5, 0.99]], dtype=torch.float64)
    x = torch.tensor([[1, 0, 1]], dtype=torch.uint8)
    expected = -(np.log(0.1) + np.log(0.5) + np.log(0.99))
    assert bernoulli_nll(p.logit(), x, 1).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("certainty", [88.0, 1e4, np.inf])
def test_a_certain_pixel_costs_nothing_when_right(certainty: float, dtype: torch.dtype) -> None:
    logits = with_gradient(torch.tensor([[certainty, -certainty]], dtype=dtype))
    nll = bernoulli_nll(logits, torch.tensor([[1, 0]], dtype=torch.uint8), 1)
    assert 0 <= nll.item() < 1e-37
    nll.sum().backward()
    assert logits.grad.abs().max().item() < 1e-15


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_certain_pixel_costs_its_logit_when_wrong(dtype: torch.dtype) -> None:
    logits = with_gradient(torch.tensor([[1e4, -1e4]], dtype=dtype))
    nll = bernoulli_nll(logits, torch.tensor([[0, 1]], dtype=torch.uint8), 1)
    assert nll.item() == logits.detach().double().abs().sum()
    nll.sum().backward()
    assert logits.grad.tolist() == [[1, -1]]


@pytest.mark.parametrize("x", [0.0, 0.5])
def test_an_infinite_and_wrong_logit_costs_more_than_any_other_and_never_nan(x: float) -> None:
    logits = torch.tensor([[np.inf], [1e30]], dtype=torch.float32, requires_grad=True)
    nll = bernoulli_nll(logits, torch.full((2, 1), x))
    assert nll[0] > 1e7 * nll[1]
    nll.sum().backward()
    assert logits.grad.flatten().tolist() == [1 - x] * 2


@pytest.mark.parametrize("logit", [-5.0, -17.0, -40.0, 5.0, 17.0, 40.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_nearly_certain_pixel_keeps_its_small_cost(logit: float, dtype: torch.dtype) -> None:
    x = torch.full((1, 1), logit > 0, dtype=torch.uint8)
    nll = bernoulli_nll(torch.full((1, 1), logit, dtype=dtype), x, 1)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-10
    assert nll.item() == pytest.approx(np.log1p(np.exp(-abs(logit))), rel=tolerance, abs=0)


def test_a_grey_pixel_is_best_explained_by_its_own_value() -> None:
    t = torch.tensor([[0.2, 0.7]], dtype=torch.float64)
    logits = with_gradient(t.logit())
    bernoulli_nll(logits, t).sum().backward()
    assert logits.grad.abs().max() < 1e-16
