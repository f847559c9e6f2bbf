"""What is minimised: pure functions of (recon_nll, posterior, step).

Everything is in nats and a mean over the batch, so β means the same whatever the likelihood, the
data or the batch size. An objective of one's own is any callable with this signature.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import inf
from typing import Any, Protocol, Self

from torch import Tensor

from betavae_core.config import Config
from betavae_core.controllers import ControlVAE, Geco
from betavae_core.errors import UsageError
from betavae_core.posterior import Posterior


class Objective(Protocol):
    def __call__(self, recon_nll: Tensor, posterior: Posterior, step: Any) -> Tensor:
        """The scalar to minimise, from the batch means of step `step` (counted from 0).

        `step` is an int, or in training an int64 tensor () on the model's device, so that a GPU
        need not ask.
        """
        ...


def require_scalar(loss: Any) -> None:
    """Raises UsageError unless an objective of one's own gave a scalar tensor."""
    if not isinstance(loss, Tensor) or loss.ndim:
        got = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise UsageError(
            f"an objective must give a scalar tensor, got {got}; take the mean, or sum"
        )


class FromConfig:
    """An objective whose fields are settings of the same names."""

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """The objective with the numbers of a resolved configuration."""
        return cls(**{f.name: getattr(config, f.name) for f in fields(cls)})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Beta(FromConfig):
    """recon_nll + β KL. β = 0 is an autoencoder, 1 the VAE (Higgins et al. 2017, equation 4)."""

    beta: float

    def __post_init__(self) -> None:
        if not 0 <= self.beta < inf:
            raise ValueError(f"beta must be finite and >= 0, got {self.beta}")

    def __call__(self, recon_nll: Tensor, posterior: Posterior, step: Any) -> Tensor:
        return recon_nll + self.beta * posterior.kl


@dataclass(frozen=True)
class Capacity(FromConfig):
    """recon_nll + γ |KL - C|, with C raised linearly (Burgess et al. 2018, equation 8).

    C(step) = capacity_max · min(step / capacity_steps, 1), and |·| is taken of the batch mean: of
    each sample it would also punish the spread of the KL between images.
    """

    gamma: float
    capacity_max: float
    capacity_steps: int

    def __post_init__(self) -> None:
        if self.capacity_steps < 1:
            raise ValueError(f"capacity_steps must be >= 1, got {self.capacity_steps}")

    def capacity(self, step: Any) -> Any:
        """C in nats at `step`: a float of an int, a tensor of a tensor."""
        if isinstance(step, Tensor):
            return self.capacity_max * (step.double() / self.capacity_steps).clamp(max=1.0)
        return self.capacity_max * min(step / self.capacity_steps, 1.0)

    def __call__(self, recon_nll: Tensor, posterior: Posterior, step: Any) -> Tensor:
        excess = (posterior.kl - self.capacity(step)).to(posterior.kl.dtype)
        return recon_nll + self.gamma * excess.abs()


OBJECTIVES: dict[str, Any] = {
    "beta": Beta,
    "capacity": Capacity,
    "controlvae": ControlVAE,
    "geco": Geco,
}
