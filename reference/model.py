"""The whole β-VAE: loss, every parameter's gradient, and a training step.

    h          = encoder(x/levels)                          (B, 2D): mu, then logvar
    z, kl      = reparam_kl(mu, logvar, eps)
    logits     = decoder(z)
    recon_nll  = (1/B) Σ_b nll(logits[b], x[b])             loss = objective(recon_nll, kl, step)

Source: Kingma, Welling, "Auto-encoding variational Bayes" (2014), algorithm 1, with the objective
left open (Higgins et al. 2017; Burgess et al. 2018).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from betavae_core.reference.bernoulli_nll import bernoulli_nll, bernoulli_nll_backward
from betavae_core.reference.gaussian_nll import gaussian_nll, gaussian_nll_backward
from betavae_core.reference.layers import Sequential, Specification
from betavae_core.reference.objectives import Objective
from betavae_core.reference.optimizers import Optimizer
from betavae_core.reference.reparam_kl import reparam_kl, reparam_kl_backward

Array = NDArray[np.float64]


class Terms(NamedTuple):
    """What a forward pass finds. All nats: sums over pixels or latents, means over the batch.

    recon_nll, kl: numbers; kl_per_latent (D,), its sum is kl; mu, logvar (as the encoder gave it,
    not bounded) and z: (B, D); logits (B, C, H, W).
    """

    recon_nll: float
    kl: float
    kl_per_latent: Array
    mu: Array
    logvar: Array
    z: Array
    logits: Array


class VAE:
    """An encoder, a decoder and a likelihood. The weights are zero until `load`.

    encoder_spec, decoder_spec: specifications (see `layers.Sequential`); likelihood "bernoulli" or
    "gaussian" (of width `sigma`); `levels` as in `bernoulli_nll`.
    """

    def __init__(
        self,
        encoder_spec: Specification,
        decoder_spec: Specification,
        likelihood: str = "bernoulli",
        levels: int = 1,
        sigma: float = 1.0,
    ) -> None:
        if likelihood not in ("bernoulli", "gaussian"):
            raise ValueError(f"likelihood must be bernoulli or gaussian, got {likelihood!r}")
        self.encoder, self.decoder = Sequential(encoder_spec), Sequential(decoder_spec)
        self.likelihood, self.levels, self.sigma = likelihood, levels, sigma

    @property
    def parameters(self) -> dict[str, Array]:
        """The networks' own arrays, "encoder.0.weight" and so on: writing into one changes it."""
        return self._named(self.encoder.parameters, self.decoder.parameters)

    def load(self, weights: Mapping[str, ArrayLike]) -> None:
        """Copy weights, named as `parameters` are. Raises ValueError for another set of names."""
        self.encoder.load(weights, "encoder.")
        self.decoder.load(weights, "decoder.")
        if odd := sorted(weights.keys() - self.parameters.keys()):
            raise ValueError(f"every weight must be an encoder's or a decoder's, got also {odd}")

    def forward(self, x: ArrayLike, eps: ArrayLike) -> Terms:
        """The terms of the loss at images x (B, C, H, W), uint8 or float, with noise eps (B, D)."""
        x = np.asarray(x, dtype=np.float64)
        mu, logvar = _halves(self.encoder.forward(x / self.levels))
        z, kl_per_sample, kl_per_latent = reparam_kl(mu, logvar, eps)
        logits = self.decoder.forward(z)
        recon_nll, kl = _mean(self._nll(logits, x)), _mean(kl_per_sample)
        return Terms(recon_nll, kl, kl_per_latent, mu, logvar, z, logits)

    def loss_and_gradients(
        self, x: ArrayLike, eps: ArrayLike, objective: Objective, step: int
    ) -> tuple[float, Terms, dict[str, Array]]:
        """The loss in nats, its terms, and the gradient of every parameter by name.

        With (r', k') = (∂loss/∂recon_nll, ∂loss/∂kl) the objective's, the means over the batch give

            ∂loss/∂nll[b] = r'/B            ∂loss/∂kl_per_sample[b] = k'/B

        (kl is the sum of kl_per_latent too, but the loss is reached by one way only, so that one
        gets 0), and from there the chain rule runs through the parts in reverse:

            nll -> dlogits -> decoder -> dz -> reparam_kl -> (dmu, dlogvar) -> encoder.
        """
        terms = self.forward(x, eps)
        drecon, dkl = objective.gradient(terms.recon_nll, terms.kl, step)
        batch, latents = terms.mu.shape
        share = np.full(batch, 1 / max(batch, 1))
        self.encoder.zero_grads()
        self.decoder.zero_grads()
        dz = self.decoder.backward(self._nll_backward(terms.logits, x, drecon * share))
        dmu, dlogvar = reparam_kl_backward(
            terms.mu, terms.logvar, eps, dz, dkl * share, np.zeros(latents)
        )
        self.encoder.backward(np.concatenate((dmu, dlogvar), axis=1))
        gradients = self._named(self.encoder.grads, self.decoder.grads)
        return objective.value(terms.recon_nll, terms.kl, step), terms, gradients

    def _nll(self, logits: Array, x: ArrayLike) -> Array:
        if self.likelihood == "bernoulli":
            return bernoulli_nll(logits, x, self.levels)
        return gaussian_nll(logits, x, self.levels, self.sigma)

    def _nll_backward(self, logits: Array, x: ArrayLike, dnll: Array) -> Array:
        if self.likelihood == "bernoulli":
            return bernoulli_nll_backward(logits, x, self.levels, dnll)
        return gaussian_nll_backward(logits, x, self.levels, self.sigma, dnll)

    @staticmethod
    def _named(encoder: dict[str, Array], decoder: dict[str, Array]) -> dict[str, Array]:
        named = {f"encoder.{name}": array for name, array in encoder.items()}
        return named | {f"decoder.{name}": array for name, array in decoder.items()}


def train_step(
    model: VAE,
    optimizer: Optimizer,
    x: ArrayLike,
    eps: ArrayLike,
    objective: Objective,
    step: int,
) -> tuple[float, Terms]:
    """One whole training step: the loss and terms before it; the parameters move in place."""
    loss, terms, gradients = model.loss_and_gradients(x, eps, objective, step)
    optimizer.update(model.parameters, gradients)
    return loss, terms


def _halves(h: Array) -> tuple[Array, Array]:
    if h.ndim != 2 or h.shape[1] % 2:
        raise ValueError(f"an encoder must give (B, 2D), mu then logvar, got {h.shape}")
    latents = h.shape[1] // 2
    return h[:, :latents], h[:, latents:]


def _mean(per_sample: Array) -> float:
    """The mean over the batch; 0 for an empty one, as in `reparam_kl`."""
    return float(per_sample.sum() / max(len(per_sample), 1))
