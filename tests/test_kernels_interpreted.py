"""The kernels give what the oracle gives: hundreds of random cases an op, interpreted and in C.

Each case draws a shape, dtypes, the layout of every tensor and values with extremes among them,
and compares the forward and the backward pass with the float64 oracle by the one rule of
kernel_cases.py. Outputs start as NaN, so what a kernel leaves unwritten fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from kernel_cases import DTYPES, LAYOUTS, assert_matches, laid_out, poisoned_outputs, wide
from numpy.typing import NDArray
from promises import tried

from betavae_core.reference import bernoulli_nll, gaussian_nll, philox, reparam_kl
from betavae_core.reference.bernoulli_nll import sigmoid

Array = NDArray[np.float64]

RANDOM_CASES = settings(
    max_examples=300,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
BATCHES = st.sampled_from([0, 1, 2, 3, 7, 16, 17, 31, 64, 100, 129])
LATENTS = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 10, 13, 16, 20, 31, 32, 33, 61, 64, 100, 128, 257])
PIXELS = st.sampled_from([1, 2, 3, 7, 16, 31, 64, 97, 128, 257, 784, 1021, 1024])
LAYOUT = st.sampled_from(LAYOUTS)
SEED = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True, scope="module")
def outputs_start_as_nan() -> Iterator[None]:
    with poisoned_outputs():
        assert torch.empty(2, dtype=torch.float16).isnan().all()
        yield


def logvars(rng: np.random.Generator, shape: tuple[int, int], largest: float) -> Array:
    """Mostly near the prior, some up to the bounds, some far beyond them."""
    near = rng.normal(0, 1, shape)
    wide_range = rng.uniform(-30, largest, shape)
    extremes = rng.choice([-np.inf, -1e4, -31, -30, -1, -1e-3, 0, 1, 18.01, 1e4, np.inf], shape)
    return np.choose(rng.choice(3, shape, p=[0.6, 0.3, 0.1]), [near, wide_range, extremes])


def upstream(rng: np.random.Generator, size: int, expanded: bool) -> torch.Tensor:
    """A gradient (size,) as autograd hands it over: often one number, expanded."""
    values = torch.from_numpy(rng.normal(size=size)).float()
    return values[:1].expand(size) if expanded and size else values


@pytest.mark.promise("parity-kernels")
@RANDOM_CASES
@given(BATCHES, LATENTS, st.sampled_from(DTYPES), LAYOUT, LAYOUT, LAYOUT, st.booleans(), SEED)
@example(1, 4096, torch.float32, "contiguous", "contiguous", "contiguous", True, 0)
@example(33, 4096, torch.bfloat16, "half", "half", "contiguous", False, 1)
@example(2051, 1, torch.float32, "half", "transposed", "contiguous", True, 2)
@example(272, 130, torch.float32, "half", "half", "rows expanded", False, 4)  # 17 partial sums
@example(1030, 11, torch.float16, "contiguous", "sliced", "transposed", False, 3)
def test_reparam_kl_is_the_oracle(
    kernels: SimpleNamespace,
    B: int,
    D: int,
    dtype: torch.dtype,
    mu_as: str,
    logvar_as: str,
    dz_as: str,
    even: bool,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    largest = 11.0 if dtype == torch.float16 else 18.0  # its gradient e^18/2 is not a float16
    mu = laid_out(rng.normal(0, 2, (B, D)), dtype, mu_as)
    logvar = laid_out(logvars(rng, (B, D), largest), dtype, logvar_as)
    dz = laid_out(rng.normal(size=(B, D)), dtype, dz_as)
    ds, dl = upstream(rng, B, even), upstream(rng, D, even)
    step, first, stream = int(rng.integers(2**40)), int(rng.integers(2**31)), int(rng.integers(5))
    key = torch.tensor([seed - 2**31, step])

    got = kernels.reparam_kl_fwd(mu, logvar, key, first, stream)
    dmu, dlogvar = kernels.reparam_kl_bwd(mu, logvar, key, first, stream, dz, ds, dl)

    eps = philox.normal(seed - 2**31, step, first + np.arange(max(B, 1)), D, stream)[:B]
    inputs = wide(mu), wide(logvar), eps
    exact = reparam_kl.reparam_kl(*inputs)
    gradients = reparam_kl.reparam_kl_backward(*inputs, wide(dz), wide(ds), wide(dl))
    bounded = np.clip(wide(logvar), reparam_kl.LOGVAR_MIN, reparam_kl.LOGVAR_MAX)
    sigma, inside = np.exp(bounded / 2), bounded == wide(logvar)
    weight = np.abs(wide(ds))[:, None] + np.abs(wide(dl)) / max(B, 1)
    slope = np.abs(wide(dz)) * sigma / 2
    assert_matches("z", got[0], exact.z, np.abs(wide(mu)) + np.abs(sigma * eps), sigma)
    assert_matches("kl_per_sample", got[1], exact.kl_per_sample, exact.kl_per_sample)
    assert_matches("kl_per_latent", got[2], exact.kl_per_latent, exact.kl_per_latent)
    assert_matches("dmu", dmu, gradients[0], np.abs(wide(dz)) + weight * np.abs(wide(mu)))
    terms = slope * np.abs(eps) + weight * np.abs(np.expm1(bounded)) / 2
    assert_matches("dlogvar", dlogvar, gradients[1], inside * terms, inside * slope)
    assert [t.dtype for t in (*got, dmu, dlogvar)] == [dtype, ds.dtype, dl.dtype, dtype, dtype]
    assert all(t.is_contiguous() for t in (*got, dmu, dlogvar))
    tried()


@st.composite
def images(draw: Any) -> tuple[torch.Tensor, torch.Tensor, int, torch.Tensor]:
    """(logits, x, levels, dnll) of any shape, dtypes, layouts and values, finite and not."""
    B, P = draw(BATCHES), draw(PIXELS)
    return pixel_case(
        B, P, draw(st.sampled_from(DTYPES)), draw(LAYOUT), draw(LAYOUT),
        draw(st.sampled_from([(torch.uint8, 1), (torch.uint8, 255), *((d, 1) for d in DTYPES)])),
        draw(st.booleans()), draw(SEED),
    )  # fmt: skip


def pixel_case(
    B: int, P: int, dtype: torch.dtype, logits_as: str, x_as: str,
    target: tuple[torch.dtype, int], even: bool, seed: int,
) -> tuple[torch.Tensor, torch.Tensor, int, torch.Tensor]:  # fmt: skip
    rng = np.random.default_rng(seed)
    x_dtype, levels = target
    grey = (
        rng.uniform(size=(B, P))
        if x_dtype != torch.uint8
        else rng.integers(levels + 1, size=(B, P))
    )
    black_or_white = rng.choice([0, levels], (B, P))
    x = np.where(rng.uniform(size=(B, P)) < 0.5, black_or_white, grey).astype(np.float64)
    extremes = rng.choice([-np.inf, -1e4, -88, -17, 0, 17, 88, 1e4, np.inf], (B, P))
    logits = np.where(rng.uniform(size=(B, P)) < 0.05, extremes, rng.normal(0, 4, (B, P)))
    # An infinite logit is certain, and infinitely wrong unless the pixel agrees; most should.
    certain = np.isinf(logits) & (rng.uniform(size=(B, 1)) < 0.8)
    x = np.where(certain, np.where(logits > 0, levels, 0), x)
    return (
        laid_out(logits, dtype, logits_as),
        laid_out(x, x_dtype, x_as),
        levels,
        upstream(rng, B, even),
    )


LARGE_IMAGES = (
    pixel_case(3, 12288, torch.float32, "contiguous", "contiguous", (torch.uint8, 255), True, 0),
    pixel_case(5, 4099, torch.bfloat16, "transposed", "sliced", (torch.uint8, 1), False, 1),
    pixel_case(4500, 1, torch.float16, "half", "contiguous", (torch.uint8, 255), False, 2),
)


def certainty(logits: torch.Tensor, x: torch.Tensor, levels: int) -> tuple[Array, Array, Array]:
    """(sigmoid(l) - t, the sum of the magnitudes of its terms, sigmoid(l)(1 - sigmoid(l)))."""
    t, m, complement = wide(x) / levels, sigmoid(wide(logits)), sigmoid(-wide(logits))
    return m - t, m * (1 - t) + t * complement, m * complement


@pytest.mark.promise("parity-kernels")
@RANDOM_CASES
@given(images())
@example(LARGE_IMAGES[0])
@example(LARGE_IMAGES[1])
@example(LARGE_IMAGES[2])
def test_bernoulli_nll_is_the_oracle(
    kernels: SimpleNamespace,
    case: tuple[torch.Tensor, torch.Tensor, int, torch.Tensor],
) -> None:
    logits, x, levels, dnll = case
    nll = kernels.bernoulli_nll_fwd(logits, x, levels)
    dlogits = kernels.bernoulli_nll_bwd(logits, x, levels, dnll)

    exact = bernoulli_nll.bernoulli_nll(wide(logits), wide(x), levels)
    gradient = bernoulli_nll.bernoulli_nll_backward(wide(logits), wide(x), levels, wide(dnll))
    _, terms, _ = certainty(logits, x, levels)
    assert_matches("nll", nll, exact, exact, flushed=kernels.flushed)
    bound = np.abs(wide(dnll))[:, None] * terms
    assert_matches("dlogits", dlogits, gradient, bound, flushed=kernels.flushed)
    assert (nll.dtype, dlogits.dtype) == (torch.float32, logits.dtype)
    assert dlogits.is_contiguous()
    tried()


@pytest.mark.promise("parity-kernels")
@RANDOM_CASES
@given(images(), st.sampled_from([0.01, 0.1, 0.5, 1.0, 7.0]))
@example(LARGE_IMAGES[0], 0.1)
@example(LARGE_IMAGES[1], 1.0)
@example(LARGE_IMAGES[2], 0.5)
def test_gaussian_nll_is_the_oracle(
    kernels: SimpleNamespace,
    case: tuple[torch.Tensor, torch.Tensor, int, torch.Tensor],
    sigma: float,
) -> None:
    logits, x, levels, dnll = case
    nll = kernels.gaussian_nll_fwd(logits, x, levels, sigma)
    dlogits = kernels.gaussian_nll_bwd(logits, x, levels, sigma, dnll)

    exact = gaussian_nll.gaussian_nll(wide(logits), wide(x), levels, sigma)
    gradient = gaussian_nll.gaussian_nll_backward(wide(logits), wide(x), levels, sigma, wide(dnll))
    r, terms, slope = certainty(logits, x, levels)
    constant = logits.shape[1] * np.abs(np.log(sigma) + np.log(2 * np.pi) / 2)
    bound = (terms * np.abs(r)).sum(1) / sigma**2 + constant
    assert_matches("nll", nll, exact, bound, flushed=kernels.flushed)
    bound = np.abs(wide(dnll))[:, None] * terms * slope / sigma**2
    assert_matches("dlogits", dlogits, gradient, bound, flushed=kernels.flushed)
    assert (nll.dtype, dlogits.dtype) == (torch.float32, logits.dtype)
    assert dlogits.is_contiguous()
    tried()
