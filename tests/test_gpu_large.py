"""Tensors of more than 2^31 elements on an NVIDIA GPU, whose last rows need addresses of 64 bits.

A row's result does not depend on the batch around it, so the last rows of the whole are compared,
bit for bit, with the same rows in a batch of their own.
"""

from __future__ import annotations

import pytest
import torch

from betavae_core.ops import philox

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="needs an NVIDIA GPU that PyTorch can use"
    ),
]


def needs_memory(gigabytes: float) -> None:
    torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info()[0] / 1e9
    if free < gigabytes:
        pytest.skip(f"needs {gigabytes:g} GB of free GPU memory, has {free:.0f}")


def test_reparam_kl_past_2_to_the_31_elements() -> None:
    needs_memory(30)
    B, D, last = 2**24 + 3, 128, 5
    mu = torch.randn(B, D, dtype=torch.float16, device="cuda")
    logvar = torch.randn(B, D, dtype=torch.float16, device="cuda")
    key = philox.make_key(7, 3, "cuda")
    forward, backward = torch.ops.betavae.reparam_kl_fwd, torch.ops.betavae.reparam_kl_bwd
    ds, dl = torch.randn(B, device="cuda"), torch.zeros(D, device="cuda")
    whole = forward(mu, logvar, key, 0, 0)
    end = mu[-last:], logvar[-last:], key, B - last, 0
    alone = forward(*end)
    assert torch.equal(whole[0][-last:], alone[0])
    assert torch.equal(whole[1][-last:], alone[1])
    mean = whole[1].double().mean()
    torch.testing.assert_close(whole[2].double().sum(), mean, rtol=1e-4, atol=0)
    gradient = backward(mu, logvar, key, 0, 0, mu, ds, dl)
    end_gradient = backward(*end, mu[-last:], ds[-last:], dl)
    assert torch.equal(gradient[0][-last:], end_gradient[0])
    assert torch.equal(gradient[1][-last:], end_gradient[1])


@pytest.mark.parametrize("op", ["bernoulli_nll", "gaussian_nll"])
def test_likelihoods_past_2_to_the_31_elements(op: str) -> None:
    needs_memory(20)
    B, P, last = 2**19 + 3, 4096, 5
    logits = torch.randn(B, P, dtype=torch.float16, device="cuda")
    x = torch.randint(256, (B, P), dtype=torch.uint8, device="cuda")
    dnll = torch.randn(B, device="cuda")
    sigma = (0.1,) if op == "gaussian_nll" else ()
    forward = getattr(torch.ops.betavae, f"{op}_fwd")
    backward = getattr(torch.ops.betavae, f"{op}_bwd")
    nll, dlogits = forward(logits, x, 255, *sigma), backward(logits, x, 255, *sigma, dnll)
    end = logits[-last:], x[-last:], 255, *sigma
    assert torch.equal(nll[-last:], forward(*end))
    assert torch.equal(dlogits[-last:], backward(*end, dnll[-last:]))
