"""The oracle's objectives: what they are worth, their schedules, their derivatives."""

from __future__ import annotations

import pytest

from betavae_core.reference.checks import check_gradients
from betavae_core.reference.objectives import Beta, Capacity, Objective, neg_elbo

CAPACITY = Capacity(gamma=1000.0, capacity_max=25.0, capacity_steps=100_000)


def test_beta_of_one_is_the_negative_elbo_and_of_zero_an_autoencoder() -> None:
    assert Beta(1.0).value(80.0, 12.0, 0) == neg_elbo(80.0, 12.0) == 92.0
    assert Beta(0.0).value(80.0, 12.0, 0) == 80.0
    assert Beta(4.0).value(80.0, 12.0, 0) == 128.0


def test_capacity_rises_linearly_and_stays() -> None:
    steps = (0, 1, 50_000, 100_000, 100_001, 10**9)
    expected = [0.0, 25e-5, 12.5, 25.0, 25.0, 25.0]
    assert [CAPACITY.capacity(step) for step in steps] == pytest.approx(expected)


def test_capacity_costs_gamma_a_nat_on_either_side() -> None:
    assert CAPACITY.value(80.0, 13.5, 50_000) == pytest.approx(1080.0)
    assert CAPACITY.value(80.0, 11.5, 50_000) == pytest.approx(1080.0)
    assert CAPACITY.value(80.0, 12.5, 50_000) == 80.0


def test_capacity_has_no_slope_at_its_target() -> None:
    assert CAPACITY.gradient(80.0, 12.5, 50_000) == (1.0, 0.0)
    assert CAPACITY.gradient(80.0, 12.6, 50_000) == (1.0, 1000.0)
    assert CAPACITY.gradient(80.0, 12.4, 50_000) == (1.0, -1000.0)


@pytest.mark.parametrize(
    ("objective", "step"),
    [(Beta(0.0), 0), (Beta(4.0), 7), (CAPACITY, 0), (CAPACITY, 40_000), (CAPACITY, 200_000)],
)
def test_the_gradient_is_the_derivative(objective: Objective, step: int) -> None:
    check_gradients(
        lambda recon_nll, kl: objective.value(recon_nll, kl, step),
        lambda recon_nll, kl, u: [
            u * slope for slope in objective.gradient(float(recon_nll), float(kl), step)
        ],
        {"recon_nll": 81.06, "kl": 17.0},
    )


def test_a_capacity_needs_a_step_to_rise() -> None:
    with pytest.raises(ValueError, match="capacity_steps must be >= 1, got 0"):
        Capacity(1.0, 25.0, 0)
