"""The oracle's whole model: loss, gradients and a training step, against torch's autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from betavae_core import architectures
from betavae_core.reference.checks import check_gradients, compare
from betavae_core.reference.model import VAE, train_step
from betavae_core.reference.objectives import Beta, Capacity, Objective
from betavae_core.reference.optimizers import Adagrad, Adam, Optimizer
from betavae_core.reference.philox import normal

LATENTS = 2
ENCODER = (("conv", 1, 3, 3, 2, 1), ("relu",), ("flatten",), ("linear", 36, 2 * LATENTS))
DECODER = (
    ("linear", LATENTS, 36),
    ("tanh",),
    ("reshape", 3, 3, 4),
    ("conv_transpose", 3, 1, 3, 2, 1),
)
IMAGE = (1, 5, 7)
OBJECTIVES = [Beta(4.0), Beta(0.0), Capacity(10.0, 25.0, 100)]


def small(likelihood: str = "bernoulli", levels: int = 255, sigma: float = 0.3) -> VAE:
    return with_weights(VAE(ENCODER, DECODER, likelihood, levels, sigma))


def with_weights(model: VAE) -> VAE:
    rng = np.random.default_rng(0)
    model.load(
        {
            name: rng.normal(size=p.shape) / np.sqrt(max(p[0].size, 1))
            for name, p in model.parameters.items()
        }
    )
    return model


def batch(
    size: int = 3, shape: tuple[int, int, int] = IMAGE, latents: int = LATENTS
) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(1).integers(0, 256, size=(size, *shape)).astype(np.uint8)
    return x, normal(0, 0, np.arange(size), latents)


def torch_network(
    h: torch.Tensor, specification: architectures.Architecture, weights: dict, prefix: str
) -> torch.Tensor:
    """The network in torch's own functions: nothing of the oracle's."""
    for i, (kind, *sizes) in enumerate(specification):
        parameters = [weights.get(f"{prefix}.{i}.{name}") for name in ("weight", "bias")]
        if kind == "linear":
            h = F.linear(h, *parameters)
        elif kind == "conv":
            h = F.conv2d(h, *parameters, stride=sizes[3], padding=sizes[4])
        elif kind == "conv_transpose":
            h = F.conv_transpose2d(h, *parameters, stride=sizes[3], padding=sizes[4])
        elif kind == "reshape":
            h = h.reshape(-1, *sizes)
        else:
            h = {"relu": torch.relu, "tanh": torch.tanh, "flatten": lambda t: t.flatten(1)}[kind](h)
    return h


def torch_loss_and_gradients(
    model: VAE, spec: tuple, x: np.ndarray, eps: np.ndarray, objective: Objective, step: int
) -> tuple[float, dict[str, np.ndarray]]:
    weights = {n: torch.tensor(p, requires_grad=True) for n, p in model.parameters.items()}
    target = torch.tensor(x, dtype=torch.float64) / model.levels
    mu, logvar = torch_network(target, spec[0], weights, "encoder").chunk(2, dim=1)
    z = mu + (logvar / 2).exp() * torch.tensor(eps)
    logits = torch_network(z, spec[1], weights, "decoder")
    posterior = torch.distributions.Normal(mu, (logvar / 2).exp())
    kl = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0))
    if model.likelihood == "bernoulli":
        nll = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    else:
        nll = -torch.distributions.Normal(torch.sigmoid(logits), model.sigma).log_prob(target)
    recon_nll, kl = nll.sum() / len(x), kl.sum() / len(x)
    if isinstance(objective, Beta):
        loss = recon_nll + objective.beta * kl
    else:
        assert isinstance(objective, Capacity)
        loss = recon_nll + objective.gamma * (kl - objective.capacity(step)).abs()
    gradients = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
    return loss.item(), {n: g.numpy() for n, g in zip(weights, gradients, strict=True)}


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_loss_and_every_gradient_are_those_of_autograd(
    likelihood: str, objective: Objective
) -> None:
    model, (x, eps) = small(likelihood), batch()
    loss, _, gradients = model.loss_and_gradients(x, eps, objective, 40)
    expected, theirs = torch_loss_and_gradients(model, (ENCODER, DECODER), x, eps, objective, 40)
    assert loss == pytest.approx(expected, rel=1e-12)
    assert gradients.keys() == theirs.keys()
    for name, gradient in gradients.items():
        compare(name, gradient, theirs[name], 1e-11)


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_every_named_architecture_has_the_gradients_of_autograd(name: str) -> None:
    shape = (3, 16, 32)
    built = architectures.build(name, shape, 5, hidden=(17, 11))
    model = with_weights(VAE(built.encoder, built.decoder, levels=255))
    x, eps = batch(2, shape, 5)
    loss, terms, gradients = model.loss_and_gradients(x, eps, Beta(4.0), 0)
    assert (terms.mu.shape, terms.logits.shape) == ((2, 5), (2, *shape))
    spec = (built.encoder, built.decoder)
    expected, theirs = torch_loss_and_gradients(model, spec, x, eps, Beta(4.0), 0)
    assert loss == pytest.approx(expected, rel=1e-12)
    for parameter, gradient in gradients.items():
        compare(parameter, gradient, theirs[parameter], 1e-10)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_the_gradient_of_the_whole_is_the_derivative(likelihood: str) -> None:
    # tanh for ReLU: differences need a smooth function.
    encoder = tuple(("tanh",) if entry == ("relu",) else entry for entry in ENCODER)
    model = with_weights(VAE(encoder, DECODER, likelihood, 255, 0.3))
    x, eps = batch()
    names = list(model.parameters)

    def loss(*weights: np.ndarray) -> float:
        model.load(dict(zip(names, weights, strict=True)))
        return model.loss_and_gradients(x, eps, Beta(4.0), 0)[0]

    def backward(*weights_and_upstream: np.ndarray) -> dict[str, np.ndarray]:
        *weights, upstream = weights_and_upstream
        model.load(dict(zip(names, weights, strict=True)))
        gradients = model.loss_and_gradients(x, eps, Beta(4.0), 0)[2]
        return {name: upstream * g for name, g in gradients.items()}

    errors = check_gradients(loss, backward, model.parameters, tolerance=1e-7)
    assert list(errors) == names


def test_the_terms_are_batch_means_in_nats() -> None:
    model, (x, eps) = small(), batch(4)
    whole = model.forward(x, eps)
    each = [model.forward(x[i : i + 1], eps[i : i + 1]) for i in range(4)]
    assert whole.recon_nll == pytest.approx(np.mean([terms.recon_nll for terms in each]))
    assert whole.kl == pytest.approx(np.mean([terms.kl for terms in each]))
    assert whole.kl == pytest.approx(whole.kl_per_latent.sum())
    assert whole.mu[2] == pytest.approx(each[2].mu[0])


def test_a_capacity_is_held_by_the_batch_mean_and_not_by_each_sample() -> None:
    model, (x, eps) = small(), batch(4)
    each = [model.forward(x[i : i + 1], eps[i : i + 1]).kl for i in range(4)]
    objective = Capacity(gamma=10.0, capacity_max=float(np.median(each)), capacity_steps=1)
    loss, terms, _ = model.loss_and_gradients(x, eps, objective, 1)
    cost = loss - terms.recon_nll
    assert cost == pytest.approx(10 * abs(np.mean(each) - objective.capacity_max))
    assert cost < 0.9 * 10 * np.abs(np.array(each) - objective.capacity_max).mean()


def test_a_model_without_weights_sits_at_the_prior() -> None:
    model = VAE(ENCODER, DECODER, levels=255)
    terms = model.forward(*batch())
    assert terms.kl == 0.0
    assert terms.recon_nll == pytest.approx(5 * 7 * np.log(2))


def test_bytes_and_their_fractions_are_one_input() -> None:
    x, eps = batch()
    of_bytes = small(levels=255).loss_and_gradients(x, eps, Beta(1.0), 0)
    of_fractions = small(levels=1).loss_and_gradients(x / 255, eps, Beta(1.0), 0)
    assert of_bytes[0] == of_fractions[0]
    for name, gradient in of_bytes[2].items():
        assert np.array_equal(gradient, of_fractions[2][name])


def test_gradients_are_of_this_batch_alone_and_stay_as_given() -> None:
    model, (x, eps) = small(), batch()
    first = model.loss_and_gradients(x, eps, Beta(1.0), 0)[2]
    kept = {name: g.copy() for name, g in first.items()}
    model.loss_and_gradients(255 - x, -eps, Beta(7.0), 0)
    assert all(np.array_equal(first[name], kept[name]) for name in kept)
    again = model.loss_and_gradients(x, eps, Beta(1.0), 0)[2]
    assert all(np.array_equal(again[name], kept[name]) for name in kept)


def test_an_empty_batch_has_no_loss_and_no_gradient() -> None:
    x, eps = np.zeros((0, *IMAGE), np.uint8), np.zeros((0, LATENTS))
    loss, _, gradients = small().loss_and_gradients(x, eps, Beta(1.0), 0)
    assert loss == 0.0
    assert not any(g.any() for g in gradients.values())


@pytest.mark.parametrize("optimizer", [Adam(1e-2), Adagrad(1e-2)])
def test_a_training_step_moves_the_parameters_by_their_gradients(optimizer: Optimizer) -> None:
    x, eps = batch()
    model, other = small(), small()
    loss, terms = train_step(model, optimizer, x, eps, Beta(1.0), 0)
    expected_loss, expected_terms, gradients = other.loss_and_gradients(x, eps, Beta(1.0), 0)
    type(optimizer)(1e-2).update(other.parameters, gradients)
    assert loss == expected_loss
    assert terms.recon_nll == expected_terms.recon_nll
    for name, p in model.parameters.items():
        assert np.array_equal(p, other.parameters[name])
        assert not np.array_equal(p, small().parameters[name])


def test_training_lowers_the_loss() -> None:
    model, optimizer, (x, _) = small(), Adam(1e-2), batch(8)
    losses = []
    for step in range(60):
        eps = normal(0, step, np.arange(8), LATENTS)
        losses.append(train_step(model, optimizer, x, eps, Beta(1.0), step)[0])
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


def test_weights_that_do_not_fit_are_refused_by_name() -> None:
    model = small()
    weights = dict(model.parameters)
    with pytest.raises(ValueError, match=r"got also \['head\.weight'\]"):
        model.load({**weights, "head.weight": np.zeros(1)})
    del weights["decoder.0.bias"]
    with pytest.raises(ValueError, match=r"missing or unknown: \['decoder\.0\.bias'\]"):
        model.load(weights)


def test_what_makes_no_model_is_refused() -> None:
    with pytest.raises(ValueError, match="bernoulli or gaussian, got 'laplace'"):
        VAE(ENCODER, DECODER, likelihood="laplace")
    odd = VAE((("flatten",), ("linear", 35, 3)), DECODER)
    with pytest.raises(ValueError, match=r"must give \(B, 2D\), mu then logvar, got \(3, 3\)"):
        odd.forward(*batch())
