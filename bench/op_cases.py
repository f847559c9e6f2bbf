"""The ops as cases to time: ours, the lines that re-implementations write, and what is exact.

Eager PyTorch gets what it needs in the form in which it is quickest: images as floats, sums over
the whole batch where ours gives one a sample. Ours gets what the library gives it: on a GPU bytes,
on a CPU the floats that the encoder had, and the noise of a block of steps at a time, whose drawing
is part of what is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import log, pi
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from betavae_core.bench.agreement import agree, standard_normal
from betavae_core.feed import Noise
from betavae_core.ops import bernoulli_nll, gaussian_nll, philox, reparam_kl
from betavae_core.ops.backend import choose

Tensors = tuple[Tensor, ...]

LEVELS = 255
SIGMA = 0.1
_TOLERANCE = 1e-4  # of the rms: float32 sums of thousands of terms, and no error of 0.1 %


@dataclass(frozen=True)
class Case:
    """One op at one shape.

    leaves    the inputs that get a gradient
    ours      one call of our op; `calls` of them draw noise once
    eager     the same of the tensors in `inputs`, in plain PyTorch
    upstream  the gradients of the outputs, for ours and for eager
    nbytes    what any implementation must at least move, forward and backward
    check     (outputs, gradients of the leaves): raises WrongResultError unless both are exact
    """

    op: str
    shape: tuple[int, int]
    leaves: Tensors
    ours: Callable[[], Tensors]
    eager: Callable[..., Tensors]
    inputs: Tensors
    upstream: dict[str, Tensors]
    nbytes: dict[str, int]
    check: Callable[[Tensors, Tensors], None]
    calls: int = 1


class Supply:
    """The argument of `reparam_kl` that is noise, step by step, as training gives it."""

    def __init__(self, rows: int, latents: int, device: str) -> None:
        fused = choose("auto", torch.empty(0, device=device)) != "torch"
        self._noise = None if fused else Noise(0, rows, latents, torch.device(device))
        self._key, self._step = philox.make_key(0, device=device), 0
        self.calls = self._noise.steps if self._noise else 1

    def next(self) -> dict[str, Any]:
        """key= of the step for the kernel to draw from, or eps= from what is at hand."""
        if not self._noise:
            return {"key": self._key}
        self._noise.prepare(self._step)
        row = self._step % self._noise.steps
        self._step += 1
        return {"eps": self._noise.eps[row].clone()}  # which the next draw leaves alone


def reparam_kl_case(B: int, D: int, device: str) -> Case:
    """z and its KL, from posteriors (B, D) near the prior."""
    generator = torch.Generator(device).manual_seed(0)
    mu, logvar, dz = (_normal(generator, B, D) for _ in range(3))
    upstream = dz, _normal(generator, B), _normal(generator, D)
    leaves = mu.requires_grad_(), logvar.requires_grad_()
    noise = Supply(B, D, device)

    def check(outputs: Tensors, gradients: Tensors) -> None:
        check_reparam_kl(leaves, upstream, outputs, gradients)

    sums = 4 * (B + D)
    return Case(
        "reparam_kl",
        (B, D),
        leaves,
        lambda: tuple(reparam_kl(mu, logvar, **noise.next())),
        eager_reparam_kl,
        leaves,
        {"ours": upstream, "eager": upstream},
        {"forward": 3 * 4 * B * D + sums, "backward": 5 * 4 * B * D + sums},
        check,
        noise.calls,
    )


def eager_reparam_kl(mu: Tensor, logvar: Tensor) -> Tensors:
    """Sampling and KL as re-implementations write them, with the same three results as ours."""
    std = torch.exp(0.5 * logvar)
    eps = torch.randn_like(std)
    z = mu + eps * std
    kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp())
    return z, kl.sum(1), kl.mean(0)


@torch.no_grad()
def check_reparam_kl(
    leaves: Tensors, upstream: Tensors, outputs: Tensors, gradients: Tensors
) -> None:
    """The KLs and the gradients in float64, for the noise that `z` shows was drawn."""
    m, v = (t.double() for t in leaves)
    dz, ds, dl = (t.double() for t in upstream)
    z, kl_per_sample, kl_per_latent = outputs
    sigma, w = (0.5 * v).exp(), ds[:, None] + dl / len(m)
    eps = (z.double() - m) / sigma
    kl = 0.5 * (m * m + v.exp() - 1 - v)
    standard_normal("the noise of reparam_kl", eps)
    agree("kl_per_sample", kl_per_sample, kl.sum(1), _TOLERANCE)
    agree("kl_per_latent", kl_per_latent, kl.mean(0), _TOLERANCE)
    agree("dmu", gradients[0], dz + w * m, _TOLERANCE)
    slope = dz * eps * sigma / 2 + w * (v.exp() - 1) / 2
    agree("dlogvar", gradients[1], slope, _TOLERANCE)


def bernoulli_nll_case(B: int, P: int, device: str) -> Case:
    """Cross-entropy of byte images (B, P)."""

    def exact(logits: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        nll = logits.clamp(min=0) - logits * t + torch.log1p(torch.exp(-logits.abs()))
        return nll, logits.sigmoid() - t

    return _pixel_case(
        "bernoulli_nll",
        (B, P),
        device,
        bernoulli_nll,
        eager_bernoulli_nll,
        exact,
    )


def eager_bernoulli_nll(logits: Tensor, x: Tensor) -> Tensors:
    """The sum over pixels and batch, as re-implementations write it."""
    return (F.binary_cross_entropy_with_logits(logits, x, reduction="sum"),)


def gaussian_nll_case(B: int, P: int, device: str) -> Case:
    """Squared error of byte images (B, P) under a fixed σ."""

    def exact(logits: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        m = logits.sigmoid()
        return 0.5 * ((m - t) / SIGMA) ** 2, (m - t) / SIGMA**2 * m * (1 - m)

    return _pixel_case(
        "gaussian_nll",
        (B, P),
        device,
        partial(gaussian_nll, sigma=SIGMA),
        eager_gaussian_nll,
        exact,
        constant=log(SIGMA) + 0.5 * log(2 * pi),
    )


def eager_gaussian_nll(logits: Tensor, x: Tensor) -> Tensors:
    """The sum over pixels and batch without its constants, as re-implementations write it."""
    return (F.mse_loss(torch.sigmoid(logits), x, reduction="sum") / (2 * SIGMA**2),)


def _pixel_case(
    op: str,
    shape: tuple[int, int],
    device: str,
    ours: Callable[..., Tensor],
    eager: Callable[..., Tensors],
    exact: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    constant: float = 0.0,
) -> Case:
    """A likelihood of `shape` (B, P), whose mean over the batch is what gradients are of.

    `exact` gives nll and its slope a pixel in float64; `constant` is what ours adds a pixel.
    """
    B, P = shape
    generator = torch.Generator(device).manual_seed(0)
    logits = (2 * _normal(generator, *shape)).requires_grad_()
    x = torch.randint(LEVELS + 1, shape, dtype=torch.uint8, generator=generator, device=device)
    mean = torch.full((B,), 1 / B, device=device)
    floats = x.float() / LEVELS
    targets, levels = (x, LEVELS) if device == "cuda" else (floats, 1)
    size = targets.element_size()

    @torch.no_grad()
    def check(outputs: Tensors, gradients: Tensors) -> None:
        nll, slope = exact(logits.double(), x.double() / LEVELS)
        per_sample = outputs[0].ndim == 1
        total = nll.sum(1) + P * constant if per_sample else nll.sum()
        agree(op, outputs[0], total, _TOLERANCE)
        agree(f"dlogits of {op}", gradients[0], slope / B, _TOLERANCE)

    return Case(
        op,
        shape,
        (logits,),
        lambda: (ours(logits, targets, levels=levels),),
        eager,
        (logits, floats),
        {"ours": (mean,), "eager": (mean[0],)},
        {"forward": (4 + size) * B * P + 4 * B, "backward": (8 + size) * B * P + 4 * B},
        check,
    )


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, device=generator.device)


CASES: dict[str, Callable[[int, int, str], Case]] = {
    "reparam_kl": reparam_kl_case,
    "bernoulli_nll": bernoulli_nll_case,
    "gaussian_nll": gaussian_nll_case,
}


def gradients(case: Case, name: str, outputs: Tensors, **settings: Any) -> Tensors:
    """The gradients of the leaves, from the `outputs` of ours or of the eager lines."""
    upstream = case.upstream["ours" if name == "ours" else "eager"]
    return torch.autograd.grad(outputs, case.leaves, upstream, **settings)
