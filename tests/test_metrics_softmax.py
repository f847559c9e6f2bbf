"""The two linear classifiers: to the minimum of the loss, and by a number of Adagrad's steps."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from betavae_core.metrics.softmax import Linear, _Problem, adagrad, logistic


def three_classes(n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes in four features of very unlike scales and one that is constant."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    x = rng.normal(size=(n, 5)) + np.eye(3, 5)[labels]
    return x * [1, 100, 0.01, 5, 0] + [0, 7, 0, -1000, 3], labels


@pytest.mark.parametrize("penalty", [0.5, 10.0])
def test_logistic_reaches_the_minimum_of_scikit_learns_loss(penalty: float) -> None:
    x, labels = three_classes()
    peer = LogisticRegression(C=1 / penalty, solver="newton-cholesky", tol=1e-10).fit(x, labels)
    theirs = Linear(peer.coef_.T, peer.intercept_)
    ours = logistic(x, labels, 3, penalty=penalty)

    def objective(fit: Linear) -> float:
        return float(fit.losses(x, labels).sum() + penalty * (fit.weights**2).sum() / 2)

    assert objective(ours) == pytest.approx(objective(theirs), rel=1e-5)
    np.testing.assert_allclose(_probabilities(ours, x), _probabilities(theirs, x), atol=0.005)


def test_without_a_penalty_the_scale_of_a_feature_is_of_no_effect() -> None:
    x, labels = three_classes()
    plain, scaled = (logistic(x * s, labels, 3, penalty=0.0) for s in (1.0, [1e-3, 9, 1, -2, 1]))
    np.testing.assert_allclose(
        plain.losses(x, labels), scaled.losses(x * [1e-3, 9, 1, -2, 1], labels), atol=1e-4
    )


def test_the_gradient_is_that_of_the_loss() -> None:
    x, labels = three_classes()
    problem = _Problem.of(x, labels, 3, penalty=2.0)
    rng = np.random.default_rng(1)
    at, along = rng.normal(size=(2, 18))
    step = 1e-5
    above, below = (problem.loss_and_gradient(at + s * along)[0] for s in (step, -step))
    slope = problem.loss_and_gradient(at)[1] @ along
    assert (above - below) / (2 * step) == pytest.approx(slope, rel=1e-7)


def test_classes_that_a_line_separates_leave_no_loss() -> None:
    x = np.repeat(np.arange(8.0), 50)[:, None]
    labels = x[:, 0].astype(int)
    fitted = logistic(x, labels, 8, penalty=0.0)
    assert fitted.losses(x, labels).mean() < 2e-3
    assert (fitted.logits(x).argmax(1) == labels).all()


def test_no_features_that_vary_leave_the_entropy_of_the_classes() -> None:
    labels = np.repeat([0, 1, 3], [50, 30, 20])  # the third class does not occur
    fitted = logistic(np.ones((100, 2)), labels, 4, penalty=0.0)
    shares = np.array([0.5, 0.3, 0.2])
    assert fitted.losses(np.ones((100, 2)), labels).mean() == pytest.approx(
        -(shares * np.log(shares)).sum(), rel=0.01
    )


def test_losses_are_finite_for_large_logits() -> None:
    sure = Linear(np.array([[1e4, -1e4]]), np.zeros(2))
    losses = sure.losses(np.array([[1.0], [1.0]]), np.array([0, 1]))
    assert losses.tolist() == [0.0, 2e4]


def test_adagrad_takes_the_steps_of_its_formula() -> None:
    x, labels = three_classes(50)
    rng = np.random.default_rng(3)
    weights = rng.normal(0, 5**-0.5, (1, 5, 3))[0]
    biases, sums = np.zeros(3), [np.full((5, 3), 0.1), np.full(3, 0.1)]
    for _ in range(5):
        drawn = rng.integers(0, 50, (1, 8))[0]
        gradients = [np.zeros((5, 3)), np.zeros(3)]
        for i in drawn:
            wrong = _probabilities(Linear(weights, biases), x[i : i + 1])[0] - np.eye(3)[labels[i]]
            gradients[0] += np.outer(x[i], wrong) / 8
            gradients[1] += wrong / 8
        for total, g in zip(sums, gradients, strict=True):
            total += g**2
        weights = weights - 0.01 * gradients[0] / np.sqrt(sums[0])
        biases = biases - 0.01 * gradients[1] / np.sqrt(sums[1])
    fitted = adagrad(x, labels, 3, rng=np.random.default_rng(3), iterations=5, batch=8)
    np.testing.assert_allclose(fitted.weights[0], weights, rtol=1e-10)
    np.testing.assert_allclose(fitted.biases[0], biases, rtol=1e-10)


def test_adagrad_fits_several_classifiers_of_their_own() -> None:
    x, labels = three_classes()
    x = (x - x.mean(0)) / [1, 100, 0.01, 5, 1]
    fitted = adagrad(x, labels, 3, rng=np.random.default_rng(0), repeats=4, iterations=3000)
    assert fitted.weights.shape == (4, 5, 3)
    right = fitted.logits(x).argmax(-1) == labels
    best = (logistic(x, labels, 3, penalty=0.0).logits(x).argmax(-1) == labels).mean()
    assert right.shape == (4, 400)
    assert np.abs(right.mean(1) - best).max() < 0.05
    assert len(np.unique(fitted.weights[:, 0, 0])) == 4


def _probabilities(fitted: Linear, x: np.ndarray) -> np.ndarray:
    logits = fitted.logits(x)
    exps = np.exp(logits - logits.max(-1, keepdims=True))
    return exps / exps.sum(-1, keepdims=True)
