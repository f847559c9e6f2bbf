"""The metric of the β-VAE paper: can a linear classifier tell which factor two images share?

One example: a factor k at random; L pairs of codes, each pair sharing its value of k and nothing
else; z_diff, the mean of |z - z'| over the pairs, is small in the latents that depend on k alone.
The classifier learns k from z_diff, and the score is its accuracy on fresh examples.

The protocol of the classifier moves the score more than most models do: state it with the score.
`examples` and `hits` are there for whoever wants several classifiers on the same pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from betavae_core.errors import UsageError
from betavae_core.metrics import softmax
from betavae_core.metrics.pairs import Encode, Source, as_source, at_least_one, source
from betavae_core.metrics.points import Measured, Metric, Points

CLASSIFIERS = ("logistic", "adagrad")
_EXAMPLES, _FITS, _RESAMPLES = range(3)  # each draws from a stream of its own under one seed
PENALTY = 1.0  # scikit-learn's default, C = 1


@dataclass(frozen=True)
class Examples:
    """z_diff (train, D) and (test, D), and the factor 0 … n_factors - 1 behind each."""

    train: NDArray[np.float64]
    train_factor: NDArray[np.int64]
    test: NDArray[np.float64]
    test_factor: NDArray[np.int64]
    n_factors: int

    def standardised(self) -> Examples:
        """With mean 0 and deviation 1 over the training examples; a constant latent becomes 0."""
        mean, deviation = self.train.mean(0), self.train.std(0)
        scale = np.where(deviation > 0, deviation, 1)
        train, test = (self.train - mean) / scale, (self.test - mean) / scale
        return Examples(train, self.train_factor, test, self.test_factor, self.n_factors)


def higgins(
    codes: ArrayLike | Encode,
    factors: ArrayLike,
    *,
    seed: int = 0,
    **settings: Any,
) -> float:
    """The accuracy, 1/K (chance) to 1, of a linear classifier of the factor that pairs share.

        z_diff = 1/L sum_l |z_l - z'_l|,   score = accuracy of argmax_k (z_diff W + b)_k

    Arguments: codes (N, D) with factors (N, K); or a function with the sizes of the factors
    (`pairs.source` has its contract). Of codes that are given, the pairs are drawn from them.
    Settings, those of disentanglement_lib by default: `pairs` (L, 64), `train` (10,000) and
    `test` (5,000) examples; `classifier`, "logistic" (the minimum of the loss with scikit-learn's
    default penalty) or "adagrad" (`iterations`, 10,000, steps of 1e-2 on 64 examples);
    `standardise` z_diff (False); `seeds` (1) draws of examples, with `classifiers` (1) fits each,
    of whose accuracies the best share `kept` (1.0) is averaged: the paper's protocol is 10 seeds,
    3 classifiers, kept 0.5. The logistic fit has one minimum, so repeats of it are not made.

    With one factor there is nothing to tell apart, and the score is 1. Raises DataError for bad
    arrays (see `Points.of`), UsageError for bad settings.

        higgins(lambda v: encoder(draw(v)), (3, 6, 40, 32, 32), pairs=200, standardise=True)

    Source: Higgins et al., "beta-VAE" (ICLR 2017), section 3. In disentanglement_lib the classifier
    stops where scikit-learn's default number of steps ends; ours goes to the minimum.
    """
    given = source(codes, factors)
    return measure(given, seed=seed, resamples=0, **settings)["higgins"].score


def examples(given: Source, *, pairs: int, train: int, test: int, seed: int) -> Examples:
    """Fresh examples of both kinds. Raises UsageError for a count below 1."""
    at_least_one(pairs=pairs, train=train, test=test)
    rng = np.random.default_rng([seed, _EXAMPLES])
    factor = rng.integers(0, given.n_factors, train + test)
    z_diff = differences(given, factor, pairs, rng)
    halves = z_diff[:train], factor[:train], z_diff[train:], factor[train:]
    return Examples(*halves, n_factors=given.n_factors)


def differences(
    given: Source, factor: NDArray[np.int64], pairs: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(n, D): the mean of |z - z'| over `pairs` pairs that share the value of factor[i]."""
    means = []
    for rows in given.batches(len(factor), 2 * pairs):
        codes = given.groups(np.repeat(factor[rows], pairs), 2, rng)
        apart = codes[:, 0] - codes[:, 1]
        np.abs(apart, out=apart)
        means.append(apart.reshape(-1, pairs, apart.shape[1]).mean(1, dtype=np.float64))
    return np.concatenate(means)


def hits(
    task: Examples,
    *,
    classifier: str = "logistic",
    standardise: bool = False,
    classifiers: int = 1,
    iterations: int = 10_000,
    seed: int = 0,
) -> NDArray[np.bool_]:
    """(classifiers, test) whether each got each test example right; one row for "logistic"."""
    if classifier not in CLASSIFIERS:
        raise UsageError(f"classifier must be one of {', '.join(CLASSIFIERS)}, got {classifier!r}")
    at_least_one(classifiers=classifiers, iterations=iterations)
    task = task.standardised() if standardise else task
    known = task.train, task.train_factor, task.n_factors
    if classifier == "logistic":
        fitted = softmax.logistic(*known, penalty=PENALTY)
    else:
        rng = np.random.default_rng([seed, _FITS])
        fitted = softmax.adagrad(*known, rng=rng, repeats=classifiers, iterations=iterations)
    right = fitted.logits(task.test).argmax(-1) == task.test_factor
    return right.reshape(-1, len(task.test))


def measure(
    points: Points | Source,
    *,
    seed: int = 0,
    resamples: int = 0,
    pairs: int = 64,
    train: int = 10_000,
    test: int = 5_000,
    seeds: int = 1,
    kept: float = 1.0,
    **protocol: Any,
) -> dict[str, Measured]:
    """`higgins`; `protocol` are the settings of `hits`. `details["accuracies"]` is (seeds, fits).

    A resample draws again, with replacement, the test examples; of several seeds, the seeds, whose
    accuracies differ by their test examples too. No point is new and nothing is fitted again.
    (With other draws of 3,000 points and 3,000 examples to train on, the score varied 1.3 times as
    much as the resamples of the test examples.)
    """
    at_least_one(seeds=seeds)
    if not 0 < kept <= 1:
        raise UsageError(f"kept must be in (0, 1], got {kept}")
    given, rng = as_source(points), np.random.default_rng([seed, _RESAMPLES])
    right = [
        hits(examples(given, pairs=pairs, train=train, test=test, seed=own), seed=own, **protocol)
        for own in range(seed, seed + seeds)
    ]
    accuracies = np.array([own.mean(1) for own in right])
    if seeds > 1:
        again = accuracies[rng.integers(0, seeds, (resamples, seeds))]
        again = again.reshape(resamples, accuracies.size)
    else:
        again = right[0][:, rng.integers(0, test, (resamples, test))].mean(2).T
    score = float(_best(accuracies.ravel(), kept))
    return {"higgins": Measured(score, _best(again, kept), {"accuracies": accuracies})}


def _best(accuracies: NDArray[np.float64], kept: float) -> NDArray[np.float64]:
    """The mean of the highest share `kept` of the last axis, at least one of them."""
    n = accuracies.shape[-1]
    return np.sort(accuracies, -1)[..., n - math.ceil(kept * n) :].mean(-1)


METRIC = Metric(names=("higgins",), measure=measure)
