"""Objectives that move β to hold a target: the oracle of ControlVAE and GECO.

A controller remembers; `update` takes the batch means of a training step in nats and gives the β
of that step, whose loss is `Beta(beta)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class ControlVAE:
    """β = max(0, K_p / (1 + exp(e)) + I),  e = target_kl - kl,  I <- max(0, I - K_i e).

    The sum I stays at 0 where it would go below: else it went on falling while the KL is too low,
    and had to climb back before β could rise (anti-windup).

    Source: Shao et al., "ControlVAE" (2020), equations 9 to 11 and algorithm 1.
    """

    target_kl: float
    kp: float
    ki: float
    integral: float = 0.0

    def update(self, recon_nll: float, kl: float) -> float:
        """The β of a step with these batch means."""
        error = self.target_kl - kl
        self.integral = max(0.0, self.integral - self.ki * error)
        return max(0.0, self.kp / (1.0 + np.exp(error)) + self.integral)


@dataclass
class Geco:
    """β = 1 / λ,  ln λ <- ln λ + ν clip(mean / |target_recon|, -c, c).

    mean is that of recon_nll - target_recon with memory α, and begins at its first value.

    Source: Rezende, Viola, "Taming VAEs" (2018), algorithm 1; there the constraint is neither
    relative nor clipped.
    """

    target_recon: float
    nu: float
    alpha: float
    clip: float
    log_lambda: float = 0.0
    mean: float | None = None

    def update(self, recon_nll: float, kl: float) -> float:
        """The β of a step with these batch means."""
        error = recon_nll - self.target_recon
        old = error if self.mean is None else self.mean
        self.mean = self.alpha * old + (1.0 - self.alpha) * error
        relative = self.mean / abs(self.target_recon)
        self.log_lambda += self.nu * min(self.clip, max(-self.clip, relative))
        return float(np.exp(-self.log_lambda))
