"""How weights follow their gradients: a step of Adam or Adagrad, by PyTorch's kernels.

In C, in one pass, where weights of a CPU have copies in bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from betavae_core.kernels.c import update as kernels
from betavae_core.ops.backend import choose


class Weights(NamedTuple):
    """What a step changes, except for `steps`, scalars that count it already."""

    weights: list[Tensor]
    moments: list[list[Tensor]]
    steps: list[Tensor]


class Rule(NamedTuple):
    """An update rule: what it remembers of each weight, and its step in PyTorch and in C."""

    moments: tuple[str, ...]  # tensors like the weight, zero at the start
    settings: dict[str, float]
    update: Callable[..., None]
    launch: Callable[..., None]


def adam(
    of: Weights, gradients: Sequence[Tensor], *, lr: float, beta1: float, beta2: float, eps: float
) -> None:
    """A step with bias correction (Kingma, Ba 2015, algorithm 1)."""
    means, squares = of.moments
    torch._fused_adam_(
        of.weights, [*gradients], means, squares, [], of.steps,
        lr=lr, beta1=beta1, beta2=beta2, eps=eps,
        weight_decay=0.0, amsgrad=False, maximize=False,
    )  # fmt: skip


def adagrad(of: Weights, gradients: Sequence[Tensor], *, lr: float, eps: float) -> None:
    """A step without decay of the learning rate (Duchi, Hazan, Singer 2011, figure 1).

    The fused kernel of most versions of PyTorch is for a CPU only.
    """
    (sums,) = of.moments
    if of.weights[0].is_cpu:
        torch._fused_adagrad_(
            of.weights, [*gradients], sums, of.steps,
            lr=lr, lr_decay=0.0, weight_decay=0.0, eps=eps, maximize=False,
        )  # fmt: skip
    else:
        adagrad_in_parts(of, gradients, lr=lr, eps=eps)


def adagrad_in_parts(of: Weights, gradients: Sequence[Tensor], *, lr: float, eps: float) -> None:
    """As `adagrad`, by operations on all weights at a time."""
    (sums,), gradients = of.moments, [*gradients]
    torch._foreach_addcmul_(sums, gradients, gradients)
    roots = torch._foreach_sqrt(sums)
    torch._foreach_add_(roots, eps)
    torch._foreach_addcdiv_(of.weights, gradients, roots, -lr)


_ADAM = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}  # the defaults of the paper
RULES = {
    "adam": Rule(("exp_avg", "exp_avg_sq"), _ADAM, adam, kernels.adam),
    "adagrad": Rule(("sum",), {"eps": 1e-10}, adagrad, kernels.adagrad),
}


def update(rule: Rule, of: Weights, gradients: Sequence[Tensor], lr: float) -> None:
    """Change weights and moments in place."""
    rule.update(of, gradients, lr=lr, **rule.settings)


def update_with_copies(
    rule: Rule,
    of: Weights,
    copies: Sequence[Tensor],
    gradients: Sequence[Tensor],
    lr: float,
    backend: str,
) -> None:
    """As `update`, from gradients in bfloat16; the copies become the weights rounded to it.

    On `torch` (and on a GPU) all gradients are cast in one call, and all weights in another.
    """
    if choose(backend, of.weights[0]) == "c":
        rule.launch(*of, copies, gradients, lr=lr, **rule.settings)
        return
    wide = [torch.empty_like(weight) for weight in of.weights]
    torch._foreach_copy_(wide, [*gradients])
    update(rule, of, wide, lr)
    torch._foreach_copy_([*copies], of.weights)
