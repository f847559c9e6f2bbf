"""What the kernels promise beyond matching the oracle: limits, bits, addresses, manners."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import triton.language as tl
from triton.runtime.errors import InterpreterError
from triton.runtime.jit import JITFunction

from betavae_core.kernels.bernoulli_nll import bernoulli_nll_fwd
from betavae_core.kernels.reparam_kl import reparam_kl_fwd

KEY = torch.tensor([20, 4])
INF, NAN = float("inf"), float("nan")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()


def test_kl_is_zero_at_the_prior(kernels: SimpleNamespace) -> None:
    _, per_sample, per_latent = kernels.reparam_kl_fwd(
        torch.zeros(3, 5), torch.zeros(3, 5), KEY, 0, 0
    )
    assert not per_sample.any()
    assert not per_latent.any()


@pytest.mark.parametrize(("mu", "logvar", "kl"), [(1.0, 0.0, 5.0), (1.0, 1.0, 8.591409142295227)])
def test_kl_of_ten_latents_is_the_closed_form(
    kernels: SimpleNamespace, mu: float, logvar: float, kl: float
) -> None:
    inputs = torch.full((2, 10), mu), torch.full((2, 10), logvar)
    _, per_sample, per_latent = kernels.reparam_kl_fwd(*inputs, KEY, 0, 0)
    torch.testing.assert_close(per_sample, torch.full((2,), kl))
    torch.testing.assert_close(per_latent, torch.full((10,), kl / 10))


def test_kl_of_a_nearly_inactive_latent_is_small_and_not_noise(kernels: SimpleNamespace) -> None:
    """exp(v) - 1 - v = v²/2 + … would be rounding error, of either sign, if it were subtracted."""
    logvar = torch.tensor([[1e-3, -1e-3, 1e-4, -1e-5]])
    _, _, kl = kernels.reparam_kl_fwd(torch.zeros_like(logvar), logvar, KEY, 0, 0)
    exact = (logvar.double() ** 2 / 4 + logvar.double() ** 3 / 12)[0]
    torch.testing.assert_close(kl.double(), exact, rtol=1e-6, atol=0)


def test_the_mean_over_a_large_batch_is_a_tree_that_leaves_no_row_out(
    kernels: SimpleNamespace,
) -> None:
    """Triton: 263 blocks of 16 rows, then 17, 2 and 1."""
    mu, logvar = normal(4200, 256), normal(4200, 256, seed=1)
    _, _, kl = kernels.reparam_kl_fwd(mu, logvar, KEY, 0, 0)
    m, v = mu.double(), logvar.double()
    exact = 0.5 * (m**2 + v.exp() - 1 - v).mean(0)
    torch.testing.assert_close(kl.double(), exact, rtol=1e-6, atol=0)


def test_logvar_out_of_bounds_is_bounded_and_has_no_gradient(kernels: SimpleNamespace) -> None:
    logvar = torch.tensor([[-INF, -30.001, -30.0, 18.0, 18.001, INF]])
    mu, ones = torch.zeros_like(logvar), torch.ones_like(logvar)
    bounded = logvar.clamp(-30, 18)
    got, want = (kernels.reparam_kl_fwd(mu, v, KEY, 0, 0) for v in (logvar, bounded))
    assert all(torch.equal(a, b) and a.isfinite().all() for a, b in zip(got, want, strict=True))
    _, slope = kernels.reparam_kl_bwd(mu, logvar, KEY, 0, 0, ones, ones[:, 0], ones[0])
    assert (slope != 0).tolist() == [[False, False, True, True, False, False]]


def test_a_sample_at_the_largest_sigma_fits_float16(kernels: SimpleNamespace) -> None:
    mu = torch.zeros(1000, 64, dtype=torch.float16)
    z, _, _ = kernels.reparam_kl_fwd(mu, torch.full_like(mu, INF), KEY, 0, 0)
    assert z.isfinite().all()
    assert z.abs().max() > 30_000


@pytest.mark.parametrize("poisoned", ["mu", "logvar"])
def test_nan_reaches_every_result_that_depends_on_it_and_no_other(
    kernels: SimpleNamespace, poisoned: str
) -> None:
    inputs = {"mu": normal(3, 5), "logvar": normal(3, 5, seed=1)}
    inputs[poisoned][1, 2] = NAN
    z, per_sample, per_latent = kernels.reparam_kl_fwd(**inputs, key=KEY, first_sample=0, stream=0)
    upstream = torch.ones(3, 5), torch.ones(3), torch.ones(5)
    dmu, dlogvar = kernels.reparam_kl_bwd(inputs["mu"], inputs["logvar"], KEY, 0, 0, *upstream)
    assert z.isnan().nonzero().tolist() == [[1, 2]]
    assert per_sample.isnan().tolist() == [False, True, False]
    assert per_latent.isnan().tolist() == [False, False, True, False, False]
    assert (dmu if poisoned == "mu" else dlogvar).isnan().nonzero().tolist() == [[1, 2]]
    assert not (dlogvar if poisoned == "mu" else dmu).isnan().any()


def test_bernoulli_nll_takes_the_limit_at_an_infinite_logit(kernels: SimpleNamespace) -> None:
    logits = torch.tensor([[INF], [-INF], [INF], [-INF], [NAN]])
    x = torch.tensor([[1], [0], [0], [1], [1]], dtype=torch.uint8)
    nll = kernels.bernoulli_nll_fwd(logits, x, 1)
    dlogits = kernels.bernoulli_nll_bwd(logits, x, 1, torch.ones(5))
    torch.testing.assert_close(nll, torch.tensor([0, 0, INF, INF, NAN]), equal_nan=True)
    exact = torch.tensor([[0], [0], [1], [-1], [NAN]])
    torch.testing.assert_close(dlogits, exact, equal_nan=True)


@pytest.mark.parametrize(("B", "D"), [(6, 1), (130, 10), (300, 32), (36, 300)])
def test_two_half_batches_are_one_whole_batch_bit_for_bit(
    kernels: SimpleNamespace, B: int, D: int
) -> None:
    mu, logvar, dz, g = normal(B, D), normal(B, D, seed=1), normal(B, D, seed=2), normal(B, seed=3)
    half = B // 2
    parts = [(slice(None), 0, 1.0), (slice(0, half), 0, 0.5), (slice(half, B), half, 0.5)]
    z, kl, dmu, dlogvar = [], [], [], []
    for rows, first, share in parts:  # a half has half the batch, so half the gradient of the mean
        values = kernels.reparam_kl_fwd(mu[rows], logvar[rows], KEY, first, 0)
        upstream = dz[rows], g[rows], share * normal(D, seed=4)
        gradients = kernels.reparam_kl_bwd(mu[rows], logvar[rows], KEY, first, 0, *upstream)
        for results, result in zip((z, kl, dmu, dlogvar), (*values[:2], *gradients), strict=True):
            results.append(result)
    for whole, *halves in (z, kl, dmu, dlogvar):
        assert torch.equal(whole, torch.cat(halves))


@pytest.mark.parametrize("P", [5, 784, 5000])
def test_the_nll_of_an_image_does_not_depend_on_its_batch(kernels: SimpleNamespace, P: int) -> None:
    logits, x = 4 * normal(9, P), (255 * normal(9, P, seed=1).sigmoid()).to(torch.uint8)
    for likelihood, parameters in (
        (kernels.bernoulli_nll_fwd, (255,)),
        (kernels.gaussian_nll_fwd, (255, 0.1)),
    ):
        whole = likelihood(logits, x, *parameters)
        alone = [likelihood(logits[i : i + 1], x[i : i + 1], *parameters) for i in range(9)]
        assert torch.equal(whole, torch.cat(alone))


@pytest.mark.parametrize("far", ["rows", "columns"])
def test_elements_beyond_two_to_the_31_are_reached(
    kernels: SimpleNamespace, tmp_path: Path, far: str
) -> None:
    """The strides fit 32 bits, the offsets do not. The file is sparse: only a few pages exist."""
    stride, N = 2**30, 3 * 2**30 + 4
    strides = (stride, 1) if far == "rows" else (1, stride)
    sparse = torch.from_file(str(tmp_path / "sparse"), shared=True, size=N, dtype=torch.float16)
    wide = sparse.as_strided((4, 4), strides)
    wide.copy_(normal(4, 4))
    near, x, g = wide.contiguous(), torch.zeros(4, 4, dtype=torch.uint8), torch.ones(4)
    for mu, dz in ((wide, near), (near, wide)):
        got = kernels.reparam_kl_bwd(mu, mu, KEY, 0, 0, dz, g, g)
        assert torch.equal(got[1], kernels.reparam_kl_bwd(near, near, KEY, 0, 0, near, g, g)[1])
    assert torch.equal(
        kernels.reparam_kl_fwd(wide, wide, KEY, 0, 0)[0],
        kernels.reparam_kl_fwd(near, near, KEY, 0, 0)[0],
    )
    assert torch.equal(kernels.bernoulli_nll_fwd(wide, x, 1), kernels.bernoulli_nll_fwd(near, x, 1))
    assert torch.equal(
        kernels.gaussian_nll_bwd(near, wide, 1, 1.0, g),
        kernels.gaussian_nll_bwd(near, near, 1, 1.0, g),
    )


def test_interpreting_leaves_triton_as_it_was() -> None:
    before = tl.load, tl.core.load, tl.reduce, JITFunction.__call__
    bernoulli_nll_fwd(normal(2, 3), torch.zeros(2, 3), 1)
    assert (tl.load, tl.core.load, tl.reduce, JITFunction.__call__) == before
    with pytest.raises(RuntimeError, match="outside of the scope"):
        tl.sum(0)


def test_a_launch_that_fails_leaves_triton_as_it_was() -> None:
    before = tl.load, JITFunction.__call__
    with pytest.raises(InterpreterError):
        bernoulli_nll_fwd(normal(2, 3), torch.zeros(2, 3), None)  # type: ignore[arg-type]
    assert (tl.load, JITFunction.__call__) == before


def test_the_kernels_run_under_triton_interpret_too() -> None:
    program = (
        "import torch; from betavae_core.kernels.reparam_kl import reparam_kl_fwd as f;"
        "z = f(torch.zeros(2, 6), torch.zeros(2, 6), torch.tensor([20, 4]), 0, 0)[0];"
        "print(z.tolist())"
    )
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=environment, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    z, _, _ = reparam_kl_fwd(torch.zeros(2, 6), torch.zeros(2, 6), KEY, 0, 0)
    assert run.stdout.strip() == str(z.tolist())
