"""InfoMEC: modularity, compactness, explicitness, each in terms of information and in [0, 1].

The first two ask, of the matrix of mutual informations I(s_i; z_j) / H(s_i), how far each latent
has one factor to itself, and each factor one latent. Latents are continuous: the information is
estimated from nearest neighbours, with no bins. The third asks how much of each factor a linear
classifier reads off all the latents together.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import digamma

from betavae_core.metrics import softmax
from betavae_core.metrics.contingency import entropies
from betavae_core.metrics.pairs import at_least_one
from betavae_core.metrics.points import Measured, Metric, Points
from betavae_core.metrics.resampling import draw_weights

Floats = NDArray[np.float64]

INACTIVE = 1 / 20  # latents whose range is at most this share of the widest are left out


def infom(codes: ArrayLike, factors: ArrayLike, *, neighbours: int = 10) -> float:
    """InfoM, the modularity of codes (N, D) for factors (N, K), in [0, 1].

        (mean_j max_i NMI_ij / sum_i NMI_ij - 1/K) / (1 - 1/K),   NMI_ij = I(s_i; z_j) / H(s_i)

    over the active latents j, those whose range is over a twentieth of the widest. A latent that
    informs of no factor counts as 0, and so do codes without an active latent; with one factor
    the score is the share of latents that inform of it.

    Noise scores about a half, not 0: of a latent's estimates of no information some are clipped
    at 0 and one stands out from the rest. Compare with a floor.

    Raises DataError for bad arrays (see `Points.of`), UsageError for neighbours below 1.

    Source: Hsu, Dorrell, Whittington, Wu, Finn, "Disentanglement via Latent Quantization" (NeurIPS
    2023); formula, active latents and the 10 neighbours as in the authors' published code.
    """
    return measure(Points.of(codes, factors), resamples=0, neighbours=neighbours)["infom"].score


def infoc(codes: ArrayLike, factors: ArrayLike, *, neighbours: int = 10) -> float:
    """InfoC, the compactness of codes (N, D) for factors (N, K), in [0, 1].

        (mean_i max_j NMI_ij / sum_j NMI_ij - 1/A) / (1 - 1/A),   A active latents

    A factor that no latent informs of counts as 0; with one active latent the score is the share
    of factors that it informs of. Everything else is as for `infom`.
    """
    return measure(Points.of(codes, factors), resamples=0, neighbours=neighbours)["infoc"].score


def infoe(codes: ArrayLike, factors: ArrayLike) -> float:
    """InfoE, the explicitness of codes (N, D) for factors (N, K), in [0, 1].

        mean_i (H(s_i) - L(s_i | z)) / H(s_i),   L = min_W,b -mean_n ln softmax(z_n W + b)[s_ni]

    the predictive information of Xu et al. (ICLR 2020) with linear models, over its maximum: the
    null model, a bias alone, has the loss H. In nats within; the codes' scale is of no effect.

    The loss is that of the points fitted, as in the authors' code: codes that say nothing score
    about D (V - 1) / (2 N H) for a factor of V values. Two of their choices are not taken over:
    the fit ends after 100 steps (for 32 positions and 10 principal components of images at .686,
    where the minimum has .707 and ours .700); and classes are weighed to balance in the fit but
    not in the loss, which with classes of unlike sizes is no information.

    Raises DataError for bad arrays (see `Points.of`). Source: see `infom`.
    """
    points = Points.of(codes, factors)
    return float(_explicitness(points, draw_weights(len(points), 0, 0)).mean())


def measure(
    points: Points,
    *,
    seed: int = 0,
    resamples: int = 0,
    neighbours: int = 10,
) -> dict[str, Measured]:
    """`infom`, `infoc`, `infoe`. A resample weighs the terms that each point adds to a score.

    That is: neighbours are those among all points, and no classifier is fitted again. Over fresh
    draws of 3,000 points `infom` and `infoc` varied a quarter more than that, `infoe` as much.
    `details`: of the first two `nmi` (D, K) and `active` (D,), of the third `explicitness` (K,).
    """
    at_least_one(neighbours=neighbours)
    weights = draw_weights(len(points), resamples, seed)
    ranges = np.ptp(points.codes, axis=0)
    active = ranges > ranges.max() * INACTIVE
    nmi = _normalised_informations(points, neighbours, weights)
    explicitness = _explicitness(points, weights)
    shared = {"nmi": nmi[0], "active": active}
    return {
        "infom": _measured(_unspread(nmi[:, active].swapaxes(1, 2)), shared),
        "infoc": _measured(_unspread(nmi[:, active]), shared),
        "infoe": _measured(explicitness.mean(1), {"explicitness": explicitness[0]}),
    }


def information(code: ArrayLike, labels: ArrayLike, *, neighbours: int = 10) -> float:
    """I(labels; code) in nats, of a number (N,) and a class (N,), by nearest neighbours; >= 0.

        psi(N) - mean psi(N_x) + mean psi(k) - mean psi(m)      (psi: digamma)

    N_x points have the class of point i; the ball about i reaches its `neighbours`-th neighbour
    of its class (its last, where there are fewer); k points of its class and m of any lie in it,
    without i. Points alone in their class are left out.

    For a continuous code k = neighbours and this is the estimator of Ross (PLoS ONE 2014), and
    scikit-learn's `mutual_info_classif` but for the noise which that adds to break ties. Here
    ties are counted, as Gao et al. (NIPS 2017) do: where they fill the ball its radius is 0, and
    k and m count the equal codes. So a discrete code gets its plug-in information but for terms
    of the order of one over the counts, and the estimate is the same each time.

    Raises DataError for other shapes and for NaN, UsageError for neighbours below 1.
    """
    at_least_one(neighbours=neighbours)
    points = Points.of(np.reshape(code, (-1, 1)), np.reshape(labels, (-1, 1)))
    terms = _terms(points.codes[:, 0], points.factors, neighbours)
    return float(_clipped_information(terms, draw_weights(len(points), 0, 0))[0, 0])


def _normalised_informations(points: Points, neighbours: int, weights: Floats) -> Floats:
    """(R + 1, D, K): NMI of all points, then of each resample."""
    latents = [_terms(code, points.factors, neighbours) for code in points.codes.T]
    nmi = np.stack([_clipped_information(terms, weights) for terms in latents], axis=1)
    return _quotient(nmi, entropies(points.factors, weights)[:, None, :]).clip(0, 1)


def _clipped_information(terms: Floats, weights: Floats) -> Floats:
    """(R + 1, K): the weighted means of those terms (K, N) that are numbers; 0 where below 0."""
    counted = ~np.isnan(terms)
    return _quotient(weights @ np.where(counted, terms, 0).T, weights @ counted.T).clip(0)


def _terms(code: Floats, factors: NDArray[np.int64], neighbours: int) -> Floats:
    """(K, N) what each point adds to the mean that estimates I(factor; code).

    psi(N) - psi(N_x) + psi(k) - psi(m), or NaN for a point that is alone in its class.
    """
    order = np.argsort(code, kind="stable")
    terms = np.full((factors.shape[1], len(code)), np.nan)
    for row, labels in zip(terms, factors[order].T, strict=True):
        shared = np.bincount(labels)[labels] > 1
        row[order[shared]] = _ross(code[order[shared]], labels[shared], neighbours)
    return terms


def _ross(code: Floats, labels: NDArray[np.int64], neighbours: int) -> Floats:
    """(N,) the terms of points in the order of their code, none of them alone in its class."""
    n, by_class = len(code), np.argsort(labels, kind="stable")  # each class in the code's order
    x, y = code[by_class], labels[by_class]
    counts = np.bincount(y)
    radius = _reach(x, (counts.cumsum() - counts)[y], counts[y], neighbours)
    slack = 2 * np.finfo(float).eps * (np.abs(x) + radius)  # so that rounding loses no neighbour
    low = np.searchsorted(code, x - radius - slack, side="left")
    high = np.searchsorted(code, x + radius + slack, side="right")
    # Places in the code's order, made unlike from class to class: one array to search for all.
    places = y * n + by_class
    own = np.searchsorted(places, y * n + high) - np.searchsorted(places, y * n + low)
    terms = np.empty(n)
    terms[by_class] = digamma(n) - digamma(counts[y]) + digamma(own - 1) - digamma(high - low - 1)
    return terms


def _reach(x: Floats, start: NDArray[np.int64], size: NDArray[np.int64], neighbours: int) -> Floats:
    """(N,) how far the k-th neighbour in the own class is; x in the order of class, then code.

    The k nearest and the point itself follow one another in that order: of the k + 1 such
    stretches that hold the point, the one that reaches least far.
    """
    at = np.arange(len(x))
    k = np.minimum(neighbours, size - 1)
    radius = np.full(len(x), np.inf)
    for back in range(neighbours + 1):
        first = at - back
        last = first + k
        inside = (first >= start) & (last < start + size)
        i, first, last = at[inside], first[inside], last[inside]
        radius[i] = np.minimum(radius[i], np.maximum(x[i] - x[first], x[last] - x[i]))
    return radius


def _explicitness(points: Points, weights: Floats) -> Floats:
    """(R + 1, K) of all points, then of each resample."""
    return np.stack([_predicted(points.codes, labels, weights) for labels in points.factors.T], 1)


def _predicted(codes: Floats, labels: NDArray[np.int64], weights: Floats) -> Floats:
    """(R + 1,) 1 - loss of the fit / loss of the null model; 0 where the null model has none."""
    classes = int(labels.max()) + 1
    fitted = softmax.logistic(codes, labels, classes, penalty=0.0)
    null = -np.log(np.bincount(labels)[labels] / len(labels))
    return _quotient(weights @ (null - fitted.losses(codes, labels)), weights @ null)


def _unspread(nmi: Floats) -> Floats:
    """(R + 1,) how far each column of nmi (R + 1, rows, columns) is one entry; mean over columns.

    (max / sum - 1/rows) / (1 - 1/rows), which is 0 for an even column, 1 for one entry; a column
    of zeros counts as 0.
    """
    rows, columns = nmi.shape[1:]
    if not rows or not columns:
        return np.zeros(len(nmi))
    share = _quotient(nmi.max(1), nmi.sum(1))
    even = 1 / rows if rows > 1 else 0
    return ((share - even) / (1 - even)).clip(0).mean(1)


def _quotient(above: Floats, below: Floats) -> Floats:
    """above / below, and 0 where below is not positive."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _measured(scores: Floats, details: dict[str, Floats]) -> Measured:
    return Measured(float(scores[0]), scores[1:], details)


METRIC = Metric(names=("infom", "infoc", "infoe"), measure=measure)
