"""DCI: which latents a predictor of each factor uses, and how well it predicts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr
from sklearn.utils.parallel import Parallel, delayed

from betavae_core.cores import cores
from betavae_core.errors import DataError, UsageError
from betavae_core.metrics.points import Measured, Metric, Points
from betavae_core.metrics.predictors import PREDICTORS, Prediction
from betavae_core.metrics.resampling import draw_weights, split

Floats = NDArray[np.float64]

NAMES = ("dci_disentanglement", "dci_completeness", "dci_informativeness")
WORTH_WORKERS = 100_000  # points times values; below, a process takes longer to start than to fit


def dci(
    codes: ArrayLike, factors: ArrayLike, *, model: str = "boosting", seed: int = 0
) -> tuple[float, float, float]:
    """Disentanglement, completeness and informativeness of codes (N, D) and factors (N, K).

    Of the importance R_jk of latent j to the prediction of factor k,

        disentanglement = Σ_j ρ_j [ 1 - H_K(R_jk / Σ_k R_jk) ],   ρ_j = Σ_k R_jk / Σ_jk R_jk
        completeness    = 1/K Σ_k [ 1 - H_D(R_jk / Σ_j R_jk) ]

    with H to the base K or D: both are in [0, 1]. A predictor is fitted to two thirds of the
    points; informativeness is its skill on the others, the mean over factors. By `model`:

        boosting  100 stages of gradient-boosted trees; R sums to 1 over latents; the skill is
                  accuracy, in [0, 1]
        lasso     |coefficients| between standardised codes and the indices of a factor's values;
                  the skill is 1 - RMSE / σ, at most 1, 0 for predicting the mean
        forest    a random forest of 10 trees of depth 12 on these indices; the skill as for the
                  lasso

    Raises DataError for arrays that are not codes and factors, for a single latent or a single
    factor, and for too few points; UsageError for another model.

    Source: Eastwood, Williams, "A framework for the quantitative evaluation of disentangled
    representations" (2018), section 2, which has lasso and forest and reports RMSE / σ, an error;
    boosting and accuracy are disentanglement_lib's. It weighs completeness by Σ_j R_jk, which is 1
    for its predictor, so it is the same mean.
    """
    measured = measure(Points.of(codes, factors), seed=seed, model=model)
    disentanglement, completeness, informativeness = (measured[name].score for name in NAMES)
    return disentanglement, completeness, informativeness


def measure(
    points: Points,
    *,
    seed: int = 0,
    resamples: int = 0,
    model: str = "boosting",
    workers: int | None = None,
) -> dict[str, Measured]:
    """The three scores; the details of each hold `importance` (D, K), and what it is a mean of.

    Resamples reweigh the fitted points, under which the importances of the same predictors change,
    and the scoring points; no tree is grown again. The factors are fitted in `workers` processes,
    by default as many as there are cores where trees are boosted on many points; their number
    changes nothing but the time.
    """
    _check(points, model)
    train, test = split(points, seed)
    weights = draw_weights(len(train), resamples, seed)
    predictions = _predict(train, test, weights, model, seed, workers)
    importance = np.stack([p.importance for p in predictions], axis=2)
    informed = _skills([p.test for p in predictions], test, resamples, model, seed)
    fitted = _skills([p.fitted for p in predictions], train, 0, model, seed)
    latents, factors = _one_sided(importance), _one_sided(importance.swapaxes(1, 2))
    share = importance.sum(2) / np.maximum(importance.sum((1, 2)), np.finfo(float).tiny)[:, None]
    return {
        NAMES[0]: _measured((share * latents).sum(1), importance, per_latent=latents[0]),
        NAMES[1]: _measured(factors.mean(1), importance, per_factor=factors[0]),
        NAMES[2]: _measured(
            informed.mean(1), importance, per_factor=informed[0], fitted=float(fitted.mean())
        ),
    }


def _check(points: Points, model: str) -> None:
    if model not in PREDICTORS:
        raise UsageError(f"model must be one of {', '.join(PREDICTORS)}, got {model!r}")
    for name, array in (("codes", points.codes), ("factors that vary", points.factors)):
        if array.shape[1] < 2:
            raise DataError(f"dci compares both ways: there must be at least 2 {name}, got 1")


def _predict(
    train: Points, test: Points, weights: Floats, model: str, seed: int, workers: int | None
) -> list[Prediction]:
    """The prediction of each factor; the one with the most values first, for it takes longest."""
    if workers is None:
        much = model == "boosting" and len(train) * sum(train.sizes) >= WORTH_WORKERS
        workers = cores() if much else 1
    predict = PREDICTORS[model].predict
    slowest = np.argsort(train.sizes)[::-1]
    predictions = Parallel(n_jobs=min(workers, len(slowest)), batch_size=1)(
        delayed(predict)(train.codes, train.factors[:, k], test.codes, weights, seed)
        for k in slowest
    )
    return [predictions[place] for place in np.argsort(slowest)]


def _skills(
    predicted: list[NDArray], points: Points, resamples: int, model: str, seed: int
) -> Floats:
    """(1 + resamples, K)"""
    weights = draw_weights(len(points), resamples, seed)
    skill = PREDICTORS[model].skill
    columns = zip(predicted, points.factors.T, strict=True)
    return np.stack([skill(p, values, weights) for p, values in columns], axis=1)


def _one_sided(importance: Floats) -> Floats:
    """1 - H (R, rows) of each row of (R, rows, columns), H to the base of the columns.

    0 for a row without importance: it is of use to nothing in particular.
    """
    total = importance.sum(2, keepdims=True)
    columns = importance.shape[2]
    even = np.full_like(importance, 1 / columns)
    shares = np.divide(importance, total, out=even, where=total > 0)
    return 1 - entr(shares).sum(2) / np.log(columns)


def _measured(scores: Floats, importance: Floats, **details: Any) -> Measured:
    return Measured(float(scores[0]), scores[1:], {"importance": importance[0], **details})


METRIC = Metric(names=NAMES, measure=measure, best=dict.fromkeys(NAMES[:2], 1.0))
