"""Weights in bfloat16 to compute with, beside the float32 ones that are trained.

Autocast casts every weight at each step and every gradient back, which for linear layers moves
more memory than their arithmetic does. Here the optimizer reads the gradient as it comes and writes
both (kernels/c/adam.c). The values are autocast's. Source: Micikevicius et al. 2018, section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

Copies = dict[nn.Parameter, nn.Parameter]


class WorkingWeights:
    """The bfloat16 copies of the weights and biases of those modules that are linear layers.

    Outside `in_use` the modules do not know of them.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        layers = [module for module in modules if type(module) is nn.Linear]
        owned = [(layer, name, p) for layer in layers for name, p in layer.named_parameters()]
        self.copies: Copies = {p: _copy(p) for _, _, p in owned}
        self._places = [(layer._parameters, name, p) for layer, name, p in owned]

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """The copies in the place of the parameters: gradients then reach the copies."""
        for parameters, name, parameter in self._places:
            parameters[name] = self.copies[parameter]
        try:
            yield
        finally:
            for parameters, name, parameter in self._places:
                parameters[name] = parameter

    @torch.no_grad()
    def refresh(self) -> None:
        """Take the parameters' values, where something else than the optimizer changed them."""
        for parameter, copy in self.copies.items():
            copy.copy_(parameter)


def _copy(parameter: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(parameter.detach().to(torch.bfloat16))
