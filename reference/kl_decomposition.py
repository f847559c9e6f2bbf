"""What the KL to the prior is made of, from the whole aggregate posterior or from a minibatch.

The aggregate posterior q(z) = 1/N Σ_n q(z|n) is a mixture of one Gaussian a sample, and so is each
latent's own, q(z_d) = 1/N Σ_n q(z_d|n). Nothing here is fast: every density of every draw under
every sample is in memory, (S, N, D). All terms are in nats.

Source: Chen, Li, Grosse, Duvenaud, "Isolating sources of disentanglement in VAEs" (2018),
equation 2 (the three terms), appendix C.1 (minibatch-weighted sampling) and C.2 (stratified);
Hoffman, Johnson, "ELBO surgery" (2016), for the first of the terms.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


class KLDecomposition(NamedTuple):
    """Three terms, in nats; their sum is the KL, each a mean over the draws."""

    mutual_information: float
    total_correlation: float
    dimension_wise_kl: float


def log_normal(z: ArrayLike, mu: ArrayLike, logvar: ArrayLike) -> Array:
    """ln N(z; mu, exp(logvar)) = -(ln 2π + logvar + (z - mu)² exp(-logvar))/2, elementwise."""
    z, mu, logvar = (np.asarray(a, dtype=np.float64) for a in (z, mu, logvar))
    return -(np.log(2 * np.pi) + logvar + (z - mu) ** 2 * np.exp(-logvar)) / 2


def log_mixture(z: Array, mu: Array, logvar: Array, log_weights: ArrayLike) -> tuple[Array, Array]:
    """ln q(z) (S,) and ln q(z_d) (S, D) of draws z (S, D) under components mu, logvar (N, D).

        q(z_s) = Σ_n w_sn Π_d N(z_sd; mu_nd, σ_nd²)       q(z_sd) = Σ_n w_sn N(z_sd; mu_nd, σ_nd²)

    `log_weights` (S, N), or a number for all.
    """
    log_q = log_normal(z[:, None, :], mu, logvar)
    weights = np.broadcast_to(log_weights, log_q.shape[:2])
    joint = np.logaddexp.reduce(log_q.sum(2) + weights, axis=1)
    return joint, np.logaddexp.reduce(log_q + weights[:, :, None], axis=1)


def weighted(M: int, N: int) -> Array:
    """The (M, M) weights of minibatch-weighted sampling: 1/(NM), so a row sums to 1/N, not to 1.

    Each row reads q(z) about N times too small, and D + 1 densities do not cancel that.
    """
    return np.full((M, M), 1 / (N * M))


def stratified(M: int, N: int) -> Array:
    """The (M, M) weights of minibatch-stratified sampling; each row sums to 1.

    Row i is draw i, which came from sample i of the batch. Among N samples that one weighs 1/N,
    one other (N - m)/(N m) and the rest 1/m, with m = M - 1: an unbiased estimate of q(z_i). The
    weight 1/N must lie on the diagonal. The authors' code, and four libraries after it, step
    through the flattened matrix by M in place of M + 1 and fill the first column with it.
    """
    m = M - 1
    weights = np.full((M, M), 1 / m)
    for i in range(M):
        weights[i, i] = 1 / N
        weights[i, (i + 1) % M] = (N - m) / (N * m)
    return weights


def from_densities(
    own: ArrayLike, joint: ArrayLike, marginals: ArrayLike, prior: ArrayLike
) -> KLDecomposition:
    """The terms from ln q(z|n) (S,), ln q(z) (S,), ln q(z_d) (S, D) and ln p(z) (S,) of draws.

    mutual_information = E[ln q(z|n) - ln q(z)]            of the sample's index with its code
    total_correlation  = E[ln q(z) - Σ_d ln q(z_d)]        of the latents with one another
    dimension_wise_kl  = E[Σ_d ln q(z_d) - ln p(z)]        of each latent to its prior
    """
    product = np.sum(marginals, axis=1)
    terms = np.subtract(own, joint), joint - product, product - np.asarray(prior)
    return KLDecomposition(*(float(term.mean()) for term in terms))


def kl_decomposition(z: ArrayLike, mu: ArrayLike, logvar: ArrayLike) -> KLDecomposition:
    """The terms over the whole aggregate posterior, z[n] (D,) drawn from sample n of mu, logvar.

    z, mu, logvar: (N, D). Over the draws, E[sum of the terms] = KL(q(z|n) ‖ N(0, I)), and the
    mutual information is at most ln N.
    """
    z, mu, logvar = (np.asarray(a, dtype=np.float64) for a in (z, mu, logvar))
    joint, marginals = log_mixture(z, mu, logvar, -np.log(len(mu)))
    own, prior = log_normal(z, mu, logvar).sum(1), log_normal(z, 0, 0).sum(1)
    return from_densities(own, joint, marginals, prior)


def minibatch_decomposition(
    z: ArrayLike, mu: ArrayLike, logvar: ArrayLike, N: int, scheme: str = "stratified"
) -> KLDecomposition:
    """The terms as one minibatch of M among N samples sees them; z, mu, logvar: (M, D).

    `scheme` is "stratified" or "weighted". Both are biased: they take the logarithm of a noisy
    mean, by Jensen's inequality too low, of which the draw's own density is a part, too high.
    """
    z, mu, logvar = (np.asarray(a, dtype=np.float64) for a in (z, mu, logvar))
    weights = {"stratified": stratified, "weighted": weighted}[scheme](len(mu), N)
    joint, marginals = log_mixture(z, mu, logvar, np.log(weights))
    own, prior = log_normal(z, mu, logvar).sum(1), log_normal(z, 0, 0).sum(1)
    return from_densities(own, joint, marginals, prior)


def gaussian_total_correlation(covariance: ArrayLike) -> float:
    """-1/2 ln det of the correlation matrix of a Gaussian with this covariance (D, D), nats."""
    covariance = np.asarray(covariance, dtype=np.float64)
    scale = np.sqrt(np.diag(covariance))
    return float(-np.linalg.slogdet(covariance / np.outer(scale, scale))[1] / 2)
