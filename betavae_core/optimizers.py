"""What turns gradients into weights: Adam by PyTorch's fused kernel, or PyTorch's Adagrad.

`torch.optim.Adam` calls the same kernel, but its first step imports PyTorch's compiler, which takes
longer than everything else before that step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from betavae_core.kernels.c import adam as kernels

_SETTINGS = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}


class Adam:
    """Adam with bias correction, with the state and the interface of `torch.optim.Adam`.

    Nothing in a step needs the host, so that a CUDA graph can hold it.

    Args:
        copies: of some float32 parameters on a CPU, copies in bfloat16 (see `mixed_precision`).
            The copies have the gradients, and each step writes both by the kernel in C.

    Source: Kingma, Ba 2015, algorithm 1, with its default β1 = 0.9, β2 = 0.999, ε = 1e-8.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        copies: Mapping[nn.Parameter, nn.Parameter] | None = None,
    ) -> None:
        self.parameters, self.copies = list(parameters), dict(copies or {})
        self.param_groups = [{"lr": lr}]
        self.state = {index: _start(p) for index, p in enumerate(self.parameters)}

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients (or fill them with zeros)."""
        for parameter in (*self.parameters, *self.copies.values()):
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.zero_()

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        alone, copied = [], []
        for p, (step, mean, square) in zip(self.parameters, self._moments(), strict=True):
            copy = self.copies.get(p)
            if copy is None and p.grad is not None:
                alone.append((p, p.grad, mean, square, step))
            elif copy is not None and copy.grad is not None:
                copied.append((p, mean, square, copy, copy.grad, step))
        if steps := [row[-1] for row in alone + copied]:
            torch._foreach_add_(steps, 1)
        settings: dict[str, Any] = {"lr": self.param_groups[0]["lr"], **_SETTINGS}
        if alone:
            parameters, gradients, means, squares, steps = map(list, zip(*alone, strict=True))
            torch._fused_adam_(
                parameters, gradients, means, squares, [], steps,
                weight_decay=0.0, amsgrad=False, maximize=False, **settings,
            )  # fmt: skip
        if copied:
            kernels.adam(*zip(*copied, strict=True), **settings)

    def _moments(self) -> Iterable[Iterable[Tensor]]:
        return (state.values() for state in self.state.values())

    def state_dict(self) -> dict[str, Any]:
        """The moments, by the parameter's place."""
        return {"state": self.state, "param_groups": self.param_groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the moments of a `state_dict`, which are copied."""
        for index, state in state_dict["state"].items():
            for name, tensor in state.items():
                self.state[index][name].copy_(tensor)


def _start(parameter: nn.Parameter) -> dict[str, Tensor]:
    """A parameter's state before the first step, in the order of `Adam.step`."""
    return {
        "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
        "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format).detach(),
        "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format).detach(),
    }


Optimizer = Adam | torch.optim.Optimizer


def make_optimizer(
    name: str,
    parameters: Iterable[nn.Parameter],
    lr: float,
    copies: Mapping[nn.Parameter, nn.Parameter] | None = None,
) -> Optimizer:
    """`adam` (with `copies`) or `adagrad`, in its fused form where PyTorch has one."""
    if name == "adam":
        return Adam(parameters, lr, copies)
    parameters = list(parameters)
    return torch.optim.Adagrad(parameters, lr=lr, fused=parameters[0].device.type == "cpu")
