"""What turns gradients into weights: Adam or Adagrad, in float32, whatever a step computes with.

`torch.optim` calls the same kernels, but its first step imports PyTorch's compiler, which takes
longer than everything else before that step.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from betavae_core.ops.update import RULES, Weights, update, update_with_copies


class Optimizer:
    """An update rule with the state and the interface of `torch.optim.Adam` and its like.

    Nothing in a step needs the host, so that a CUDA graph can hold it.

    Args:
        rule: `adam` or `adagrad`, as in `ops.update`.
        copies: of some parameters, copies in bfloat16 (see `mixed_precision`), which may have the
            gradients in their place. Each step writes them too.
        backend: `auto` or `c` does a CPU's copies in one pass (kernels/c/update.c).
    """

    def __init__(
        self,
        rule: str,
        parameters: Iterable[nn.Parameter],
        lr: float,
        copies: Mapping[nn.Parameter, nn.Parameter] | None = None,
        backend: str = "auto",
    ) -> None:
        self.rule, self.parameters, self.backend = RULES[rule], list(parameters), backend
        copies = copies or {}
        self.copies = {i: copies[p] for i, p in enumerate(self.parameters) if p in copies}
        self.param_groups = [{"lr": lr}]
        at = self.parameters[0].device if self.parameters else None
        self._steps = torch.zeros(len(self.parameters), dtype=torch.float32, device=at)
        started = zip(self.parameters, self._steps.unbind(), strict=True)
        self.state = {index: self._start(p, step) for index, (p, step) in enumerate(started)}

    def _start(self, parameter: nn.Parameter, step: Tensor) -> dict[str, Tensor]:
        """A parameter's state before the first step; a moment lies in memory as its weight does."""
        like = parameter.detach()
        return {"step": step, **{name: torch.zeros_like(like) for name in self.rule.moments}}

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients (or fill them with zeros)."""
        for leaf in (*self.parameters, *self.copies.values()):
            if set_to_none:
                leaf.grad = None
            elif leaf.grad is not None:
                leaf.grad.zero_()

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient, or whose copy has one."""
        own, of_copies = _gradients(enumerate(self.parameters)), _gradients(self.copies.items())
        moved = [*own, *of_copies]
        if not moved:
            return
        every = len(moved) == len(self.parameters)
        torch._foreach_add_([self._steps] if every else self._weights(moved).steps, 1)
        lr = self.param_groups[0]["lr"]
        if own:
            update(self.rule, self._weights(own), [*own.values()], lr)
            self._renew(self.copies.keys() & own)
        if of_copies:
            copies = [self.copies[i] for i in of_copies]
            weights, gradients = self._weights(of_copies), [*of_copies.values()]
            update_with_copies(self.rule, weights, copies, gradients, lr, self.backend)

    def _renew(self, copied: Collection[int]) -> None:
        """Round the weights of these to their copies."""
        if copied:
            copies: list[Tensor] = [self.copies[i] for i in copied]
            torch._foreach_copy_(copies, [self.parameters[i] for i in copied])

    def _weights(self, indices: Collection[int]) -> Weights:
        moments = [[self.state[i][name] for i in indices] for name in self.rule.moments]
        steps = [self.state[i]["step"] for i in indices]
        return Weights([self.parameters[i] for i in indices], moments, steps)

    def state_dict(self) -> dict[str, Any]:
        """The moments, by the parameter's place."""
        return {"state": self.state, "param_groups": self.param_groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the moments of a `state_dict`, which are copied."""
        for index, state in state_dict["state"].items():
            for name, tensor in state.items():
                self.state[index][name].copy_(tensor)


def _gradients(leaves: Iterable[tuple[int, nn.Parameter]]) -> dict[int, Tensor]:
    """The gradients of those that have one."""
    return {i: leaf.grad for i, leaf in leaves if leaf.grad is not None}
