"""The objectives: the oracle's values and gradients, and a β that means one thing everywhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from op_cases import sample, with_gradient
from torch import Tensor

from betavae_core import architectures, config, model, objectives
from betavae_core.objectives import Beta, Capacity
from betavae_core.ops import philox, reparam_kl
from betavae_core.posterior import Posterior
from betavae_core.reference import objectives as oracle

SHAPE = (1, 4, 4)
CASES = [
    (Beta(4.0), oracle.Beta(4.0)),
    (Beta(0.0), oracle.Beta(0.0)),
    (Capacity(10.0, 25.0, 100), oracle.Capacity(10.0, 25.0, 100)),
    (Capacity(1000.0, 0.5, 1), oracle.Capacity(1000.0, 0.5, 1)),
]


def posterior(kl_per_latent: Tensor) -> Posterior:
    empty = torch.zeros(0)
    return Posterior(empty, empty, empty, empty, kl_per_latent)


def vae(likelihood: str = "bernoulli") -> model.BetaVAE:
    network = architectures.build("mlp", SHAPE, 3, (8,))
    settings = {"latent_dim": 3, "image_shape": SHAPE, "likelihood": likelihood}
    return model.build(network, seed=1, **settings).double()


def images(count: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(256, size=(count, *SHAPE))).byte()


def loss_of(vae: model.BetaVAE, objective: objectives.Objective, x: Tensor, eps: Tensor) -> Tensor:
    terms = vae(x, eps=eps)
    return objective(terms.recon_nll, terms.posterior, 50)


@pytest.mark.parametrize(("production", "truth"), CASES)
@pytest.mark.parametrize("step", [0, 1, 37, 100, 10**6])
@pytest.mark.parametrize("kl", [0.0, 0.3, 9.25, 25.0, 40.0])
def test_values_and_gradients_are_the_oracle_s(
    production: objectives.Objective, truth: oracle.Objective, step: int, kl: float
) -> None:
    recon_nll = torch.tensor(120.5, dtype=torch.float64, requires_grad=True)
    kl_per_latent = torch.tensor([kl / 4, kl / 2, kl / 4], dtype=torch.float64, requires_grad=True)
    loss = production(recon_nll, posterior(kl_per_latent), step)
    loss.backward()
    assert loss.item() == pytest.approx(truth.value(120.5, kl, step), rel=1e-14)
    drecon, dkl = truth.gradient(120.5, kl, step)
    assert recon_nll.grad.item() == drecon
    assert kl_per_latent.grad.tolist() == [dkl] * 3


def test_the_capacity_rises_linearly_and_stays() -> None:
    capacity = Capacity(1.0, 25.0, 100).capacity
    assert [capacity(step) for step in (0, 50, 100, 101, 10**9)] == [0, 12.5, 25, 25, 25]


def test_the_bars_of_the_capacity_stand_around_the_batch_mean_and_not_each_sample() -> None:
    """One image's KL lies 2 below C, the other's 2 above: the mean is at C, and costs nothing."""
    mu = torch.tensor([[2.0], [12.0**0.5]], dtype=torch.float64)
    terms = Posterior(mu, mu, *reparam_kl(mu, torch.zeros_like(mu), philox.make_key(0)))
    assert terms.kl_per_sample.tolist() == pytest.approx([2, 6])
    loss = Capacity(gamma=100.0, capacity_max=4.0, capacity_steps=1)(torch.tensor(7.0), terms, 1)
    assert loss.item() == pytest.approx(7.0)


def test_a_kl_at_its_capacity_is_left_where_it_is() -> None:
    kl = torch.tensor([4.0], requires_grad=True)
    Capacity(100.0, 4.0, 1)(torch.tensor(0.0), posterior(kl), 1).backward()
    assert kl.grad.item() == 0


@pytest.mark.parametrize("objective", [Beta(3.0), Capacity(5.0, 2.0, 10)])
def test_the_loss_of_a_batch_seen_twice_is_that_of_the_batch(
    objective: objectives.Objective,
) -> None:
    network, x, eps = vae(), images(6), sample((6, 3), torch.float64, "contiguous")
    once = loss_of(network, objective, x, eps)
    twice = loss_of(network, objective, torch.cat([x, x]), torch.cat([eps, eps]))
    torch.testing.assert_close(twice, once, rtol=1e-13, atol=0)
    gradients = [torch.autograd.grad(v, list(network.parameters())) for v in (once, twice)]
    torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-12)


def test_the_loss_of_a_batch_is_the_mean_of_its_images_losses() -> None:
    network, x, eps = vae(), images(5), sample((5, 3), torch.float64, "contiguous")
    singles = [loss_of(network, Beta(3.0), x[i : i + 1], eps[i : i + 1]) for i in range(5)]
    torch.testing.assert_close(loss_of(network, Beta(3.0), x, eps), torch.stack(singles).mean())


def test_beta_weighs_the_same_kl_under_either_likelihood() -> None:
    x, eps = images(4), sample((4, 3), torch.float64, "contiguous")
    weighed = []
    for likelihood in ("bernoulli", "gaussian"):
        terms = vae(likelihood)(x, eps=eps)
        losses = [Beta(b)(terms.recon_nll, terms.posterior, 0) for b in (0.0, 1.0, 7.0)]
        assert losses[0] == terms.recon_nll
        torch.testing.assert_close(losses[1] - losses[0], terms.posterior.kl)
        weighed.append((losses[2] - losses[0]) / 7)
    torch.testing.assert_close(*weighed)


def test_beta_of_zero_is_an_autoencoder() -> None:
    """No gradient comes through the KL: that of the loss is that of recon_nll, to the bit."""
    network, x, eps = vae(), images(4), sample((4, 3), torch.float64, "contiguous")
    terms = network(x, eps=eps)
    parameters = list(network.parameters())
    plain = torch.autograd.grad(terms.recon_nll, parameters, retain_graph=True)
    loss = Beta(0.0)(terms.recon_nll, terms.posterior, 0)
    assert loss == terms.recon_nll
    assert all(map(torch.equal, torch.autograd.grad(loss, parameters), plain))


def test_the_kl_is_the_batch_mean_of_the_samples_and_the_sum_of_the_latents() -> None:
    h = with_gradient(sample((7, 6), torch.float64, "contiguous"))
    mu, logvar = h.chunk(2, dim=1)
    terms = Posterior(mu, logvar, *reparam_kl(mu, logvar, philox.make_key(0)))
    torch.testing.assert_close(terms.kl, terms.kl_per_sample.mean())
    torch.testing.assert_close(terms.kl, terms.kl_per_latent.sum())


def test_an_encoded_posterior_has_no_kl() -> None:
    with pytest.raises(ValueError, match="encoded, not sampled"):
        _ = Posterior(torch.zeros(1, 2), torch.zeros(1, 2)).kl


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({"objective": "beta", "beta": 6.0}, Beta(6.0)),
     ({"objective": "capacity", "gamma": 9.0, "capacity_max": 3.0, "capacity_steps": 7},
      Capacity(9.0, 3.0, 7))],
)  # fmt: skip
def test_a_configuration_holds_the_numbers_of_its_objective(
    settings: dict[str, object], expected: Beta | Capacity
) -> None:
    assert type(expected).from_config(config.Config(**settings)) == expected
    assert objectives.OBJECTIVES[settings["objective"]] is type(expected)
