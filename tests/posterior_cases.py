"""Posteriors whose aggregate is known, that the tests of the total correlation share."""

from __future__ import annotations

import numpy as np

from betavae_core.reference import kl_decomposition as oracle

N = 20_000
Codes = tuple[np.ndarray, np.ndarray]


def gaussian(covariance: np.ndarray, sigma: float, n: int = N, seed: int = 0) -> Codes:
    """Posteriors of width sigma whose aggregate is N(0, covariance)."""
    D = len(covariance)
    root = np.linalg.cholesky(covariance - sigma**2 * np.eye(D))
    mu = np.random.default_rng(seed).normal(size=(n, D)) @ root.T
    return mu, np.full((n, D), 2 * np.log(sigma))


def pairs(rho: float, D: int = 10) -> np.ndarray:
    return np.kron(np.eye(D // 2), [[1, rho], [rho, 1]])


def one_in_all(rho: float, D: int = 10) -> np.ndarray:
    return np.full((D, D), rho) + (1 - rho) * np.eye(D)


def with_idle_latents(mu: np.ndarray, sigma: float, D: int = 10) -> Codes:
    """The codes, and latents hardly in use up to D."""
    rng = np.random.default_rng(1)
    idle = 0.1 * rng.normal(size=(len(mu), D - mu.shape[1]))
    logvar = np.full((len(mu), D), np.log(0.99))
    logvar[:, : mu.shape[1]] = 2 * np.log(sigma)
    return np.column_stack((mu, idle)), logvar


def quadrature(mu: np.ndarray, sigma: float) -> float:
    """The total correlation of a mixture of equal Gaussians in the plane, on a grid."""
    grid, step = np.linspace(-5, 5, 1001, retstep=True)
    x, y = (np.exp(oracle.log_normal(grid, m[:, None], 2 * np.log(sigma))) for m in mu.T)
    q = np.einsum("ni,nj->ij", x, y) / len(mu)
    product = np.outer(x.mean(0), y.mean(0))
    inside = q > 1e-300
    return float((q[inside] * np.log(q[inside] / product[inside])).sum() * step**2)
