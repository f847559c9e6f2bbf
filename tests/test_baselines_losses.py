"""The losses of InfoGAN against closed forms."""

from __future__ import annotations

from math import e, log, pi

import pytest
import torch

from betavae_core.baselines.infogan_losses import (
    category_nll,
    code_entropy,
    continuous_nll,
    discriminator_loss,
    generator_loss,
)


def test_a_discriminator_that_cannot_tell_pays_two_bits() -> None:
    zeros = torch.zeros(5)
    assert discriminator_loss(zeros, zeros).item() == pytest.approx(2 * log(2))
    assert generator_loss(zeros).item() == pytest.approx(log(2))


def test_the_gan_losses_are_means_of_their_logarithms() -> None:
    """Probabilities .9 and .5 for two real images, .2 and .8 for two fakes."""
    real, fake = (torch.tensor(p).logit() for p in ([0.9, 0.5], [0.2, 0.8]))
    told_apart = -(log(0.9) + log(0.5)) / 2 - (log(0.8) + log(0.2)) / 2
    assert discriminator_loss(real, fake).item() == pytest.approx(told_apart, rel=1e-6)
    assert generator_loss(fake).item() == pytest.approx(-(log(0.2) + log(0.8)) / 2, rel=1e-6)


def test_the_generator_learns_from_a_discriminator_that_is_sure() -> None:
    """Non-saturating: where σ(l) -> 0 the gradient is -1, and that of ln(1 - σ(l)) vanishes."""
    fake = torch.tensor([-30.0], requires_grad=True)
    generator_loss(fake).backward()
    assert fake.grad is not None
    assert fake.grad.item() == pytest.approx(-1.0)


def test_the_losses_are_finite_for_any_logit() -> None:
    far = torch.tensor([-1e4, 1e4])
    assert discriminator_loss(far, far).item() == pytest.approx(1e4)
    assert generator_loss(far).item() == pytest.approx(5e3)


def test_the_categorical_term_is_the_logarithm_of_the_true_ones_probability() -> None:
    logits = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]).log() + 7
    found = category_nll(logits, torch.tensor([0, 2])).item()
    assert found == pytest.approx(-(log(0.5) + log(0.8)) / 2, rel=1e-6)


def test_the_continuous_term_is_the_gaussian_nll_summed_over_codes() -> None:
    code, mean = torch.tensor([[0.3, -1.0], [0.0, 0.0]]), torch.tensor([[0.3, 0.0], [2.0, 0.0]])
    logvar = torch.tensor([[0.0, 0.0], [log(4.0), 0.0]])
    constant = 0.5 * log(2 * pi)
    first = constant + (0.5 + constant)
    second = (0.5 * 4 / 4 + log(2.0) + constant) + constant
    assert continuous_nll(mean, logvar, code).item() == pytest.approx((first + second) / 2)


def test_the_continuous_term_is_least_at_the_true_mean_and_variance() -> None:
    """Its minimum is the differential entropy ln(2πe σ²) / 2."""
    code = torch.randn(200_000, 1, generator=torch.Generator().manual_seed(0)).double() * 0.3
    code = (code - code.mean()) / code.std(correction=0) * 0.3

    def nll(mean: float, sigma: float) -> float:
        ones = torch.ones_like(code)
        return continuous_nll(mean * ones, 2 * log(sigma) * ones, code).item()

    assert nll(0.0, 0.3) == pytest.approx(0.5 * log(2 * pi * e * 0.3**2), rel=1e-9)
    assert min(nll(0.1, 0.3), nll(-0.1, 0.3), nll(0.0, 0.25), nll(0.0, 0.35)) > nll(0.0, 0.3)


def test_a_q_that_knows_nothing_bounds_the_information_by_at_most_zero() -> None:
    """Its best is the prior's own moments: zero for the category, -.176 nats a uniform code."""
    generator = torch.Generator().manual_seed(0)
    code = 2 * torch.rand(400_000, 1, generator=generator) - 1
    flat = category_nll(torch.zeros(4, 10), torch.arange(4)).item()
    blind = continuous_nll(torch.zeros_like(code), torch.full_like(code, log(1 / 3)), code).item()
    assert code_entropy(10, 0) - flat == pytest.approx(0.0, abs=1e-6)
    gap = log(2) - 0.5 * log(2 * pi * e / 3)
    assert code_entropy(1, 1) - blind == pytest.approx(gap, abs=2e-3)
    assert gap == pytest.approx(-0.176, abs=1e-3)


def test_the_entropy_of_the_code() -> None:
    assert code_entropy(10, 5) == pytest.approx(log(10 * 2**5))
