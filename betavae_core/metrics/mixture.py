"""The density of the aggregate posterior q(z) = 1/N Σ_n q(z|n): of all N components, or of a few.

Log-sum-exp over components, blockwise, so memory does not grow with N or with the draws.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

ROUNDS = 4
_BLOCK = 2**17  # densities in memory at once: a megabyte, so that they stay in the cache
_NOTHING = -700.0  # exp of less is a denormal number, which is slow to compute, or 0
LN_2PI = float(np.log(2 * np.pi))


class Densities(NamedTuple):
    """ln q(z) (S,), `joint`, and Σ_d ln q(z_d) (S,), `product`, of draws z; in nats."""

    joint: Floats
    product: Floats


class Mixture(NamedTuple):
    """Which components make up q(z): `weights` (M, M) of a minibatch's, or, None, all N equally."""

    weights: Floats | None = None

    def rounds(self, n: int, samples: int, rng: np.random.Generator) -> Iterator[Indices]:
        """Rows to draw from, `samples` in all but for a batch that is not full, in ROUNDS or more.

        Minibatches, (batches, M), or (rows, 1) for the whole. No row occurs twice in a round.
        """
        size = 1 if self.weights is None else len(self.weights)
        most = max(size, min(n, -(-samples // ROUNDS)))
        while samples >= size:
            take = min(samples, most) // size
            yield rng.permutation(n)[: take * size].reshape(take, size)
            samples -= take * size

    def densities(self, z: Floats, mu: Floats, logvar: Floats, rows: Indices) -> Densities:
        """Densities of the draws z[rows]; z[n] was drawn from posterior n of mu, logvar (N, D)."""
        components = len(mu) if self.weights is None else rows.shape[1]
        step = max(1, _BLOCK // (components * rows.shape[1]))
        parts = [self._block(z, mu, logvar, rows[i : i + step]) for i in range(0, len(rows), step)]
        return Densities(*(np.concatenate(part, axis=None) for part in zip(*parts, strict=True)))

    def _block(self, z: Floats, mu: Floats, logvar: Floats, rows: Indices) -> Densities:
        if self.weights is None:
            return log_densities(z[rows[:, 0]], mu, logvar, -np.log(len(mu)))
        return log_densities(z[rows], mu[rows], logvar[rows], np.log(self.weights))


def log_densities(z: Floats, mu: Floats, logvar: Floats, log_weights: Floats | float) -> Densities:
    """ln q(z) and Σ_d ln q(z_d), each (…, S), of z (…, S, D) under components mu, logvar (…, M, D).

        q(z_s) = Σ_m w_sm Π_d N(z_sd; mu_md, σ_md²)       q(z_sd) = Σ_m w_sm N(z_sd; mu_md, σ_md²)

    `log_weights` (S, M), or a number for all.
    """
    rate = np.exp(-logvar / 2)
    total: Floats | float = 0.0
    product = np.zeros(z.shape[:-1])
    for d in range(z.shape[-1]):
        log_q = z[..., :, None, d] - mu[..., None, :, d]
        log_q *= rate[..., None, :, d]
        log_q *= log_q
        log_q += logvar[..., None, :, d] + LN_2PI
        log_q *= -0.5
        total = total + log_q
        log_q += log_weights
        product += _log_sum_exp(log_q)
    return Densities(_log_sum_exp(np.asarray(total + log_weights)), product)


def _log_sum_exp(x: Floats) -> Floats:
    """Over the last axis; overwrites x."""
    top = x.max(-1, keepdims=True)
    x -= top
    np.maximum(x, _NOTHING, out=x)
    return np.asarray(np.log(np.exp(x, out=x).sum(-1)) + top[..., 0])
