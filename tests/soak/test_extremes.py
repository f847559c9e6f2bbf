"""Extreme inputs give finite values and the oracle's gradients; what is not finite is named."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from promises import size, tried
from run_cases import IMAGES, TINY
from torch import Tensor, nn

import betavae_core as bv
from betavae_core.kernels import bernoulli_nll as kernel_bernoulli
from betavae_core.kernels import gaussian_nll as kernel_gaussian
from betavae_core.kernels import reparam_kl as kernel_reparam
from betavae_core.ops import bernoulli_nll, gaussian_nll, philox, reparam_kl
from betavae_core.ops.backend import kernels_at
from betavae_core.reference import bernoulli_nll as exact_bernoulli
from betavae_core.reference import gaussian_nll as exact_gaussian
from betavae_core.reference import reparam_kl as exact_reparam

FINITE = (-1e4, -89.0, -30.0, -1e-30, 0.0, 1e-3, 17.9, 1e4)
INFINITE = (-np.inf, np.inf)
BACKENDS = ("torch", *kernels_at(torch.device("cpu")))
KEY = philox.make_key(3, 4)


def column(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float32)


def gradients(values: Any, leaves: Any, upstream: Any) -> tuple[Tensor, ...]:
    return torch.autograd.grad(values, leaves, upstream)


def run_reparam(mu: Tensor, logvar: Tensor, backend: str) -> tuple[Tensor, ...]:
    """(z, kl_per_sample, kl_per_latent, dmu, dlogvar) with ones from upstream."""
    ones = torch.ones(1, 1), torch.ones(1), torch.ones(1)
    if backend == "triton":
        values = kernel_reparam.reparam_kl_fwd(mu, logvar, KEY, 0, 0)
        return *values, *kernel_reparam.reparam_kl_bwd(mu, logvar, KEY, 0, 0, *ones)
    leaves = mu.requires_grad_(), logvar.requires_grad_()
    values = tuple(reparam_kl(*leaves, KEY, backend=backend))
    return *(v.detach() for v in values), *gradients(values, leaves, ones)


@pytest.mark.promise("extremes")
@pytest.mark.parametrize("backend", BACKENDS)
def test_extreme_posteriors_have_a_finite_kl_and_its_gradients(backend: str) -> None:
    eps = philox.normal(KEY, torch.arange(1), 1, philox.NOISE, torch.float64).numpy()
    for mu, logvar in product(FINITE, (*FINITE, *INFINITE)):
        got = run_reparam(column(mu), column(logvar), backend)
        inputs = np.float32([[mu]]).astype(float), np.float32([[logvar]]).astype(float), eps
        exact = exact_reparam.reparam_kl(*inputs)
        ones = np.ones((1, 1)), np.ones(1), np.ones(1)
        exact_gradients = exact_reparam.reparam_kl_backward(*inputs, *ones)
        for value, expected in zip(got, (*exact, *exact_gradients), strict=True):
            assert value.isfinite().all(), (mu, logvar)
            tolerance = 4e-6 * np.exp(min(logvar, 18.0) / 2) + 1e-7 * abs(mu)
            np.testing.assert_allclose(value, expected, rtol=2e-5, atol=tolerance)
        tried()


LIKELIHOODS = {
    "bernoulli_nll": (bernoulli_nll, kernel_bernoulli, exact_bernoulli, ()),
    "gaussian_nll": (gaussian_nll, kernel_gaussian, exact_gaussian, (0.1,)),
}


@pytest.mark.promise("extremes")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_extreme_logits_have_a_finite_nll_and_its_gradient(name: str, backend: str) -> None:
    op, kernel, exact, parameters = LIKELIHOODS[name]
    for logit, level in product((*FINITE, *INFINITE), (0, 1, 128, 255)):
        logits, x = column(logit), torch.tensor([[level]], dtype=torch.uint8)
        arguments, ones = (x, 255, *parameters), torch.ones(1)
        if backend == "triton":
            nll = getattr(kernel, f"{name}_fwd")(logits, *arguments)
            dlogits = getattr(kernel, f"{name}_bwd")(logits, *arguments, ones)
        else:
            nll = op(logits.requires_grad_(), *arguments, backend=backend)
            (dlogits,) = gradients(nll, logits, ones)
        inputs = np.float64([[logit]]), x.double().numpy(), 255, *parameters
        expected = getattr(exact, name)(*inputs)
        slope = getattr(exact, f"{name}_backward")(*inputs, np.ones(1))
        assert np.isfinite(expected).all() or np.isinf(logit)  # certain, and wrong
        if np.isinf(expected).any():  # without end, or as much as float32 holds
            assert (nll > 1e30).all()
        else:
            np.testing.assert_allclose(nll.detach(), expected, rtol=2e-5, atol=1e-6)
        rounding = 1e-7 / (parameters or (1.0,))[0] ** 2  # of a mean that nearly is its target
        np.testing.assert_allclose(dlogits, slope, rtol=2e-5, atol=rounding)
        tried()


class Failing(nn.Module):
    """A linear layer that gives `value` once it has been called `calls` times in training."""

    def __init__(self, inputs: int, outputs: int, calls: int, value: float) -> None:
        super().__init__()
        self.linear, self.calls, self.value = nn.Linear(inputs, outputs), calls, value

    def forward(self, x: Tensor) -> Tensor:
        self.calls -= self.training
        result = self.linear(x.flatten(1))
        return result if self.calls >= 0 else result * 0 + self.value


def failing(term: str, step: int, value: float) -> dict[str, Any]:
    """A training in which `term` becomes `value` at `step`."""
    never = 10**9
    encoder = Failing(64, 6, step if term == "kl" else never, value)
    decoder = Failing(3, 64, step if term == "recon_nll" else never, value)

    def objective(recon_nll: Tensor, posterior: bv.Posterior, now: Tensor) -> Tensor:
        loss = recon_nll + posterior.kl
        return loss * value if term == "loss" and now >= step else loss

    return {"encoder": encoder, "decoder": decoder, "objective": objective}


@pytest.mark.promise("non-finite")
@pytest.mark.parametrize("term", ["loss", "recon_nll", "kl"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_non_finite_term_stops_the_run_and_keeps_its_checkpoint(
    tmp_path: Path, term: str, value: float
) -> None:
    for step in range(0, 30, size(11, 1)):
        own, out = failing(term, step, value), tmp_path / str(step)
        with pytest.raises(bv.TrainingError) as caught:
            bv.train(TINY, images=IMAGES, out=out, **own)
        assert f"non-finite at step {step}: " in str(caught.value)
        said = str(caught.value).partition(f"{term} = ")[2].split(",")[0].split(";")[0]
        assert not np.isfinite(float(said)), caught.value
        kept = step // 10 * 10
        assert (f"checkpoint of step {kept}" if kept else "no checkpoint") in str(caught.value)
        if kept:
            modules = {name: own[name] for name in ("encoder", "decoder")}
            assert bv.load(out, **modules).summary is None
        assert not (out / "summary.json").exists()
        tried()
