"""Objectives that choose β themselves, so that a user states what they want instead.

`ControlVAE` holds the KL at a target, `Geco` the reconstruction. Each is a module whose buffers
are its memory: they live where the model lives and are saved with it, so a resumed run goes on
with the very β of an unbroken one. In eval mode β stands still.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from betavae_core.config import Config
from betavae_core.posterior import Posterior

KP, KI = 0.01, 0.001  # ControlVAE's gains: of the moment, and of each step's error in nats
NU, ALPHA, CLIP = 0.05, 0.99, 0.2  # GECO's: of the relative error; its memory; the most of it


class Controller(nn.Module):
    """recon_nll + β KL, β moved by `_control` in every training step."""

    beta: Tensor

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.register_buffer("beta", torch.tensor(beta))

    def forward(self, recon_nll: Tensor, posterior: Posterior, step: int) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.beta.copy_(self._control(recon_nll, posterior.kl))
        return recon_nll + self.beta * posterior.kl

    def _control(self, recon_nll: Tensor, kl: Tensor) -> Tensor:
        """The β of this step, from its batch means in nats."""
        raise NotImplementedError


class ControlVAE(Controller):
    """The KL held at `target_kl` nats by a non-linear PI controller.

        e = target_kl - kl;   I <- I - K_i e, unless β has come to its least, 0;
        β = max(0, K_p / (1 + exp(e)) + I)

    The target stands still, where the paper raises it by .15 nats every 5,000 steps.
    Source: Shao et al., "ControlVAE" (ICML 2020), equations 9 to 11 and algorithm 1.
    """

    integral: Tensor

    def __init__(self, target_kl: float) -> None:
        super().__init__(0.0)
        self.target_kl = target_kl
        self.register_buffer("integral", torch.tensor(0.0))

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """The controller with the target of a configuration."""
        return cls(float(config.target_kl or 0.0))

    def _control(self, recon_nll: Tensor, kl: Tensor) -> Tensor:
        error = self.target_kl - kl
        # Below 0 the sum would go on falling for as long as the KL is too low (wind-up).
        self.integral.sub_(KI * error).clamp_(min=0)
        return (KP * torch.sigmoid(-error) + self.integral).clamp(min=0)


class Geco(Controller):
    """The reconstruction held at `target_recon` nats an image, at the least KL that allows it.

        C = mean of (recon_nll - target_recon) with memory α;
        ln λ <- ln λ + ν clip(C / |target_recon|, -c, c);   β = 1 / λ

    Minimising recon_nll + β KL is minimising KL + λ recon_nll. The constraint is taken relative
    to its target and clipped at c, so that one ν serves images of any size and the large errors
    of the first steps do not carry λ away.
    Source: Rezende and Viola, "Taming VAEs" (2018), algorithm 1.
    """

    log_lambda: Tensor
    error: Tensor
    seen: Tensor

    def __init__(self, target_recon: float) -> None:
        super().__init__(1.0)
        self.target_recon = target_recon
        for name in ("log_lambda", "error", "seen"):
            self.register_buffer(name, torch.tensor(0.0))

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """The controller with the target of a configuration."""
        return cls(float(config.target_recon or 0.0))

    def _control(self, recon_nll: Tensor, kl: Tensor) -> Tensor:
        error = recon_nll - self.target_recon
        memory = ALPHA * self.seen  # the first error is its own mean
        self.error.copy_(memory * self.error + (1 - memory) * error)
        self.seen.fill_(1.0)
        relative = (self.error / abs(self.target_recon)).clamp(-CLIP, CLIP)
        return (-self.log_lambda.add_(NU * relative)).exp()
