"""What turns terms into weights, against the oracle: objectives, optimizers, a training step."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from betavae_core import controllers, objectives
from betavae_core.mixed_precision import Copies, WorkingWeights
from betavae_core.model import initialise
from betavae_core.optimizers import Optimizer
from betavae_core.parity.comparison import Comparison
from betavae_core.parity.networks import batch, fixed, model_and_oracle
from betavae_core.posterior import Posterior
from betavae_core.reference import controllers as oracle_controllers
from betavae_core.reference import objectives as oracle
from betavae_core.reference import optimizers as oracle_optimizers
from betavae_core.reference.model import train_step

# name -> the oracle of the optimizer at a learning rate
OPTIMIZERS: dict[str, Any] = {
    "adam": oracle_optimizers.Adam,
    "adagrad": oracle_optimizers.Adagrad,
}
_LR, _UPDATES = 1e-3, 2
_CAPACITY = (20.0, 25.0, 100)
_BETAS = {"least": controllers.LEAST, "most": controllers.MOST}
# production, its target, and the oracle with the same gains
CONTROLLERS: dict[str, Any] = {
    "controlvae": (
        controllers.ControlVAE,
        12.0,
        partial(oracle_controllers.ControlVAE, ki=controllers.KI, **_BETAS),
    ),
    "geco": (
        controllers.Geco,
        80.0,
        partial(
            oracle_controllers.Geco,
            nu=controllers.NU,
            alpha=controllers.ALPHA,
            clip=controllers.CLIP,
            **_BETAS,
        ),
    ),
}
_TERMS = [(400.0, 60.0), (90.0, 40.0), (80.0, 12.0), (60.0, 2.0), (70.0, 0.25), (79.0, 11.5)]
_DTYPES = (torch.float64, torch.float32)


def compare_objectives(device: torch.device) -> Iterator[Comparison]:
    """Losses and their gradients; of `capacity` below, above and past the end of its ramp."""
    yield from _objective("beta", objectives.Beta(4.0), oracle.Beta(4.0), 0, device)
    mine, theirs = objectives.Capacity(*_CAPACITY), oracle.Capacity(*_CAPACITY)
    for step in (10, 60, 1000):
        yield from _objective(f"capacity.step_{step}", mine, theirs, step, device)
    for name in CONTROLLERS:
        yield from _controller(name, device)


def _objective(
    name: str, mine: Any, theirs: Any, step: int, device: torch.device
) -> Iterator[Comparison]:
    for dtype in _DTYPES:
        recon_nll = torch.tensor(80.5, dtype=dtype, device=device, requires_grad=True)
        per_latent = torch.tensor([1.5, 4.25, 0.125], dtype=dtype, device=device)
        per_latent.requires_grad_()
        posterior = Posterior(per_latent, per_latent, kl_per_latent=per_latent)
        loss = mine(recon_nll, posterior, step)
        got = torch.autograd.grad(loss, (recon_nll, per_latent))
        terms = recon_nll.item(), per_latent.sum().item()
        drecon, dkl = theirs.gradient(*terms, step)
        stem = f"objective.{name}"
        yield Comparison(f"{stem}.loss", dtype, loss, theirs.value(*terms, step))
        yield Comparison(f"{stem}.drecon_nll", dtype, got[0], drecon)
        yield Comparison(f"{stem}.dkl", dtype, got[1], [dkl] * len(per_latent))


def _controller(name: str, device: torch.device) -> Iterator[Comparison]:
    """The β of a controller over steps below, above and at its target, and the loss with the last.

    The terms are handed on at their true size; only what the controller remembers is compared.
    """
    production, target, truth = CONTROLLERS[name]
    for dtype in _DTYPES:
        mine, theirs = production(target).to(device, dtype), truth(target)
        betas, expected = [], []
        for recon_nll, kl in _TERMS:
            posterior = _posterior(kl, dtype, device)
            loss = mine(torch.tensor(recon_nll, dtype=dtype, device=device), posterior, 0)
            betas.append(mine.beta.clone())
            expected.append(theirs.update(recon_nll, kl))
        truth_loss = oracle.Beta(expected[-1]).value(recon_nll, kl, 0)
        yield Comparison(f"objective.{name}.beta", dtype, torch.stack(betas), expected)
        yield Comparison(f"objective.{name}.loss", dtype, loss, truth_loss)


def _posterior(kl: float, dtype: torch.dtype, device: torch.device) -> Posterior:
    per_latent = torch.tensor([kl / 2, kl / 4, kl / 4], dtype=dtype, device=device)
    return Posterior(per_latent, per_latent, kl_per_latent=per_latent)


def compare_optimizer(name: str, device: torch.device) -> Iterator[Comparison]:
    """The optimizer alone on given gradients, and the weights after whole training steps.

    The steps are compared in float64 only, and on a small model: where a gradient is near zero
    Adam's update is its sign, so the rounding of the gradient would be all one sees.
    """
    for dtype in _DTYPES:
        yield from _updates(f"{name}.update", dtype, device)
    yield from _updates(f"{name}.update_with_copies", torch.float32, device, copied=True)
    yield from _training_steps(name, device)


def _updates(
    stem: str, dtype: torch.dtype, device: torch.device, copied: bool = False
) -> Iterator[Comparison]:
    """Weights after given gradients; if `copied`, those of copies in bfloat16, and the copies."""
    layer = torch.nn.Linear(5, 3).to(device, dtype)
    initialise(layer, seed=4)
    copies = WorkingWeights([layer] if copied else []).copies
    optimizer, reference = _optimizers(stem.split(".")[0], layer, copies)
    leaves = {key: copies.get(p, p) for key, p in layer.named_parameters()}
    weights = {key: p.detach().double().cpu().numpy() for key, p in layer.named_parameters()}
    for step in range(_UPDATES):
        for row, leaf in enumerate(leaves.values()):
            leaf.grad = fixed(tuple(leaf.shape), 10 * step + row, leaf.dtype, device)
        optimizer.step()
        gradients = {key: leaf.grad.double().cpu().numpy() for key, leaf in leaves.items()}  # type: ignore[union-attr]
        reference.update(weights, gradients)
    for key, parameter in layer.named_parameters():
        yield Comparison(f"{stem}.{key}", dtype, parameter, weights[key])
        if copied:
            yield Comparison(f"{stem}.copy_of_{key}", torch.bfloat16, leaves[key], weights[key])


def _training_steps(name: str, device: torch.device) -> Iterator[Comparison]:
    dtype = torch.float64
    model, truth = model_and_oracle("mlp", "bernoulli", dtype, device, small=True)
    x, eps = batch(model, dtype, device)
    optimizer, reference = _optimizers(name, model)
    for step in range(_UPDATES):
        terms = model(x, eps=eps)
        optimizer.zero_grad()
        objectives.Beta(4.0)(terms.recon_nll, terms.posterior, step).backward()
        optimizer.step()
        train_step(truth, reference, x.cpu().numpy(), eps.cpu().numpy(), oracle.Beta(4.0), step)
    for key, parameter in model.named_parameters():
        yield Comparison(f"{name}.train_step.{key}", dtype, parameter, truth.parameters[key])


def _optimizers(
    name: str, model: torch.nn.Module, copies: Copies | None = None
) -> tuple[Optimizer, Any]:
    """The production optimizer of a model, and the oracle's."""
    return Optimizer(name, model.parameters(), _LR, copies), OPTIMIZERS[name](_LR)
