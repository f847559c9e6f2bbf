"""Objectives that move β to hold a target: the oracle of ControlVAE and GECO.

A controller remembers; `update` takes the batch means of a training step in nats and gives the β
of that step, whose loss is `Beta(beta)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class ControlVAE:
    """ln β <- ln β + K_i clip((kl - target_kl) / target_kl, -1, 1), β in [least, most].

    Source: Shao et al., "ControlVAE" (2020), equations 9 to 11; there the errors in nats add up to
    β itself.
    """

    target_kl: float
    ki: float
    least: float
    most: float
    beta: float = 1.0

    def update(self, recon_nll: float, kl: float) -> float:
        """The β of a step with these batch means."""
        relative = (kl - self.target_kl) / self.target_kl
        self.beta *= np.exp(self.ki * min(1.0, max(-1.0, relative)))
        self.beta = min(self.most, max(self.least, self.beta))
        return self.beta


@dataclass
class Geco:
    """β = 1 / λ in [least, most],  ln λ <- ln λ + ν clip(mean / |target_recon|, -c, c).

    mean is that of recon_nll - target_recon with memory α, and begins at its first value.

    Source: Rezende, Viola, "Taming VAEs" (2018), algorithm 1; there the constraint is neither
    relative nor clipped.
    """

    target_recon: float
    nu: float
    alpha: float
    clip: float
    least: float
    most: float
    log_lambda: float = 0.0
    mean: float | None = None

    def update(self, recon_nll: float, kl: float) -> float:
        """The β of a step with these batch means."""
        error = recon_nll - self.target_recon
        old = error if self.mean is None else self.mean
        self.mean = self.alpha * old + (1.0 - self.alpha) * error
        relative = self.mean / abs(self.target_recon)
        self.log_lambda += self.nu * min(self.clip, max(-self.clip, relative))
        self.log_lambda = min(-np.log(self.least), max(-np.log(self.most), self.log_lambda))
        return float(np.exp(-self.log_lambda))
