"""Objectives that choose β themselves, so that a user states what they want instead.

`ControlVAE` holds the KL at a target, `Geco` the reconstruction. Each is a module whose buffers
are its memory: they live where the model lives and are saved with it, so a resumed run goes on
with the very β of an unbroken one. In eval mode β stands still.
"""

from __future__ import annotations

from math import log
from typing import Self

import torch
from torch import Tensor, nn

from betavae_core.config import Config
from betavae_core.posterior import Posterior

KI = 0.01  # ControlVAE's gain: how much ln β rises in a step with a relative error of 1
NU, ALPHA, CLIP = 0.05, 0.99, 0.2  # GECO's: of the relative error; its memory; the most of it
LEAST, MOST = 1e-3, 1e4  # β stays within, so that a target out of reach does not wind it up


class Controller(nn.Module):
    """recon_nll + β KL, β moved by `_control` in every training step."""

    beta: Tensor

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.register_buffer("beta", torch.tensor(beta))

    def forward(self, recon_nll: Tensor, posterior: Posterior, step: int | Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.beta.copy_(self._control(recon_nll, posterior.kl))
        return recon_nll + self.beta * posterior.kl

    def _control(self, recon_nll: Tensor, kl: Tensor) -> Tensor:
        """The β of this step, from its batch means in nats."""
        raise NotImplementedError


class ControlVAE(Controller):
    """The KL held at `target_kl` nats by integral control of ln β.

        ln β <- ln β + K_i clip((kl - target_kl) / target_kl, -1, 1),   β in [0.001, 10,000]

    The paper adds K_p / (1 + exp(e)) to a sum of K_i e in nats, with the target raised slowly over
    600,000 steps. With a target that stands still that sum is too slow where β must be large (a KL
    of 7.5 nats after 4,000 steps on the 2D shapes, for 6), as the β of two targets differ by
    orders of magnitude. A step in ln β is as good for all, and its P term is then not needed.

    Source: Shao et al., "ControlVAE" (ICML 2020), equations 9 to 11 and algorithm 1.
    """

    log_beta: Tensor

    def __init__(self, target_kl: float) -> None:
        super().__init__(1.0)
        self.target_kl = target_kl
        self.register_buffer("log_beta", torch.tensor(0.0))

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """The controller with the target of a configuration."""
        return cls(float(config.target_kl or 0.0))

    def _control(self, recon_nll: Tensor, kl: Tensor) -> Tensor:
        error = ((kl - self.target_kl) / self.target_kl).clamp(-1, 1)
        return self.log_beta.add_(KI * error).clamp_(log(LEAST), log(MOST)).exp()


class Geco(Controller):
    """The reconstruction held at `target_recon` nats an image, at the least KL that allows it.

        C = mean of (recon_nll - target_recon) with memory α;
        ln λ <- ln λ + ν clip(C / |target_recon|, -c, c);   β = 1 / λ in [0.001, 10,000]

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
        self.log_lambda.add_(NU * relative).clamp_(-log(MOST), -log(LEAST))
        return (-self.log_lambda).exp()
