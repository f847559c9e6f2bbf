"""Linear classifiers, logits = x W + b, fitted in the two ways that the metrics' protocols name.

`logistic` goes to the minimum of the loss that scikit-learn's LogisticRegression has, by L-BFGS on
features that are centred and scaled so that the Hessian at W = 0 has an even diagonal. (Unscaled,
as there, the examples that PCA codes give the Higgins metric take 870 steps to the same gradient;
here 60. The default there stops after 100.) `adagrad` takes a stated number of small steps, and
where it then stands depends on the scale of the features: part of a protocol, not a way to a
minimum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats = NDArray[np.floating]

GRADIENT = 1e-4  # of the mean loss in the scaled weights: where the fit stops
MOST_STEPS = 300


class Linear(NamedTuple):
    """Weights (…, D, classes) and biases (…, classes), of one classifier or of several."""

    weights: Floats
    biases: Floats

    def logits(self, x: Floats) -> Floats:
        """(…, N, classes) of x (N, D)."""
        return x @ self.weights + self.biases[..., None, :]

    def losses(self, x: Floats, labels: NDArray[np.int64]) -> Floats:
        """(N,) negative log-likelihoods of the labels (N,), in nats; of one classifier."""
        logits = self.logits(x)
        top = logits.max(-1)
        normaliser = top + np.log(np.exp(logits - top[:, None]).sum(-1))
        return normaliser - logits[np.arange(len(x)), labels]


def logistic(x: Floats, labels: NDArray[np.int64], classes: int, *, penalty: float) -> Linear:
    """The minimum of sum_i -ln softmax(x_i W + b)[labels_i] + penalty/2 * sum W^2.

    x (N, D), labels (N,) in 0 … classes - 1. The biases are not penalised. Without a penalty,
    where a linear map separates the classes, there is no minimum: the fit stops when the mean
    loss is flat.
    """
    problem = _Problem.of(x, labels, classes, penalty)
    found = minimize(
        problem.loss_and_gradient,
        problem.start().ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"gtol": GRADIENT, "maxiter": MOST_STEPS, "maxcor": 20, "ftol": 1e-10},
    )
    return problem.unscaled(found.x)


def adagrad(
    x: Floats,
    labels: NDArray[np.int64],
    classes: int,
    *,
    rng: np.random.Generator,
    repeats: int = 1,
    iterations: int = 10_000,
    batch: int = 64,
    rate: float = 1e-2,
) -> Linear:
    """`repeats` classifiers after `iterations` steps of Adagrad, each from its own weights.

    W starts at N(0, 1/D), b at 0; a step draws `batch` of the N points with replacement, and
    W -= rate * g / sqrt(sum of g^2 so far), the sum starting at 0.1. Source: Duchi, Hazan, Singer
    (2011), equation 1 in its diagonal form. The repeats step together: it costs little more.
    """
    shape = (repeats, x.shape[1], classes)
    weights, biases = rng.normal(0, x.shape[1] ** -0.5, shape), np.zeros((repeats, 1, classes))
    of_weights, of_biases = np.full_like(weights, 0.1), np.full_like(biases, 0.1)
    wanted = np.eye(classes)[labels] / batch
    for _ in range(iterations):
        drawn = rng.integers(0, len(x), (repeats, batch))
        given = x[drawn]
        wrong = _softmax(given @ weights + biases) / batch - wanted[drawn]
        for values, sums, gradient in (
            (weights, of_weights, given.swapaxes(1, 2) @ wrong),
            (biases, of_biases, wrong.sum(1, keepdims=True)),
        ):
            sums += gradient**2
            values -= rate * gradient / np.sqrt(sums)
    return Linear(weights, biases[:, 0])


@dataclass(frozen=True)
class _Problem:
    """The mean loss as a function of scaled weights; x = centre + scale * features."""

    features: Floats
    labels: NDArray[np.int64]
    classes: int
    penalties: Floats  # (D, 1), what is left of the penalty in the scaled weights
    centre: Floats
    scale: Floats

    @classmethod
    def of(cls, x: Floats, labels: NDArray[np.int64], classes: int, penalty: float) -> _Problem:
        centre = x.mean(0)
        curvature = np.square(x - centre).mean(0) * (1 - 1 / classes) + penalty * classes / len(x)
        scale = np.sqrt(np.where(curvature > 0, curvature, 1))
        penalties = (penalty / len(x) / scale**2)[:, None]
        return cls((x - centre) / scale, labels, classes, penalties, centre, scale)

    def start(self) -> Floats:
        """(D + 1, classes): no weights, and the biases that give the classes' frequencies."""
        start = np.zeros((len(self.scale) + 1, self.classes))
        counts = np.bincount(self.labels, minlength=self.classes)
        start[-1] = np.log(np.maximum(counts, 0.5) / len(self.labels))
        return start

    def loss_and_gradient(self, flat: Floats) -> tuple[float, Floats]:
        n, at = len(self.labels), (np.arange(len(self.labels)), self.labels)
        values = flat.reshape(-1, self.classes)
        weights, pull = values[:-1], self.penalties * values[:-1]
        wrong = _softmax(self.features @ weights + values[-1])
        loss = -np.log(np.maximum(wrong[at], np.finfo(float).tiny)).mean()
        wrong[at] -= 1
        gradient = np.concatenate([self.features.T @ wrong / n + pull, wrong.mean(0)[None]])
        return float(loss + (pull * weights).sum() / 2), gradient.ravel()

    def unscaled(self, flat: Floats) -> Linear:
        values = flat.reshape(-1, self.classes)
        weights = values[:-1] / self.scale[:, None]
        return Linear(weights, values[-1] - self.centre @ weights)


def _softmax(logits: Floats) -> Floats:
    """Over the last axis; takes the place of the logits."""
    logits -= logits.max(-1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(-1, keepdims=True)
    return logits
