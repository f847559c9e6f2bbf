"""The FactorVAE score: is the latent that varies least in a group the held factor's own?

One vote: a factor k at random; codes that share its value; the latent d whose variance in the
group, divided by its variance over all codes, is smallest. Training votes give every latent the
factor it was voted for most; the score is the share of fresh votes that fall to the right factor.
No classifier is trained, so there is nothing to tune.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from betavae_core.errors import UsageError
from betavae_core.metrics.pairs import Encode, Source, as_source, at_least_one, source
from betavae_core.metrics.points import Measured, Metric, Points

Votes = NDArray[np.int64]  # (…, K, active latents) how often a latent won while a factor was held


def factorvae(
    codes: ArrayLike | Encode,
    factors: ArrayLike,
    *,
    seed: int = 0,
    **settings: Any,
) -> float:
    """The accuracy of the majority vote, in [0, 1]; about 1/K where codes say nothing.

        vote: (k, argmin_d var_group(z_d) / var(z_d)),   score = sum_d test[k(d), d] / sum test,
        k(d) = argmax_k train[k, d]

    Arguments: codes (N, D) with factors (N, K); or a function with the sizes of the factors
    (`pairs.source` has its contract). Of codes that are given, the groups are drawn from them and
    the global variances are theirs.
    Settings, those of disentanglement_lib by default: `train` (10,000) and `test` (5,000) votes,
    `members` (64) of a group, `variances` (10,000) codes for the global variances of a function,
    `prune` (0.05): latents whose standard deviation is less are left out. It is absolute, for
    posterior means whose prior is N(0, 1): scaling codes can prune them.

    Without an active latent the score is 0, as in disentanglement_lib: below chance, so that a
    collapsed model shows. With one factor it is 1. Two latents that are both constant in a
    group tie, and the first wins.

    Raises DataError for bad arrays (see `Points.of`), UsageError for bad settings.

    Source: Kim, Mnih, "Disentangling by Factorising" (ICML 2018), section 4. The count of active
    latents that disentanglement_lib returns is that of all latents; `measure`'s details have it.
    """
    given = source(codes, factors)
    return measure(given, seed=seed, resamples=0, **settings)["factorvae"].score


def measure(
    points: Points | Source,
    *,
    seed: int = 0,
    resamples: int = 0,
    members: int = 64,
    train: int = 10_000,
    test: int = 5_000,
    variances: int = 10_000,
    prune: float = 0.05,
) -> dict[str, Measured]:
    """`factorvae`. A resample draws training and test votes again from those that were cast.

    The points that are given stay as they are. (With other draws of 3,000 points, the score varied
    1.6 times as much as the resamples.)

    `details`: `active` (D,) which latents are, `votes` (K, D) of training.
    """
    at_least_one(train=train, test=test)
    if members < 2:
        raise UsageError(f"members must be at least 2 to have a variance, got {members}")
    given, rng = as_source(points), np.random.default_rng(seed)
    spread = given.points(max(variances, 2), rng).codes.var(0, ddof=1)
    active = (np.sqrt(spread) >= prune) & (spread > 0)
    votes = np.zeros((given.n_factors, len(spread)), np.int64)
    if not active.any():
        details = {"active": active, "votes": votes}
        return {"factorvae": Measured(0.0, np.zeros(resamples), details)}
    cast = [_votes(given, n, members, spread, active, rng) for n in (train, test)]
    votes[:, active] = cast[0]
    score = float(_accuracy(cast[0], cast[1]))
    again = _accuracy(*(_recast(own, resamples, rng) for own in cast))
    return {"factorvae": Measured(score, again, {"active": active, "votes": votes})}


def _votes(
    given: Source,
    n: int,
    members: int,
    spread: NDArray[np.float64],
    active: NDArray[np.bool_],
    rng: np.random.Generator,
) -> Votes:
    held = rng.integers(0, given.n_factors, n)
    winners = [
        _steadiest(given.groups(held[rows], members, rng)[..., active], spread[active])
        for rows in given.batches(n, members)
    ]
    shape = given.n_factors, int(active.sum())
    cells = np.ravel_multi_index((held, np.concatenate(winners)), shape)
    return np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)


def _steadiest(groups: NDArray[np.floating], spread: NDArray[np.float64]) -> NDArray[np.intp]:
    """(G,) the latent of smallest normalised variance in groups (G, members, D)."""
    return (groups.var(1, ddof=1, dtype=np.float64) / spread).argmin(1)


def _accuracy(train: Votes, test: Votes) -> NDArray[np.float64]:
    """(…) the share of test votes for the factor that leads the latent's training votes."""
    leads = train.argmax(-2)[..., None, :]
    right = np.take_along_axis(test, leads, axis=-2)
    return np.asarray(right.sum((-2, -1)) / test.sum((-2, -1)))


def _recast(votes: Votes, resamples: int, rng: np.random.Generator) -> Votes:
    """(resamples, K, D): as many votes, drawn with replacement from these."""
    total = votes.sum()
    drawn = rng.multinomial(total, votes.ravel() / total, size=resamples)
    return drawn.reshape(resamples, *votes.shape)


METRIC = Metric(names=("factorvae",), measure=measure)
