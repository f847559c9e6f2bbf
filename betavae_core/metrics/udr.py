"""UDR: do models trained alike from different seeds find the same latents? It needs no labels.

Disentangled models are alike up to order, sign and scale of their latents; entangled ones are
entangled each in its own way.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from betavae_core.errors import DataError, UsageError

Floats = NDArray[np.float64]

ACTIVE_NATS = 0.01
PENALTY = 0.1
_SWEEPS, _TOLERANCE = 10_000, 1e-8


def udr(
    codes: Sequence[ArrayLike],
    kls: Sequence[ArrayLike],
    *,
    correlation: str = "lasso",
    threshold: float = ACTIVE_NATS,
    penalty: float = PENALTY,
) -> Floats:
    """(models,) the median over the other models of `udr_scores`, each in [0, 1], higher is better.

    codes: for each model the codes (N, D_i), posterior means, of the same N samples in the same
    order. kls: for each the KL of its latents (D_i,), in nats. With an even number of others the
    median is the mean of the middle two. A model without active latents scores 0, and takes part
    as 0 in the medians of the others.

    The other arguments and the errors are those of `udr_scores`.

        >>> z = np.random.default_rng(0).normal(size=(1000, 2))
        >>> alike, turned = z[:, ::-1] * [-2, 3], z @ [[1, 1], [1, -1]]
        >>> udr([z, alike, turned], [[1, 1]] * 3).round(1).tolist()
        [0.6, 0.6, 0.3]

    Source: Duan et al., "Unsupervised model selection for variational disentangled representation
    learning" (2020), section 4.
    """
    scores = udr_scores(codes, kls, correlation=correlation, threshold=threshold, penalty=penalty)
    return np.asarray(np.nanmedian(scores, axis=1))


def udr_scores(
    codes: Sequence[ArrayLike],
    kls: Sequence[ArrayLike],
    *,
    correlation: str = "lasso",
    threshold: float = ACTIVE_NATS,
    penalty: float = PENALTY,
) -> Floats:
    """(models, models) how alike the latents a of model i and b of model j are; NaN where i = j.

        score_ij = ½ [ mean_b (max_a R_ab)² / Σ_a R_ab  +  mean_a (max_b R_ab)² / Σ_b R_ab ]

    over the active latents, of KL > `threshold` nats, of which R_ab is

    - "lasso": |w_ab| of code b fitted by the codes a, both standardised, with `penalty`·|w|_1 on
      ½ the mean squared error: so from i to j is not from j to i, and a perfect match of latents
      has R = 1 - penalty, which is the highest score; or
    - "spearman": their absolute rank correlation.

    A latent that nothing matches counts 0, as does a pair in which one model has no active latent.
    Only active latents are fitted: standardised, the others would be as large as these.

    Raises DataError for fewer than two models, for codes that are not (N, D_i) finite numbers of
    the same N, and for kls that do not fit them; UsageError for other settings.

    Source: Duan et al. (2020), equation 3, with the two means weighing ½ each as in
    disentanglement_lib, which has the paper's threshold, .01, built in.
    """
    if correlation not in ("lasso", "spearman") or not 0 <= penalty < 1:
        raise UsageError(
            "correlation must be lasso or spearman and penalty in [0, 1), "
            f"got {correlation!r} and {penalty}"
        )
    models = [c[:, kl > threshold] for c, kl in _checked(codes, kls)]
    if correlation == "spearman":
        models = [rankdata(c, axis=0) if c.size else c for c in models]
    scaled = np.hstack([_standardised(c) for c in models])
    gram = scaled.T @ scaled / len(scaled)
    ends = np.cumsum([0, *(c.shape[1] for c in models)])
    parts = [slice(*pair) for pair in pairwise(ends)]
    scores = np.full((len(models), len(models)), np.nan)
    for i, own in enumerate(parts):
        R = np.abs(
            gram[own] if correlation == "spearman" else lasso(gram[own, own], gram[own], penalty)
        )
        for j, other in enumerate(parts):
            if i != j:
                scores[i, j] = _match(R[:, other])
    return scores


def lasso(gram: Floats, covariance: Floats, penalty: float) -> Floats:
    """Coefficients (D, T) of T targets on D predictors, from their products over N samples.

        W = argmin tr(W' gram W)/2 - tr(W' covariance) + penalty·|W|_1

    gram (D, D) = X'X/N with a diagonal of 1, or 0 where a predictor is constant; covariance (D, T)
    = X'Y/N. Coordinate descent, a latent at a time for all targets at once.

    Source: Friedman, Hastie, Tibshirani, "Regularization paths for generalized linear models via
    coordinate descent" (2010), equation 9.
    """
    W = np.zeros_like(covariance)
    for _ in range(_SWEEPS):
        before = W.copy()
        for a in range(len(gram)):
            rest = covariance[a] - gram[a] @ W + gram[a, a] * W[a]
            W[a] = np.sign(rest) * np.maximum(np.abs(rest) - penalty, 0)
        if not W.size or np.abs(W - before).max() < _TOLERANCE:
            break
    return W


def _match(R: Floats) -> float:
    """score_ij of R (D_i, D_j)."""
    if not R.size:
        return 0.0
    means = []
    for axis in (0, 1):
        total = R.sum(axis)
        share = np.divide(R.max(axis) ** 2, total, out=np.zeros_like(total), where=total > 0)
        means.append(share.mean())
    return float(np.mean(means))


def _standardised(codes: Floats) -> Floats:
    """Mean 0 and variance 1; a constant, which says nothing, 0 but for rounding."""
    centred = codes - codes.mean(0)
    scale = centred.std(0)
    varies = scale > 1e-12 * np.abs(codes).max(0, initial=0)
    return np.asarray(centred / np.where(varies, scale, 1))


def _checked(codes: Sequence[ArrayLike], kls: Sequence[ArrayLike]) -> list[tuple[Floats, Floats]]:
    if len(codes) < 2 or len(codes) != len(kls):
        raise DataError(
            "UDR compares models: it takes codes and KLs of two or more, "
            f"got {len(codes)} and {len(kls)}"
        )
    checked = []
    for i, (code, kl) in enumerate(zip(codes, kls, strict=True)):
        z, k = np.asarray(code), np.asarray(kl)
        if z.ndim != 2 or not len(z) or z.dtype.kind not in "biuf" or not np.isfinite(z).all():
            raise DataError(f"codes of model {i} must be (N, D) finite numbers, got {z.shape}")
        if k.shape != z.shape[1:] or k.dtype.kind not in "biuf" or np.isnan(k).any():
            raise DataError(
                f"kls of model {i} must be the KL of its {z.shape[1]} latents, got {k.shape}"
            )
        checked.append((z.astype(np.float64), k.astype(np.float64)))
    counts = sorted({len(z) for z, _ in checked})
    if len(counts) > 1:
        raise DataError(f"all codes must be of the same samples in the same order, got N {counts}")
    return checked
