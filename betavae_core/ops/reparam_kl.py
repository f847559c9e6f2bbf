"""Sample the posterior and measure its KL divergence from the prior, in one op.

    σ = exp(logvar / 2)        z = μ + σ ε        kl[b, d] = (μ² + σ² - 1 - logvar) / 2

Source: Kingma, Welling 2014, section 2.4 (the reparameterisation) and appendix B (the KL).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from betavae_core.errors import UsageError
from betavae_core.ops import philox
from betavae_core.ops.backend import choose
from betavae_core.ops.fused import FusedOp, apply, spare

Run = Callable[..., Any]

# exp(18 / 2) = 8103 times the largest normal, 5.77, is still a float16; exp(-30 / 2) = 3e-7.
LOGVAR_MIN, LOGVAR_MAX = -30.0, 18.0


class ReparamKL(NamedTuple):
    """What `reparam_kl` returns."""

    z: Tensor
    kl_per_sample: Tensor
    kl_per_latent: Tensor


def reparam_kl(
    mu: Tensor,
    logvar: Tensor,
    key: Tensor | None = None,
    *,
    eps: Tensor | None = None,
    first_sample: int = 0,
    stream: int = philox.NOISE,
    backend: str = "auto",
) -> ReparamKL:
    """Sample z ~ N(μ, σ²) and give KL(N(μ, σ²) ‖ N(0, 1)) in nats, per sample and per latent.

    Args:
        mu, logvar: (B, D), the posterior's mean and log-variance. `logvar` is bounded to
            [LOGVAR_MIN, LOGVAR_MAX] = [-30, 18], with gradient 0 outside; NaN stays NaN.
        key: int64 tensor `[seed, step]` on their device, from which the noise is drawn.
        eps: (B, D), the noise itself, instead of `key`; which runs on backend `torch`.
        first_sample: the row that mu[0] has in the global batch.
        stream: which of the Philox streams the noise comes from.
        backend: `auto`, `torch`, `triton` or `c`.

    Returns:
        z (B, D) in the inputs' dtype; kl_per_sample (B,), summed over latents; kl_per_latent (D,),
        mean over the batch (zero for an empty one). The KLs are float32, or float64 for float64.

    Raises:
        ValueError: shapes differ or are not (B, D), not exactly one of key and eps is given, or
            key is not two int64.
        UsageError: the backend asked for cannot run here.
    """
    if mu.shape != logvar.shape or mu.ndim != 2:
        raise ValueError(
            f"mu and logvar must both be (B, D), got {tuple(mu.shape)}, {tuple(logvar.shape)}"
        )
    if mu.dtype != logvar.dtype:
        dtype = torch.promote_types(mu.dtype, logvar.dtype)
        mu, logvar = mu.to(dtype), logvar.to(dtype)
    chosen, noise = _noise(mu, key, eps, first_sample, stream, backend)
    if chosen == "torch":
        return ReparamKL(*apply(_ReparamKL, mu, logvar, noise, forward_formula, backward_formula))
    run, reverse = _forward.on(chosen), _backward.on(chosen)
    return ReparamKL(*apply(_ReparamKL, mu, logvar, noise, run, reverse, first_sample, stream))


def _noise(
    mu: Tensor, key: Tensor | None, eps: Tensor | None, first_sample: int, stream: int, backend: str
) -> tuple[str, Tensor]:
    """The kernel that runs, and its key; or `torch` and the noise itself."""
    if key is not None and eps is None:
        if key.dtype != torch.int64 or key.shape != (2,):
            got = f"{key.dtype} {tuple(key.shape)}"
            raise ValueError(f"key must be an int64 tensor [seed, step], got {got}")
        if (chosen := choose(backend, mu)) != "torch":
            return chosen, key
        return "torch", _draw(mu, key, first_sample, stream)
    if eps is None or key is not None:
        raise ValueError("reparam_kl needs exactly one of key and eps")
    if eps.shape != mu.shape:
        raise ValueError(
            f"eps must have the shape of mu, {tuple(mu.shape)}, got {tuple(eps.shape)}"
        )
    if backend in ("triton", "c"):
        raise UsageError(f"backend {backend!r} draws its own noise: give key, not eps")
    return "torch", eps.to(_wide(mu).dtype)


def _draw(mu: Tensor, key: Tensor, first_sample: int, stream: int) -> Tensor:
    """The noise that the kernel would draw for `mu`, in the dtype of the computation."""
    samples = torch.arange(first_sample, first_sample + len(mu), device=mu.device)
    return philox.normal(key, samples, mu.shape[1], stream, _wide(mu).dtype)


def _wide(tensor: Tensor) -> Tensor:
    """The tensor in the dtype of the computation: float32, or float64 for float64."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def forward_formula(mu: Tensor, logvar: Tensor, eps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The op in plain PyTorch."""
    m, s = _wide(mu), _wide(logvar).clamp(LOGVAR_MIN, LOGVAR_MAX)
    sigma = s.exp().sqrt()
    z = torch.addcmul(m, sigma, eps, out=spare(sigma))
    # expm1: no cancellation near the prior
    kl = torch.addcmul(s.expm1().sub_(s), m, m).mul_(0.5)
    per_latent = kl.mean(0) if len(mu) else kl.sum(0)
    return z.to(mu.dtype).contiguous(), kl.sum(1), per_latent


def backward_formula(
    mu: Tensor, logvar: Tensor, eps: Tensor, dz: Tensor, dkl_sample: Tensor, dkl_latent: Tensor
) -> tuple[Tensor, Tensor]:
    """Its gradient, with w[b, d] = dkl_sample[b] + dkl_latent[d] / B:

    dμ = dz + w μ        dlogvar = dz ε σ / 2 + w (σ² - 1) / 2, and 0 where logvar was bounded
    """
    m, v, g = _wide(mu), _wide(logvar), _wide(dz)
    half_w = torch.add(0.5 * dkl_sample[:, None], dkl_latent, alpha=0.5 / max(len(mu), 1))
    dmu = torch.addcmul(g, half_w, m, value=2)
    s = v.clamp(LOGVAR_MIN, LOGVAR_MAX)
    sigma = s.exp().sqrt()
    noise = torch.mul(sigma, eps, out=spare(sigma))
    of_kl = torch.mul(s.expm1(), half_w, out=spare(half_w))
    ds = torch.addcmul(of_kl, g, noise, value=0.5, out=spare(of_kl))
    inside = torch.eq(s, v, out=spare(s))  # 1 or 0; NaN · 0 stays NaN
    dlogvar = torch.mul(ds, inside, out=spare(ds))
    return dmu.to(mu.dtype).contiguous(), dlogvar.to(mu.dtype).contiguous()


def _fake_forward(mu: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    wide = torch.promote_types(mu.dtype, torch.float32)
    rows, columns = mu.shape
    return mu.new_empty(mu.shape), mu.new_empty(rows, dtype=wide), mu.new_empty(columns, dtype=wide)


_forward = FusedOp(
    "reparam_kl",
    "reparam_kl_fwd",
    "(Tensor mu, Tensor logvar, Tensor key, int first_sample, int stream)"
    " -> (Tensor, Tensor, Tensor)",
    lambda mu, logvar, *draw: forward_formula(mu, logvar, _draw(mu, *draw)),
    _fake_forward,
)
_backward = FusedOp(
    "reparam_kl",
    "reparam_kl_bwd",
    "(Tensor mu, Tensor logvar, Tensor key, int first_sample, int stream,"
    " Tensor dz, Tensor dkl_sample, Tensor dkl_latent) -> (Tensor, Tensor)",
    lambda mu, logvar, key, first_sample, stream, *upstream: backward_formula(
        mu, logvar, _draw(mu, key, first_sample, stream), *upstream
    ),
    lambda mu, *_: (mu.new_empty(mu.shape), mu.new_empty(mu.shape)),
)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    mu, logvar, noise, *ctx.draw = inputs
    ctx.save_for_backward(mu, logvar, noise)


def _op_backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
    """The gradient of the registered op itself, for those who call it as torch.ops.betavae."""
    return *_backward.op(*ctx.saved_tensors, *ctx.draw, *upstream), None, None, None


_forward.op.register_autograd(_op_backward, setup_context=_save)


class _ReparamKL(torch.autograd.Function):
    """`run` and its gradient `reverse`, of (mu, logvar, eps) or (mu, logvar, key, *draw)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        mu: Tensor, logvar: Tensor, noise: Tensor, run: Run, reverse: Run, *draw: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        return run(mu, logvar, noise, *draw)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        mu, logvar, noise, _, ctx.reverse, *draw = inputs
        _save(ctx, (mu, logvar, noise, *draw), output)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.reverse(*ctx.saved_tensors, *ctx.draw, *upstream)
        return *gradients, *[None] * (3 + len(ctx.draw))
