"""What the tests of the ops share: one rule of accuracy, layouts for opcheck, a loss for each op.

The rule: an op computes in float32 (float64 for float64) and rounds its result once to the dtype
of the tensor. An element of it may differ from the float64 oracle by

    twice what the formula loses, written down naively in eager PyTorch in the same dtype,
    one rounding of the result                      ROUNDING[dtype] · |exact| + SMALLEST[dtype]
    STEPS roundings of the terms it adds up         STEPS · ROUNDING[computation] · terms

where `terms` is the sum of the magnitudes of those terms. The floors are needed because the naive
formula is exact by luck in many an element, and more than once in a row. STEPS is 8 where nothing
is summed: an exponential is good to 2 roundings and feeds a difference; a sum adds its own. The
kernels in C flush what is subnormal to 0 (`flushed`, as in kernel_cases.py).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from kernel_cases import laid_out, wide
from numpy.typing import ArrayLike
from torch import Tensor

from betavae_core.ops import bernoulli_nll, gaussian_nll, philox, reparam_kl

STEPS = 8
ROUNDING = {
    torch.float64: 2.0**-53,
    torch.float32: 2.0**-24,
    torch.bfloat16: 2.0**-8,
    torch.float16: 2.0**-11,
}
SMALLEST = {
    torch.float64: 2.0**-1074,
    torch.float32: 2.0**-149,
    torch.bfloat16: 2.0**-133,
    torch.float16: 2.0**-24,
}
# gradcheck's own tolerance, 1e-3, would forgive a gradient that is a thousandth wrong.
STRICT = {"rtol": 1e-6, "atol": 1e-8}
CHECKED_LAYOUTS = ("contiguous", "transposed", "sliced", "half", "rows expanded")


def assert_no_worse(
    name: str,
    got: Tensor,
    naive: Tensor,
    exact: ArrayLike,
    terms: ArrayLike,
    computation: torch.dtype,
    flushed: float = 0.0,
) -> None:
    """Fails where `got` is further from `exact` than the rule allows; NaN and ∞ must agree."""
    value, exact = wide(got), np.asarray(exact, dtype=np.float64)
    assert value.shape == exact.shape, f"{name}: {value.shape} is not {exact.shape}"
    finite = np.isfinite(exact)
    np.testing.assert_array_equal(value[~finite], exact[~finite], err_msg=name)
    largest = torch.finfo(got.dtype).max  # what is more is infinite in this dtype, and rightly so
    value, exact = value[finite].clip(-largest, largest), exact[finite].clip(-largest, largest)
    loss = wide(naive)[finite]
    lost = np.nan_to_num(np.abs(loss - exact), nan=0.0, posinf=0.0)  # it may not be an excuse
    terms = np.broadcast_to(np.asarray(terms, dtype=np.float64), finite.shape)[finite]
    bound = ROUNDING[got.dtype] * np.abs(exact) + SMALLEST[got.dtype]
    bound += 2 * lost + STEPS * ROUNDING[computation] * terms + flushed
    excess = np.abs(value - exact) / bound
    assert (excess <= 1).all(), f"{name}: {excess.max():.3g} times what is allowed"


def sample(shape: tuple[int, int], dtype: torch.dtype, layout: str, seed: int = 0) -> Tensor:
    """Standard normals of a shape, a dtype and a layout in memory."""
    return laid_out(np.random.default_rng(seed).normal(size=shape), dtype, layout)


def halves(shape: tuple[int, int], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The two halves of one tensor, as an encoder's means and log-variances come."""
    B, D = shape
    first, second = sample((B, 2 * D), dtype, "contiguous").chunk(2, dim=1)
    return first, second


def with_gradient(tensor: Tensor) -> Tensor:
    """The same memory layout, as a leaf that wants a gradient."""
    return tensor.detach().requires_grad_()


_KEY = philox.make_key(5, 7)
_BYTES = torch.arange(0, 240, 3).byte().reshape(5, 16)
Loss = Callable[..., Tensor]


def posterior_loss(h: Tensor, backend: str = "auto") -> Tensor:
    """Something that depends on every output of reparam_kl, for h (B, 2D)."""
    mu, logvar = h.chunk(2, dim=1)
    z, per_sample, per_latent = reparam_kl(mu, logvar, _KEY, first_sample=3, backend=backend)
    return (z.to(per_sample.dtype) ** 2).sum() + (per_sample**2).sum() + per_latent.exp().sum()


def bernoulli_loss(logits: Tensor, backend: str = "auto") -> Tensor:
    return (bernoulli_nll(logits, _BYTES, 255, backend=backend) ** 2).sum()


def gaussian_loss(logits: Tensor, backend: str = "auto") -> Tensor:
    return (gaussian_nll(logits, _BYTES, 255, 0.3, backend=backend) ** 2).sum()


LOSSES = {
    "reparam_kl": posterior_loss,
    "bernoulli_nll": bernoulli_loss,
    "gaussian_nll": gaussian_loss,
}
each_op = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
