"""The optimizers as their update rules, parameter by parameter, with torch's conventions.

Both update the arrays of `parameters` in place. Their state lies in plain dicts under the same
names, and is zero (for Adagrad, `initial_accumulator`) where a name is first seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Optimizer(Protocol):
    """Anything that moves parameters along their gradients."""

    def update(self, parameters: Mapping[str, Array], gradients: Mapping[str, Array]) -> None: ...


@dataclass
class Adam:
    """Adam, without weight decay. At update n = 1, 2, … with gradient g:

        m <- beta1·m + (1 - beta1)·g              m̂ = m/(1 - beta1^n)
        s <- beta2·s + (1 - beta2)·g²             ŝ = s/(1 - beta2^n)
        p <- p - lr·m̂/(sqrt(ŝ) + eps)

    Source: Kingma, Ba, "Adam" (2015), algorithm 1; eps as there, outside the root.
    """

    lr: float
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    updates: int = field(default=0, init=False)
    first_moment: dict[str, Array] = field(default_factory=dict, init=False)
    second_moment: dict[str, Array] = field(default_factory=dict, init=False)

    def update(self, parameters: Mapping[str, Array], gradients: Mapping[str, Array]) -> None:
        """One step for every parameter. Raises ValueError where names or shapes differ."""
        _require_matching(parameters, gradients)
        self.updates += 1
        for name, p in parameters.items():
            g = gradients[name]
            m = self.beta1 * self.first_moment.get(name, 0.0) + (1 - self.beta1) * g
            s = self.beta2 * self.second_moment.get(name, 0.0) + (1 - self.beta2) * g**2
            self.first_moment[name], self.second_moment[name] = m, s
            m_hat = m / (1 - self.beta1**self.updates)
            s_hat = s / (1 - self.beta2**self.updates)
            p -= self.lr * m_hat / (np.sqrt(s_hat) + self.eps)


@dataclass
class Adagrad:
    """Adagrad, without decay of the learning rate. With gradient g:

        s <- s + g²                               s = initial_accumulator at the start
        p <- p - lr·g/(sqrt(s) + eps)

    Source: Duchi, Hazan, Singer, "Adaptive subgradient methods" (2011), figure 1, diagonal.
    """

    lr: float
    eps: float = 1e-10
    initial_accumulator: float = 0.0
    accumulator: dict[str, Array] = field(default_factory=dict, init=False)

    def update(self, parameters: Mapping[str, Array], gradients: Mapping[str, Array]) -> None:
        """One step for every parameter. Raises ValueError where names or shapes differ."""
        _require_matching(parameters, gradients)
        for name, p in parameters.items():
            g = gradients[name]
            s = self.accumulator.get(name, self.initial_accumulator) + g**2
            self.accumulator[name] = s
            p -= self.lr * g / (np.sqrt(s) + self.eps)


def _require_matching(parameters: Mapping[str, Array], gradients: Mapping[str, Array]) -> None:
    if parameters.keys() != gradients.keys():
        odd = sorted(parameters.keys() ^ gradients.keys())
        raise ValueError(f"every parameter needs one gradient of its name; unpaired: {odd}")
    for name, p in parameters.items():
        if p.shape != gradients[name].shape:
            raise ValueError(
                f"the gradient of {name} must be {p.shape}, got {gradients[name].shape}"
            )
