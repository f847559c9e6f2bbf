"""What can be said of the codes without labels: which latents are in use, how q(z) is placed.

The posterior of sample n is N(mu[n], diag exp(logvar[n])), the prior N(0, I). All KL is in nats.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from betavae_core.errors import DataError

Floats = NDArray[np.float64]

ACTIVE_NATS = 0.1
ACTIVE_VARIANCE = 0.01
_LOGVAR_BOUNDS = (-30.0, 18.0)  # as reparam_kl bounds it, in the sample and in the KL alike


class Moments(NamedTuple):
    """`mean` (D,) and `covariance` (D, D) of q(z), and `kl_to_prior` of the Gaussian with these."""

    mean: Floats
    covariance: Floats
    kl_to_prior: float


def posteriors(mu: ArrayLike, logvar: ArrayLike) -> tuple[Floats, Floats]:
    """mu and logvar as float64 (N, D), logvar bounded to [-30, 18] as `reparam_kl` does.

    Raises DataError where the shapes differ or are not (N, D), or a number is NaN or infinite.
    """
    m, v = _codes("mu", mu), _codes("logvar", logvar)
    if m.shape != v.shape:
        raise DataError(f"mu and logvar must share one shape (N, D), got {m.shape}, {v.shape}")
    return m, np.clip(v, *_LOGVAR_BOUNDS)


def kl_per_latent(mu: ArrayLike, logvar: ArrayLike) -> Floats:
    """(D,) mean over samples of KL(q(z_d|n) ‖ N(0, 1)) = (mu² + exp(logvar) - 1 - logvar)/2.

    mu, logvar: (N, D). Source: Kingma, Welling (2014), appendix B.

        >>> kl_per_latent([[0.0, 1.0]], [[0.0, 0.0]]).tolist()
        [0.0, 0.5]
    """
    m, v = posteriors(mu, logvar)
    return np.asarray((m**2 + np.expm1(v) - v).mean(0) / 2)


def active_latents(
    mu: ArrayLike, logvar: ArrayLike, *, threshold: float = ACTIVE_NATS
) -> NDArray[np.bool_]:
    """(D,) whether a latent's KL, mean over the samples of mu, logvar (N, D), is above `threshold`.

    A latent that the encoder does not use is at the prior, 0 nats.
    """
    return kl_per_latent(mu, logvar) > threshold


def active_units(mu: ArrayLike, *, threshold: float = ACTIVE_VARIANCE) -> NDArray[np.bool_]:
    """(D,) whether the variance over the data of a latent's mean, mu (N, D), is above `threshold`.

    Source: Burda, Grosse, Salakhutdinov, "Importance weighted autoencoders" (2016), section 5.2.
    """
    return _codes("mu", mu).var(0) > threshold


def aggregate_moments(mu: ArrayLike, logvar: ArrayLike) -> Moments:
    """Mean and covariance of the aggregate posterior q(z) = 1/N Σ_n q(z|n), mu, logvar (N, D).

        mean = 1/N Σ_n mu_n            covariance = Cov(mu) + diag(1/N Σ_n exp(logvar_n))
        kl_to_prior = (tr covariance + |mean|² - D - ln det covariance)/2 >= 0

    kl_to_prior is the KL of the Gaussian of these moments to N(0, I), nats: 0 where q(z) matches
    the prior in both moments; a q(z) that is no Gaussian lies still further off, by its own KL to
    that Gaussian. An encoder that is used and at the prior in aggregate is what a VAE aims at.
    """
    m, v = posteriors(mu, logvar)
    mean, centred = m.mean(0), m - m.mean(0)
    covariance = centred.T @ centred / len(m) + np.diag(np.exp(v).mean(0))
    logdet = float(np.linalg.slogdet(covariance)[1])
    kl = (np.trace(covariance) + mean @ mean - len(mean) - logdet) / 2
    return Moments(mean, covariance, float(kl))


def gaussian_total_correlation(mu: ArrayLike) -> float:
    """-1/2 ln det of the correlation of the means, mu (N, D): their total correlation, in nats,
    were they Gaussian. 0 where they are uncorrelated, infinite where one is a sum of others.

    A latent whose mean is constant depends on nothing and is left out. The means may correlate
    where the codes with their noise do not, in latents hardly in use.

    Source: Locatello et al., "Challenging common assumptions in the unsupervised learning of
    disentangled representations" (2019), the total correlation of the mean representation.
    """
    m = _codes("mu", mu)
    varying = m[:, np.ptp(m, axis=0) > 0]
    if varying.shape[1] < 2:
        return 0.0
    return float(-np.linalg.slogdet(np.corrcoef(varying.T))[1] / 2)


def _codes(name: str, array: ArrayLike) -> Floats:
    given = np.asarray(array)
    if given.ndim != 2 or given.dtype.kind not in "biuf" or not given.size:
        raise DataError(f"{name} must be (N, D) numbers, got {given.shape} {given.dtype}")
    if not np.isfinite(given).all():
        raise DataError(f"{name} must be finite, found NaN or infinity")
    return given.astype(np.float64)
