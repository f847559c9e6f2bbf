"""The latent half of the loss: a reparameterised sample and its KL to the standard normal.

The posterior of a sample is N(mu, exp(logvar)), independent in every latent. All KL is in nats.

Source: Kingma, Welling, "Auto-encoding variational Bayes" (2014), section 2.4 (the sample) and
appendix B (the KL).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

LOGVAR_MIN = -30.0
LOGVAR_MAX = 18.0  # sigma = e^9 = 8103 times the largest normal, 5.77, still fits float16


class ReparamKL(NamedTuple):
    """The sample z (B, D), its KL summed over latents (B,), its KL averaged over samples (D,)."""

    z: Array
    kl_per_sample: Array
    kl_per_latent: Array


def reparam_kl(mu: ArrayLike, logvar: ArrayLike, eps: ArrayLike) -> ReparamKL:
    """Sample z ~ N(mu, sigma²) from the noise `eps`, with KL(N(mu, sigma²) ‖ N(0, 1)) in nats.

        v     = min(max(logvar, LOGVAR_MIN), LOGVAR_MAX)        sigma = exp(v/2)
        z     = mu + sigma·eps
        kl    = (mu² + exp(v) - 1 - v)/2                        (B, D), each >= 0
        kl_per_sample[b] = Σ_d kl[b, d]       kl_per_latent[d] = (1/B) Σ_b kl[b, d]

    mu, logvar, eps: (B, D). An infinite logvar is bounded like any other; NaN stays NaN. The
    means of an empty batch are 0. Raises ValueError where the shapes differ.
    """
    mu, logvar, eps = _same_shape(mu=mu, logvar=logvar, eps=eps)
    v = _bounded(logvar)
    z = mu + np.exp(v / 2) * eps
    kl = (mu**2 + np.expm1(v) - v) / 2
    return ReparamKL(z, kl.sum(axis=1), kl.sum(axis=0) / max(len(kl), 1))


def reparam_kl_backward(
    mu: ArrayLike,
    logvar: ArrayLike,
    eps: ArrayLike,
    dz: ArrayLike,
    dkl_per_sample: ArrayLike,
    dkl_per_latent: ArrayLike,
) -> tuple[Array, Array]:
    """The gradients (dmu, dlogvar), each (B, D), from those of the three outputs.

    Both KL outputs sum kl[b, d], so with g_z (B, D), g_s (B,) and g_l (D,) upstream its gradient is

        w[b, d] = ∂L/∂kl[b, d] = g_s[b] + g_l[d]/B.

    The local derivatives, with dsigma/dv = sigma/2:

        ∂z/∂mu  = 1              ∂z/∂v  = eps·sigma/2
        ∂kl/∂mu = mu             ∂kl/∂v = (exp(v) - 1)/2
        ∂v/∂logvar = 1 for LOGVAR_MIN <= logvar <= LOGVAR_MAX, else 0

    and the chain rule gives

        dmu     = g_z + w·mu
        dlogvar = ∂v/∂logvar · (g_z·eps·sigma/2 + w·(exp(v) - 1)/2).
    """
    mu, logvar, eps, dz = _same_shape(mu=mu, logvar=logvar, eps=eps, dz=dz)
    v = _bounded(logvar)
    w = np.asarray(dkl_per_sample)[:, None] + np.asarray(dkl_per_latent) / max(len(mu), 1)
    dv = dz * eps * np.exp(v / 2) / 2 + w * np.expm1(v) / 2
    return dz + w * mu, np.where(_outside(logvar), 0.0, dv)


def inverse(z: ArrayLike, mu: ArrayLike, logvar: ArrayLike) -> Array:
    """The noise (B, D) that makes the sample z: eps = (z - mu)/sigma, sigma as in `reparam_kl`.

    Levy's inverse adds mu once more, eps = (z - mu)/sigma + mu; that is no inverse, except at
    mu = 0. Here `inverse(reparam_kl(mu, logvar, eps).z, mu, logvar)` is eps.
    """
    z, mu, logvar = _same_shape(z=z, mu=mu, logvar=logvar)
    return (z - mu) / np.exp(_bounded(logvar) / 2)


def inverse_backward(
    z: ArrayLike, mu: ArrayLike, logvar: ArrayLike, deps: ArrayLike
) -> tuple[Array, Array, Array]:
    """The gradients (dz, dmu, dlogvar), each (B, D), of `inverse` from that of eps.

    With eps = (z - mu)·exp(-v/2):

        ∂eps/∂z = 1/sigma        ∂eps/∂mu = -1/sigma        ∂eps/∂v = -eps/2
        dz = deps/sigma          dmu = -dz                  dlogvar = -∂v/∂logvar · deps·eps/2
    """
    z, mu, logvar, deps = _same_shape(z=z, mu=mu, logvar=logvar, deps=deps)
    sigma = np.exp(_bounded(logvar) / 2)
    dz = deps / sigma
    return dz, -dz, np.where(_outside(logvar), 0.0, -dz * (z - mu) / 2)


def _bounded(logvar: Array) -> Array:
    return np.clip(logvar, LOGVAR_MIN, LOGVAR_MAX)


def _outside(logvar: Array) -> NDArray[np.bool_]:
    # Not `~inside`: NaN is on neither side, so its gradient stays NaN and training can name it.
    return (logvar < LOGVAR_MIN) | (logvar > LOGVAR_MAX)


def _same_shape(**arrays: ArrayLike) -> list[Array]:
    converted = [np.asarray(array, dtype=np.float64) for array in arrays.values()]
    shapes = [array.shape for array in converted]
    if len(set(shapes)) > 1 or len(shapes[0]) != 2:
        received = ", ".join(f"{n} {s}" for n, s in zip(arrays, shapes, strict=True))
        raise ValueError(f"{', '.join(arrays)} must share one shape (B, D), got {received}")
    return converted
