"""What an objective sees of a batch's codes."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Posterior(NamedTuple):
    """q(z | x) of a batch: what the encoder says and, in training, what was drawn from it.

    `mu`, `logvar` and `z` are (B, D); `kl_per_sample` (B,) is summed over latents and
    `kl_per_latent` (D,) a mean over the batch, in nats. `encode` fills only the first two.
    """

    mu: Tensor
    logvar: Tensor
    z: Tensor | None = None
    kl_per_sample: Tensor | None = None
    kl_per_latent: Tensor | None = None

    @property
    def kl(self) -> Tensor:
        """KL(q(z | x) ‖ p(z)) in nats: sum over latents, mean over the batch."""
        if self.kl_per_latent is None:
            raise ValueError(
                "this posterior was encoded, not sampled: it carries no KL; "
                "metrics.kl_per_latent(mu, logvar) has it"
            )
        return self.kl_per_latent.sum()
