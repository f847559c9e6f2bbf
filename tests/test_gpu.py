"""What only an NVIDIA GPU can show of the ops: compiled kernels and CUDA graphs.

The interpreter runs the same source elsewhere (test_kernels_interpreted.py). Here it is compiled:
vectorised, with the GPU's own logarithm and square root, and its order of sums.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from kernel_cases import assert_matches, laid_out, poisoned_outputs, wide
from torch import Tensor

from betavae_core.ops import bernoulli_nll, gaussian_nll, philox, reparam_kl
from betavae_core.reference import bernoulli_nll as bernoulli_oracle
from betavae_core.reference import gaussian_nll as gaussian_oracle
from betavae_core.reference import philox as philox_oracle
from betavae_core.reference import reparam_kl as reparam_oracle

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="needs an NVIDIA GPU that PyTorch can use"
    ),
]

GPU = "cuda"
F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16
SEED, STEP = 2**40 + 7, 3
LEVELS, SIGMA = 255, 0.1
REPEATS = 50

# Every dtype with every layout, and shapes around the edges of the tiles, not their product:
# each combination compiles kernels of its own.
LATENT_CASES = [
    (1, 1, F32, "contiguous"),
    (64, 10, F32, "half"),
    (129, 33, F32, "transposed"),
    (1030, 20, F32, "sliced"),
    (70, 257, F32, "rows expanded"),
    (5, 4096, F32, "columns expanded"),
    (4100, 32, BF16, "contiguous"),
    (100, 3, BF16, "half"),
    (33, 64, BF16, "transposed"),
    (257, 16, F16, "contiguous"),
    (31, 7, F16, "sliced"),
    (0, 5, F32, "contiguous"),
]
PIXEL_CASES = [
    (1, 1, F32, "contiguous", torch.uint8),
    (64, 4096, F32, "contiguous", torch.uint8),
    (128, 784, F32, "transposed", torch.uint8),
    (3, 12288, F32, "half", F32),
    (37, 1021, F32, "sliced", F16),
    (65, 784, BF16, "contiguous", torch.uint8),
    (9, 4099, BF16, "sliced", BF16),
    (300, 31, F16, "contiguous", torch.uint8),
    (0, 16, F32, "contiguous", torch.uint8),
]


def on_gpu(tensor: Tensor) -> Tensor:
    """The tensor on the GPU with its strides, and with what lies between its elements."""
    storage = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
    return storage.to(GPU).as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


def gradients(outputs: tuple[Tensor, ...], leaves: list[Tensor], upstream: Any) -> list[Tensor]:
    return list(torch.autograd.grad(outputs, leaves, upstream))


def latents(B: int, D: int, dtype: torch.dtype = F32, layout: str = "contiguous") -> list[Tensor]:
    """mu, logvar and dz (B, D), dkl_per_sample (B,) and dkl_per_latent (D,) on the GPU."""
    rng = np.random.default_rng(B + D)
    logvar = np.where(
        rng.random((B, D)) < 0.1, rng.uniform(-40, 10, (B, D)), rng.normal(size=(B, D))
    )
    tiles = rng.normal(0, 2, (B, D)), logvar, rng.normal(size=(B, D))
    vectors = rng.normal(size=B), rng.normal(size=D)
    return [
        *(on_gpu(laid_out(tile, dtype, layout)) for tile in tiles),
        *(torch.from_numpy(vector).float().to(GPU) for vector in vectors),
    ]


def run_reparam_kl(inputs: list[Tensor], key: Tensor, **settings: Any) -> list[Tensor]:
    """z, both KLs and the gradients of mu and logvar."""
    mu, logvar, *upstream = inputs
    leaves = [mu.detach().requires_grad_(), logvar.detach().requires_grad_()]
    outputs = reparam_kl(*leaves, key, **{"backend": "triton", **settings})
    return [*(t.detach() for t in outputs), *gradients(outputs, leaves, upstream)]


@pytest.mark.parametrize(("B", "D", "dtype", "layout"), LATENT_CASES)
def test_compiled_reparam_kl_is_the_oracle(B: int, D: int, dtype: torch.dtype, layout: str) -> None:
    inputs = latents(B, D, dtype, layout)
    with poisoned_outputs():
        got = [t.cpu() for t in run_reparam_kl(inputs, philox.make_key(SEED, STEP, GPU))]
    mu, logvar, dz, ds, dl = (wide(t.cpu()) for t in inputs)
    eps = philox_oracle.normal(SEED, STEP, np.arange(max(B, 1)), D, philox_oracle.NOISE)[:B]
    exact = reparam_oracle.reparam_kl(mu, logvar, eps)
    dmu, dlogvar = reparam_oracle.reparam_kl_backward(mu, logvar, eps, dz, ds, dl)
    bounded = np.clip(logvar, reparam_oracle.LOGVAR_MIN, reparam_oracle.LOGVAR_MAX)
    sigma, inside = np.exp(bounded / 2), bounded == logvar
    weight = np.abs(ds)[:, None] + np.abs(dl) / max(B, 1)
    slope = np.abs(dz) * sigma / 2
    terms = slope * np.abs(eps) + weight * np.abs(np.expm1(bounded)) / 2
    assert_matches("z", got[0], exact.z, np.abs(mu) + np.abs(sigma * eps), sigma)
    assert_matches("kl_per_sample", got[1], exact.kl_per_sample, exact.kl_per_sample)
    assert_matches("kl_per_latent", got[2], exact.kl_per_latent, exact.kl_per_latent)
    assert_matches("dmu", got[3], dmu, np.abs(dz) + weight * np.abs(mu))
    assert_matches("dlogvar", got[4], dlogvar, inside * terms, inside * slope)


def pixels(
    B: int,
    P: int,
    dtype: torch.dtype = F32,
    layout: str = "contiguous",
    x: torch.dtype = torch.uint8,
) -> tuple[Tensor, Tensor, int, Tensor]:
    """logits and x (B, P), levels, and dnll (B,) on the GPU."""
    rng = np.random.default_rng(B + P)
    grey = rng.integers(LEVELS + 1, size=(B, P)).astype(np.float64)
    levels, grey = (LEVELS, grey) if x == torch.uint8 else (1, grey / LEVELS)
    logits = np.where(
        rng.random((B, P)) < 0.05, rng.choice([-88, 88], (B, P)), rng.normal(0, 4, (B, P))
    )
    return (
        on_gpu(laid_out(logits, dtype, layout)),
        on_gpu(laid_out(grey, x, layout)),
        levels,
        torch.from_numpy(rng.normal(size=B)).float().to(GPU),
    )


def run_nll(
    op: Any, logits: Tensor, x: Tensor, levels: int, dnll: Tensor, *sigma: float, **settings: Any
) -> list[Tensor]:
    """nll and the gradient of logits."""
    leaf = logits.detach().requires_grad_()
    nll = op(leaf, x, levels, *sigma, **{"backend": "triton", **settings})
    return [nll.detach(), *gradients((nll,), [leaf], (dnll,))]


@pytest.mark.parametrize(("B", "P", "dtype", "layout", "x"), PIXEL_CASES)
def test_compiled_bernoulli_nll_is_the_oracle(
    B: int, P: int, dtype: torch.dtype, layout: str, x: torch.dtype
) -> None:
    case = pixels(B, P, dtype, layout, x)
    with poisoned_outputs():
        nll, dlogits = (t.cpu() for t in run_nll(bernoulli_nll, *case))
    logits, grey, levels, dnll = (wide(t.cpu()) if isinstance(t, Tensor) else t for t in case)
    exact = bernoulli_oracle.bernoulli_nll(logits, grey, levels)
    slope = bernoulli_oracle.bernoulli_nll_backward(logits, grey, levels, dnll)
    assert_matches("nll", nll, exact, exact)
    assert_matches("dlogits", dlogits, slope, np.abs(dnll)[:, None] + 0 * logits)


@pytest.mark.parametrize(("B", "P", "dtype", "layout", "x"), PIXEL_CASES)
def test_compiled_gaussian_nll_is_the_oracle(
    B: int, P: int, dtype: torch.dtype, layout: str, x: torch.dtype
) -> None:
    case = pixels(B, P, dtype, layout, x)
    with poisoned_outputs():
        nll, dlogits = (t.cpu() for t in run_nll(gaussian_nll, *case, SIGMA))
    logits, grey, levels, dnll = (wide(t.cpu()) if isinstance(t, Tensor) else t for t in case)
    exact = gaussian_oracle.gaussian_nll(logits, grey, levels, SIGMA)
    slope = gaussian_oracle.gaussian_nll_backward(logits, grey, levels, SIGMA, dnll)
    residual = np.abs(bernoulli_oracle.sigmoid(logits) - grey / levels)
    constant = abs(np.log(SIGMA) + np.log(2 * np.pi) / 2)
    # A residual comes with an absolute error of a rounding of 1, as its terms do.
    terms = ((residual + residual**2) / SIGMA**2 + constant).sum(1)
    assert_matches("nll", nll, exact, terms)
    assert_matches("dlogits", dlogits, slope, np.abs(dnll)[:, None] / SIGMA**2 + 0 * logits)


def run_each_op() -> list[Tensor]:
    """All results and gradients of all three ops, at training sizes."""
    return [
        *run_reparam_kl(latents(1030, 20), philox.make_key(SEED, STEP, GPU)),
        *run_nll(bernoulli_nll, *pixels(64, 4096)),
        *run_nll(gaussian_nll, *pixels(64, 4096), SIGMA),
    ]


def test_equal_inputs_give_equal_bits_every_time() -> None:
    first = run_each_op()
    for _ in range(REPEATS):
        assert all(torch.equal(a, b) for a, b in zip(run_each_op(), first, strict=True))


def test_the_kernel_and_the_plain_formula_draw_the_same_noise() -> None:
    mu, logvar = torch.zeros(1000, 33, device=GPU), torch.zeros(1000, 33, device=GPU)
    key = philox.make_key(SEED, STEP, GPU)
    fused, plain = (
        reparam_kl(mu, logvar, key, first_sample=2**31 - 500, backend=b).z
        for b in ("triton", "torch")
    )
    assert float((fused - plain).abs().max()) <= 8e-6  # each is within 4e-6 of the oracle


def test_the_kernels_and_the_plain_formulas_agree() -> None:
    key = philox.make_key(SEED, STEP, GPU)
    near_prior = latents(500, 20)
    near_prior[1] = near_prior[1].clamp(-3, 3)
    pairs = [
        [run_reparam_kl(near_prior, key, backend=b) for b in ("triton", "torch")],
        [run_nll(bernoulli_nll, *pixels(64, 784), backend=b) for b in ("triton", "torch")],
        [run_nll(gaussian_nll, *pixels(64, 784), SIGMA, backend=b) for b in ("triton", "torch")],
    ]
    for fused, plain in pairs:
        for one, other in zip(fused, plain, strict=True):
            torch.testing.assert_close(one, other, rtol=2e-5, atol=1e-4)


def test_a_captured_graph_that_advances_its_key_draws_new_noise_at_each_replay() -> None:
    inputs, key = latents(64, 10), philox.make_key(SEED, 0, GPU)
    ready = torch.cuda.Stream()
    ready.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(ready):
        run_reparam_kl(inputs, key)  # compiles, which must not happen during the capture
    torch.cuda.current_stream().wait_stream(ready)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = run_reparam_kl(inputs, key)
        key[1:].add_(1)
    draws = []
    for step in range(4):
        graph.replay()
        eager = run_reparam_kl(inputs, philox.make_key(SEED, step, GPU))
        assert all(torch.equal(a, b) for a, b in zip(captured, eager, strict=True))
        draws.append(captured[0].clone())
    assert key.tolist() == [SEED, 4]
    assert not any(torch.equal(a, b) for a, b in pairwise(draws))


def test_the_fused_ops_compile_into_one_graph_with_the_same_bits() -> None:
    def loss(mu: Tensor, logvar: Tensor, x: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        z, kl_per_sample, _ = reparam_kl(mu, logvar, key, backend="triton")
        nll = bernoulli_nll(z, x, LEVELS, backend="triton")
        return (nll + kl_per_sample).sum(), gaussian_nll(z, x, LEVELS, SIGMA, backend="triton")

    mu, logvar = latents(64, 20)[:2]
    x, key = pixels(64, 20)[1], philox.make_key(SEED, STEP, GPU)
    results = []
    for function in (loss, torch.compile(loss, fullgraph=True)):
        leaves = [mu.clone().requires_grad_(), logvar.clone().requires_grad_()]
        total, gaussian = function(*leaves, x, key)
        results.append([gaussian.detach(), *gradients((total, gaussian.sum()), leaves, None)])
        assert total.isfinite()
    assert torch.equal(results[0][0], results[1][0])
    for eager, compiled in zip(*results, strict=True):  # the compiler may fuse what lies between
        torch.testing.assert_close(eager, compiled, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", ["contiguous", "transposed"])
def test_the_registered_ops_pass_opcheck_on_the_gpu(layout: str) -> None:
    mu, logvar, dz, ds, dl = latents(20, 12, layout=layout)
    logits, x, levels, dnll = pixels(20, 12, layout=layout)
    key = philox.make_key(SEED, STEP, GPU)
    samples = {
        "reparam_kl_fwd": (mu, logvar, key, 5, 0),
        "reparam_kl_bwd": (mu, logvar, key, 5, 0, dz, ds, dl),
        "bernoulli_nll_fwd": (logits, x, levels),
        "bernoulli_nll_bwd": (logits, x, levels, dnll),
        "gaussian_nll_fwd": (logits, x, levels, SIGMA),
        "gaussian_nll_bwd": (logits, x, levels, SIGMA, dnll),
    }
    for name, arguments in samples.items():
        torch.library.opcheck(getattr(torch.ops.betavae, name).default, arguments)
