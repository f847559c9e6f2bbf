"""The ops against the oracle: every output and every gradient, on each backend and dtype."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from betavae_core.ops import philox
from betavae_core.ops.backend import kernels_at
from betavae_core.parity.comparison import Comparison
from betavae_core.reference import bernoulli_nll, gaussian_nll, reparam_kl
from betavae_core.reference import philox as oracle_philox

_SEED, _STEP, _FIRST = 11, 3, 5
_B, _D, _P, _LEVELS = 13, 10, 77, 255
_KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def compare_reparam_kl(device: torch.device) -> Iterator[Comparison]:
    """z, KL per sample, KL per latent, dmu and dlogvar."""
    for dtype in (torch.float64, torch.float32):
        yield from _reparam_kl("reparam_kl", dtype, device, "torch")
    for backend in kernels_at(device):
        for dtype in _KERNEL_DTYPES:
            yield from _reparam_kl(f"reparam_kl.{backend}", dtype, device, backend)


def _reparam_kl(
    stem: str, dtype: torch.dtype, device: torch.device, backend: str
) -> Iterator[Comparison]:
    op = import_module("betavae_core.ops.reparam_kl")
    mu, logvar, dz = (_normal(i, _B, _D, dtype, device) for i in range(3))
    logvar[0, :2] = torch.tensor([40.0, -50.0])  # both bounds at work
    dkl_sample, dkl_latent = _wide_normal(3, _B, dtype, device), _wide_normal(4, _D, dtype, device)
    key = philox.make_key(_SEED, _STEP, device)
    upstream = (dz, dkl_sample, dkl_latent)
    if backend == "torch":
        leaves = mu.requires_grad_(), logvar.requires_grad_()
        noise = _wide_normal(5, _B * _D, dtype, device).reshape(_B, _D)
        eps = _array(noise)
        values = op.reparam_kl(*leaves, eps=noise, backend="torch")
        gradients = torch.autograd.grad(values, leaves, upstream)
    else:
        eps = oracle_philox.normal(_SEED, _STEP, range(_FIRST, _FIRST + _B), _D)
        values = op._forward.launch(backend, mu, logvar, key, _FIRST, philox.NOISE)
        gradients = op._backward.launch(backend, mu, logvar, key, _FIRST, philox.NOISE, *upstream)
    inputs = _array(mu), _array(logvar), eps
    expected = reparam_kl.reparam_kl(*inputs)
    expected_gradients = reparam_kl.reparam_kl_backward(*inputs, *map(_array, upstream))
    names = ("z", "kl_per_sample", "kl_per_latent", "dmu", "dlogvar")
    pairs = zip((*values, *gradients), (*expected, *expected_gradients), strict=True)
    for name, (got, want) in zip(names, pairs, strict=True):
        yield Comparison(f"{stem}.{name}", dtype, got, want)


def compare_nll(
    stem: str, parameters: tuple[float, ...], device: torch.device
) -> Iterator[Comparison]:
    """The likelihood `stem` and its dlogits, with bytes and with floats as targets."""
    for dtype in (torch.float64, torch.float32):
        yield from _nll(stem, stem, parameters, dtype, device, "torch")
    for backend in kernels_at(device):
        for dtype in _KERNEL_DTYPES:
            yield from _nll(f"{stem}.{backend}", stem, parameters, dtype, device, backend)


def _nll(
    name: str,
    stem: str,
    parameters: tuple[float, ...],
    dtype: torch.dtype,
    device: torch.device,
    backend: str,
) -> Iterator[Comparison]:
    module = import_module(f"betavae_core.ops.{stem}")
    oracle: Any = {"bernoulli_nll": bernoulli_nll, "gaussian_nll": gaussian_nll}[stem]
    logits = 4 * _normal(6, _B, _P, dtype, device)
    dnll = _wide_normal(7, _B, dtype, device)
    words = philox.bits(philox.make_key(_SEED, 8), torch.arange(_B), _P, philox.NOISE)
    x = (words % (_LEVELS + 1)).to(device, torch.uint8)
    for targets, levels in ((x, _LEVELS), (x.to(dtype) / _LEVELS, 1)):
        arguments = (targets, levels, *parameters)
        if backend == "torch":
            leaf = logits.detach().requires_grad_()
            value = getattr(module, stem)(leaf, *arguments, backend="torch")
            (gradient,) = torch.autograd.grad(value, leaf, dnll)
        else:
            value = module._op.fused_forward.launch(backend, logits, *arguments)
            gradient = module._op.fused_backward.launch(backend, logits, *arguments, dnll)
        inputs = (_array(logits), _array(targets), levels, *parameters)
        kind = "bytes" if targets is x else "floats"
        expected = getattr(oracle, stem)(*inputs)
        yield Comparison(f"{name}.nll ({kind})", dtype, value, expected)
        expected = getattr(oracle, f"{stem}_backward")(*inputs, _array(dnll))
        yield Comparison(f"{name}.dlogits ({kind})", dtype, gradient, expected)


def _normal(step: int, rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(rows, columns) of fixed normals."""
    key = philox.make_key(_SEED, step)
    values = philox.normal(key, torch.arange(rows), columns, philox.EVALUATION, torch.float64)
    return values.to(device, dtype)


def _wide_normal(step: int, count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(count,) of fixed normals, in the dtype of a KL or of the noise of inputs in `dtype`."""
    wide = torch.promote_types(dtype, torch.float32)
    return _normal(step, 1, count, wide, device)[0]


def _array(tensor: Tensor) -> Any:
    return tensor.detach().to("cpu", torch.float64).numpy()
