"""What the likelihoods share: a sum over pixels a sample, its gradient and its registration.

A likelihood is `nll[b] = Σ_p f(logits[b, p], x[b, p] / levels)` with parameters (levels, …). Its
file says what f is; this one makes of it an op with a gradient, on every backend.

The gradient is computed anew in the backward pass and not stored by the forward one: with float32
logits and uint8 targets that moves 5 + 9 = 14 bytes a pixel, where storing it unscaled moves
9 + 8 = 17, because the upstream gradient comes only later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from betavae_core.ops.backend import choose
from betavae_core.ops.fused import FusedOp, apply

Formula = Callable[..., Tensor]


def targets(x: Tensor, levels: float, logits: Tensor) -> Tensor:
    """x / levels in the dtype of the computation on `logits`."""
    t = x.to(torch.promote_types(logits.dtype, torch.float32))
    return t if levels == 1 else t / levels


def wide(logits: Tensor) -> Tensor:
    """The logits in the dtype of the computation: float32, or float64 for float64."""
    return logits if logits.dtype == torch.float64 else logits.float()


def bounded(logits: Tensor) -> Tensor:
    """The same, bounded to finite numbers, so that ∞ · 0 is zero where a target is 0; NaN stays."""
    logits = wide(logits)
    limit = torch.finfo(logits.dtype).max
    return logits.clamp(-limit, limit)


class PixelLikelihood:
    """The op `betavae::<name>` from its formula and gradient in plain PyTorch.

    Args:
        forward: (logits, t, *parameters) -> nll (B,), with targets t in [0, 1].
        backward: (logits, t, *parameters, dnll) -> dlogits (B, P), of any dtype and layout.
    """

    def __init__(self, name: str, parameters: str, forward: Formula, backward: Formula) -> None:
        arguments = f"Tensor logits, Tensor x, int levels{parameters}"
        self.forward = forward
        self.backward = lambda logits, *args: _as(logits, backward(logits, *args))
        self.fused_forward = FusedOp(
            name,
            f"{name}_fwd",
            f"({arguments}) -> Tensor",
            lambda logits, x, levels, *p: forward(logits, targets(x, levels, logits), *p),
            lambda logits, *_: logits.new_empty(
                len(logits), dtype=torch.promote_types(logits.dtype, torch.float32)
            ),
        )
        self.fused_backward = FusedOp(
            name,
            f"{name}_bwd",
            f"({arguments}, Tensor dnll) -> Tensor",
            lambda logits, x, levels, *p: self.backward(logits, targets(x, levels, logits), *p),
            lambda logits, *_: logits.new_empty(logits.shape),
        )
        self.fused_forward.op.register_autograd(self._op_backward, setup_context=_save)

    def _op_backward(self, ctx: Any, dnll: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of the registered op itself, for those who call it as torch.ops.betavae."""
        dlogits = self.fused_backward.op(*ctx.saved_tensors, *ctx.parameters, dnll)
        return dlogits, *[None] * (1 + len(ctx.parameters))

    def __call__(
        self, logits: Tensor, x: Tensor, backend: str, levels: int, *parameters: float
    ) -> Tensor:
        """nll (B,) of `x` under `logits`, both (B, ...) of one shape."""
        if logits.shape != x.shape or logits.ndim < 2:
            raise ValueError(
                "logits and x must have one shape (B, ...), "
                f"got {tuple(logits.shape)} and {tuple(x.shape)}"
            )
        logits, x = logits.flatten(1), x.flatten(1)
        chosen = choose(backend, logits)
        if chosen == "torch":
            t = targets(x, levels, logits)
            return apply(_Likelihood, logits, t, self.forward, self.backward, *parameters)
        run, reverse = self.fused_forward.on(chosen), self.fused_backward.on(chosen)
        return apply(_Likelihood, logits, x, run, reverse, levels, *parameters)


def _as(logits: Tensor, gradient: Tensor) -> Tensor:
    if gradient.dtype != logits.dtype:
        gradient = gradient.to(logits.dtype)
    return gradient.contiguous()


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    logits, x, *ctx.parameters = inputs
    ctx.save_for_backward(logits, x)


class _Likelihood(torch.autograd.Function):
    """`run` and its gradient `reverse`, of (logits, x or t, *parameters)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        logits: Tensor, x: Tensor, run: Formula, reverse: Formula, *parameters: float
    ) -> Tensor:
        return run(logits, x, *parameters)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        logits, x, _, ctx.reverse, *parameters = inputs
        _save(ctx, (logits, x, *parameters), output)

    @staticmethod
    def backward(ctx: Any, dnll: Tensor) -> tuple[Tensor | None, ...]:
        logits, x = ctx.saved_tensors
        dlogits = ctx.reverse(logits, x, *ctx.parameters, dnll)
        return dlogits, *[None] * (3 + len(ctx.parameters))
