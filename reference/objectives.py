"""What is minimised: functions of two batch means, recon_nll and kl, both in nats.

    recon_nll = mean over the batch of the sum over pixels of -log p(x|z)
    kl        = mean over the batch of the sum over latents of KL(q(z|x) ‖ N(0, 1)), >= 0

An objective is anything with `value` and `gradient`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Objective(Protocol):
    """A loss in nats of the two batch means at an optimizer step, with its two derivatives."""

    def value(self, recon_nll: float, kl: float, step: int) -> float: ...

    def gradient(self, recon_nll: float, kl: float, step: int) -> tuple[float, float]: ...


def neg_elbo(recon_nll: float, kl: float) -> float:
    """Minus the evidence lower bound, in nats: recon_nll + kl, the objective `Beta(1)`.

    Over the noise it is at least the batch mean of -ln p(x), in expectation. Source: Kingma,
    Welling, "Auto-encoding variational Bayes" (2014), equation 3.
    """
    return recon_nll + kl


@dataclass(frozen=True)
class Beta:
    """recon_nll + beta·kl. beta = 0 is an autoencoder, 1 the VAE.

    Source: Higgins et al., "beta-VAE" (2017), equation 4 (there as a maximum).
    """

    beta: float

    def value(self, recon_nll: float, kl: float, step: int) -> float:
        """The loss in nats; the step does not enter."""
        return recon_nll + self.beta * kl

    def gradient(self, recon_nll: float, kl: float, step: int) -> tuple[float, float]:
        """(drecon_nll, dkl) = (1, beta): the loss is linear in both."""
        return 1.0, self.beta


@dataclass(frozen=True)
class Capacity:
    """recon_nll + gamma·|kl - C(step)|, C rising linearly to capacity_max nats.

    The bars stand around the batch *mean* of the KL: a sample may lie above C while another lies
    below. (Around each sample's KL they would make a different, larger loss.)

    Source: Burgess et al., "Understanding disentangling in beta-VAE" (2018), equation 8.
    """

    gamma: float
    capacity_max: float
    capacity_steps: int

    def __post_init__(self) -> None:
        if self.capacity_steps < 1:
            raise ValueError(f"capacity_steps must be >= 1, got {self.capacity_steps}")

    def capacity(self, step: int) -> float:
        """C(step) = capacity_max·min(step/capacity_steps, 1), in nats."""
        return self.capacity_max * min(step / self.capacity_steps, 1.0)

    def value(self, recon_nll: float, kl: float, step: int) -> float:
        """The loss in nats."""
        return recon_nll + self.gamma * abs(kl - self.capacity(step))

    def gradient(self, recon_nll: float, kl: float, step: int) -> tuple[float, float]:
        """(drecon_nll, dkl) = (1, gamma·sign(kl - C)).

        d|u|/du = sign(u); at u = 0, where there is none, 0 is taken: a subgradient, and the one
        that leaves a KL at its capacity where it is.
        """
        return 1.0, self.gamma * float(np.sign(kl - self.capacity(step)))
