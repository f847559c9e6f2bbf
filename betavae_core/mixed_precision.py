"""Weights in bfloat16 to compute with, beside the float32 ones that are trained.

Autocast casts every weight at each step and every gradient back: on a CPU a large layer moves more
memory so than by its arithmetic, and on a GPU that is a third of a small model's launches. Here the
optimizer reads the gradients as they come and writes both (`optimizers.Optimizer`). The values are
autocast's. Source: Micikevicius et al. 2018, section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from betavae_core.layers import Conv2d, ConvTranspose2d, Linear

# Convolutions of a CPU read float32, or cast little.
_CAST = {"cpu": (Linear,), "cuda": (Linear, Conv2d, ConvTranspose2d)}

Copies = dict[nn.Parameter, nn.Parameter]


class WorkingWeights:
    """The bfloat16 copies of the weights and biases of `layers`.

    Outside `in_use` the layers do not know of them.
    """

    def __init__(self, layers: Iterable[nn.Module]) -> None:
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


def cast_layers(model: nn.Module, device: str) -> list[nn.Module]:
    """The layers of a model that gain by copies on that device."""
    return [module for module in model.modules() if type(module) in _CAST.get(device, ())]


def _copy(parameter: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(parameter.detach().to(torch.bfloat16))
