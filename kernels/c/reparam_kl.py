"""Launchers of reparam_kl.c, of the signatures of `betavae_core.kernels.reparam_kl`."""

from __future__ import annotations

import torch
from torch import Tensor

from betavae_core.kernels.c.launch import converted, launch, rows

_SLICES = 64  # as in reparam_kl.c


def reparam_kl_fwd(
    mu: Tensor, logvar: Tensor, key: Tensor, first_sample: int, stream: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(z (B, D) like mu, kl_per_sample (B,) float32, kl_per_latent (D,) float32), in nats."""
    B, D = mu.shape
    m, v, key = rows(mu, B, D), rows(logvar, B, D), _key(key)
    z, kl_per_sample, kl_per_latent = m.new_empty(B, D), m.new_empty(B), m.new_empty(D)
    sums = m.new_empty(_SLICES, D, dtype=torch.float64)
    launch(
        "reparam_kl_fwd",
        m, m.stride(0), v, v.stride(0),
        key, int(first_sample), int(stream), B, D,
        z, kl_per_sample, kl_per_latent, sums,
    )  # fmt: skip
    return converted(z, mu.dtype), kl_per_sample, kl_per_latent


def reparam_kl_bwd(
    mu: Tensor, logvar: Tensor, key: Tensor, first_sample: int, stream: int,
    dz: Tensor, dkl_per_sample: Tensor, dkl_per_latent: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(dmu, dlogvar), both (B, D) like mu, from the gradients of the three results."""
    B, D = mu.shape
    m, v, key = rows(mu, B, D), rows(logvar, B, D), _key(key)
    g, g_sample, g_latent = rows(dz, B, D), rows(dkl_per_sample, B), rows(dkl_per_latent, D)
    dmu, dlogvar = m.new_empty(B, D), m.new_empty(B, D)
    launch(
        "reparam_kl_bwd",
        m, m.stride(0), v, v.stride(0),
        key, int(first_sample), int(stream), B, D,
        g, g.stride(0), g_sample, g_latent,
        dmu, dlogvar,
    )  # fmt: skip
    return converted(dmu, mu.dtype), converted(dlogvar, mu.dtype)


def _key(key: Tensor) -> Tensor:
    """`key`, side by side. Raises ValueError unless it is `[seed, step]` in int64 on the CPU."""
    if key.dtype != torch.int64 or key.shape != (2,) or not key.is_cpu:
        got = f"{key.dtype} {tuple(key.shape)} on {key.device}"
        raise ValueError(f"the C kernels need a key [seed, step] in int64 on the CPU, got {got}")
    return key.contiguous()
