"""The oracle's Bernoulli likelihood: closed forms, extreme logits, the gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from betavae_core.reference.bernoulli_nll import bernoulli_nll, bernoulli_nll_backward
from betavae_core.reference.checks import check_gradients

SHAPES = [(1,), (5,), (3, 7), (2, 1, 5, 3), (2, 3, 4, 4)]


def logits_and_bytes(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return 3 * rng.normal(size=shape), rng.integers(0, 256, size=shape).astype(np.uint8)


def test_a_logit_of_zero_costs_ln_2_whatever_the_target() -> None:
    x = np.array([[0, 1, 1], [0, 0, 0]], dtype=np.uint8)
    assert bernoulli_nll(np.zeros((2, 3)), x) == pytest.approx([3 * np.log(2)] * 2)


def test_it_is_minus_the_log_probability() -> None:
    logits, x = logits_and_bytes((3, 7))
    t, m = x / 255, 1 / (1 + np.exp(-logits))
    expected = -(t * np.log(m) + (1 - t) * np.log(1 - m)).sum(axis=1)
    assert bernoulli_nll(logits, x, 255) == pytest.approx(expected, rel=1e-12)


def test_it_is_the_cross_entropy_of_torch() -> None:
    logits, x = logits_and_bytes((2, 3, 4, 4))
    given, target = torch.tensor(logits), torch.tensor(x / 255)
    expected = F.binary_cross_entropy_with_logits(given, target, reduction="none").sum((1, 2, 3))
    assert bernoulli_nll(logits, x, 255) == pytest.approx(expected.numpy(), rel=1e-13)


def test_bytes_and_their_fractions_cost_the_same() -> None:
    logits, x = logits_and_bytes((3, 7))
    assert np.array_equal(bernoulli_nll(logits, x, 255), bernoulli_nll(logits, x / 255))


@pytest.mark.parametrize(
    ("logit", "target", "expected"),
    [
        (1e4, 0.0, 1e4),
        (1e4, 0.25, 7.5e3),
        (1e4, 1.0, 0.0),
        (-1e4, 0.0, 0.0),
        (-1e4, 0.25, 2.5e3),
        (-1e4, 1.0, 1e4),
        (np.inf, 0.0, np.inf),
        (np.inf, 0.5, np.inf),
        (np.inf, 1.0, 0.0),
        (-np.inf, 0.0, 0.0),
        (-np.inf, 0.5, np.inf),
        (-np.inf, 1.0, np.inf),
        (40.0, 1.0, np.exp(-40.0)),  # below the rounding of max(l, 0) - l·t + …
        (1e308, 1.0, 0.0),
    ],
)
def test_extreme_logits_cost_their_limit(logit: float, target: float, expected: float) -> None:
    assert bernoulli_nll([[logit]], [[target]])[0] == pytest.approx(expected, rel=1e-12, abs=0)


@pytest.mark.parametrize(
    ("logit", "slope"), [(np.inf, 1.0), (1e4, 1.0), (-1e4, 0.0), (-np.inf, 0.0), (0.0, 0.5)]
)
@pytest.mark.parametrize("target", [0.0, 0.25, 1.0])
def test_the_gradient_of_extreme_logits_is_its_limit(
    logit: float, slope: float, target: float
) -> None:
    assert bernoulli_nll_backward([[logit]], [[target]], 1, [1.0])[0, 0] == slope - target


@pytest.mark.parametrize("target", [0.0, 0.5, 1.0])
def test_nan_stays_nan(target: float) -> None:
    assert np.isnan(bernoulli_nll([[np.nan]], [[target]])).all()
    assert np.isnan(bernoulli_nll_backward([[np.nan]], [[target]], 1, [1.0])).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_backward_is_the_derivative(shape: tuple[int, ...]) -> None:
    logits, x = logits_and_bytes(shape)
    check_gradients(
        lambda logits: bernoulli_nll(logits, x, 255),
        lambda logits, dnll: bernoulli_nll_backward(logits, x, 255, dnll),
        {"logits": logits},
        tolerance=1e-9,
    )


def test_the_cost_is_least_where_the_probability_is_the_target() -> None:
    t = np.array([[0.1, 0.5, 0.9]])
    logits = np.log(t / (1 - t))
    assert bernoulli_nll_backward(logits, t, 1, [1.0]) == pytest.approx(0.0, abs=1e-15)


def test_an_empty_batch_and_an_image_without_pixels() -> None:
    assert bernoulli_nll(np.zeros((0, 4)), np.zeros((0, 4))).shape == (0,)
    assert bernoulli_nll_backward(np.zeros((0, 4)), np.zeros((0, 4)), 1, []).shape == (0, 4)
    assert bernoulli_nll(np.zeros((2, 0)), np.zeros((2, 0))).tolist() == [0.0, 0.0]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one shape.*\(2, 3\) and \(2, 4\)"):
        bernoulli_nll(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="levels must be >= 1"):
        bernoulli_nll(np.zeros((2, 3)), np.zeros((2, 3)), 0)
    with pytest.raises(ValueError, match=r"dnll must be \(2,\)"):
        bernoulli_nll_backward(np.zeros((2, 3)), np.zeros((2, 3)), 1, np.zeros(3))
