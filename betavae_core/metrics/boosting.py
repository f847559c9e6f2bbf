"""The gradient-boosted trees of scikit-learn's GradientBoostingClassifier, several times as fast.

100 stages at a rate of 0.1; in each, for every class, a regression tree of depth 3 on y - p, what
the softmax of the sums so far leaves of the one-hot answers. A node of n points is cut where the
squared error falls most, between any two different values of any latent. With S_L the sum of the
targets, less their mean, over the n_L points below the cut, the fall is

    S_L²/n_L + S_R²/n_R  =  n S_L² / (n_L n_R)

and a leaf adds (V - 1)/V · Σ r / Σ |r| (1 - |r|) over its targets r. (For two classes scikit-learn
grows one tree under a sigmoid: the same sums, as the two trees are each other's negative.)

scikit-learn sorts every latent again in every node of every tree. Here they are sorted once, and
a node hands the order on to its children; the falls of all cuts are then running sums. Of latents
that cut equally well either takes one at random, and there is no other difference.

The importance of a latent is the fall of the squared error in all cuts on it, over all trees. Under
resample weights it is the fall of the weighted error in the same cuts: nothing is fitted again.

Source: Friedman, "Greedy function approximation: a gradient boosting machine" (2001), algorithms
5 and 6.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Sorted = tuple[NDArray[np.intp], NDArray[np.float32]]  # points in order, and their values, (D, n)

STAGES = 100
RATE = 0.1
DEPTH = 3
APART = np.float32(1e-7)  # values closer than this are one
PURE = np.finfo(np.float64).eps  # a variance that is not worth a cut
ROUNDING = 1e-10  # of a gain: the same cut on two latents sums its targets in two orders


class Boosted(NamedTuple):
    """Importance (R, D) of each latent, summing to 1, and predicted values."""

    importance: Floats
    predicted: Indices
    predicted_test: Indices


class Cut(NamedTuple):
    """A latent, and the leaves first … middle - 1 below and middle … last - 1 above the cut."""

    latent: int
    first: int
    middle: int
    last: int


class Tree(NamedTuple):
    """Its cuts, and of every leaf the rows of the points and of the test points in it."""

    cuts: list[Cut]
    leaves: list[NDArray[np.intp]]
    test_leaves: list[NDArray[np.intp]]


def boost(
    codes: Floats,
    values: Indices,
    codes_test: Floats,
    weights: Floats,
    *,
    seed: int,
    stages: int = STAGES,
) -> Boosted:
    """Fit the values (N,) to codes (N, D); weights (R, N) are those of the resamples.

    Row 0 of the weights being ones, row 0 of the importance is that of the fit. The seed decides
    between latents that cut equally well.
    """
    x, x_test = codes.astype(np.float32), codes_test.astype(np.float32)
    present, dense = np.unique(values, return_inverse=True)
    falls = np.zeros((len(weights), x.shape[1]))
    if len(present) == 1:  # nothing to tell apart
        return Boosted(falls, values, np.repeat(present, len(x_test)))
    answers = (dense == np.arange(len(present))[:, None]).astype(np.float64)
    start = np.log(answers.mean(1, keepdims=True))
    sums, sums_test = (np.repeat(start, len(z), axis=1) for z in (x, x_test))
    ordered, rng = _sorted(x), np.random.default_rng(seed)
    for _ in range(stages):
        residuals = answers - softmax(sums, axis=0)
        for v, residual in enumerate(residuals):
            tree = _grow(ordered, residual, x_test, rng)
            _add(tree, residual, sums[v], sums_test[v], len(answers))
            _fall(tree, residual, weights, falls)
    total = falls.sum(1, keepdims=True)
    importance = np.divide(falls, total, out=np.zeros_like(falls), where=total > 0)
    return Boosted(importance, present[sums.argmax(0)], present[sums_test.argmax(0)])


def _sorted(x: NDArray[np.float32]) -> Sorted:
    order = np.ascontiguousarray(np.argsort(x, axis=0, kind="stable").T)
    return order, np.take_along_axis(x.T, order, axis=1)


def _grow(
    ordered: Sorted, residual: Floats, x_test: NDArray[np.float32], rng: np.random.Generator
) -> Tree:
    """The tree for targets (N,), and where it puts the test points."""
    tree = Tree([], [], [])

    def grow(node: Sorted, rows_test: NDArray[np.intp], depth: int) -> None:
        """Append the node's leaves, left to right, and after them its cut."""
        order, x = node
        place = _best_cut(residual[order], x, rng) if depth else None
        if place is None:
            tree.leaves.append(order[0])
            tree.test_leaves.append(rows_test)
            return
        latent, below = place
        threshold = np.float64(x[latent, below - 1]) / 2 + np.float64(x[latent, below]) / 2
        goes_below = x_test[rows_test, latent] <= threshold
        left, right = _parted(node, latent, below, len(residual), whole=depth > 1)
        first = len(tree.leaves)
        grow(left, rows_test[goes_below], depth - 1)
        middle = len(tree.leaves)
        grow(right, rows_test[~goes_below], depth - 1)
        tree.cuts.append(Cut(latent, first, middle, len(tree.leaves)))

    grow(ordered, np.arange(len(x_test)), DEPTH)
    return tree


def _best_cut(
    targets: Floats, x: NDArray[np.float32], rng: np.random.Generator
) -> tuple[int, int] | None:
    """The latent and the number of points below the best cut; None where there is none.

    `targets` (D, n), which are centred in place, and values x (D, n) are in the order of each
    latent.
    """
    n = targets.shape[1]
    targets -= targets[0].mean()  # then S = 0
    if n < 2 or targets[0] @ targets[0] <= n * PURE:
        return None
    gain = np.cumsum(targets[:, :-1], axis=1)
    gain *= gain
    below = np.arange(1.0, n)
    gain *= 1 / (below * (n - below))
    gain *= x[:, 1:] > x[:, :-1] + APART
    before = gain.argmax(1)
    best = gain[np.arange(len(gain)), before]
    if best.max() <= 0:
        return None
    equal = np.flatnonzero(best >= best.max() * (1 - ROUNDING))
    latent = int(equal[int(rng.random() * len(equal))])
    return latent, int(before[latent]) + 1


def _parted(node: Sorted, latent: int, below: int, N: int, whole: bool) -> tuple[Sorted, Sorted]:
    """The order on either side of a cut: of every latent, or of one where nothing follows."""
    order, x = node
    if not whole:
        one, sides = order[latent : latent + 1], (slice(below), slice(below, None))
        return (one[:, sides[0]], x[:1, sides[0]]), (one[:, sides[1]], x[:1, sides[1]])
    goes_below = np.zeros(N, bool)
    goes_below[order[latent, :below]] = True
    left = goes_below[order]
    lower, upper = (np.flatnonzero(side).reshape(len(order), -1) for side in (left, ~left))
    return (order.take(lower), x.take(lower)), (order.take(upper), x.take(upper))


def _add(tree: Tree, residual: Floats, sums: Floats, sums_test: Floats, V: int) -> None:
    """Add the leaves' values, at the rate, to the sums of the points in them."""
    share = RATE * (V - 1) / V
    for rows, rows_test in zip(tree.leaves, tree.test_leaves, strict=True):
        r = np.abs(residual[rows])
        curvature = (r * (1 - r)).sum()
        value = residual[rows].sum() / curvature if curvature > len(rows) * 1e-150 else 0.0
        sums[rows] += share * value
        sums_test[rows_test] += share * value


def _fall(tree: Tree, residual: Floats, weights: Floats, falls: Floats) -> None:
    """Add the fall of the weighted squared error in each cut to `falls` (R, D)."""
    membership = np.zeros((len(residual), 2, len(tree.leaves)))
    for leaf, rows in enumerate(tree.leaves):
        membership[rows, 0, leaf], membership[rows, 1, leaf] = 1.0, residual[rows]
    sums = (weights @ membership.reshape(len(residual), -1)).reshape(len(weights), 2, -1)
    until = np.concatenate([np.zeros((len(weights), 2, 1)), np.cumsum(sums, axis=2)], axis=2)
    for latent, *edges in tree.cuts:
        n, S = until[:, :, edges].transpose(1, 2, 0)
        n_left, n_right = np.diff(n, axis=0)
        S_left, S_right = np.diff(S, axis=0)
        scale = n_left * n_right * (n_left + n_right)
        difference = (n_right * S_left - n_left * S_right) ** 2
        falls[:, latent] += np.divide(difference, scale, out=np.zeros_like(scale), where=scale > 0)
