"""The Higgins metric: its ceiling and floor, its invariances, and the paper's steps as loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from betavae_core.errors import DataError, UsageError
from betavae_core.metrics.higgins import (
    METRIC,
    Examples,
    differences,
    examples,
    higgins,
    hits,
    measure,
)
from betavae_core.metrics.pairs import source
from betavae_core.metrics.points import Points

SIZES = (3, 6, 10, 8)
FEW = {"train": 1000, "test": 1000, "pairs": 32}
DEVIATIONS = 4 * (2 * 0.25 / 1000) ** 0.5  # four, of the difference of two accuracies of 1,000


def points(mixing: NDArray[np.float64] | None = None, noise: float = 0.0) -> Points:
    """2,000 points: as codes the factors, scaled to [0, 1] and mixed, and two latents more."""
    rng = np.random.default_rng(0)
    factors = rng.integers(0, SIZES, (2000, 4))
    codes = factors / np.array(SIZES) @ (np.eye(4) if mixing is None else mixing)
    extra = rng.normal(0, 0.3, (2000, 2))
    codes = np.concatenate([codes, extra], axis=1) + noise * rng.normal(size=(2000, 6))
    return Points.of(codes, factors)


def turned(angle: float) -> NDArray[np.float64]:
    """Latents 0 and 1, and 2 and 3, turned in their planes."""
    c, s = np.cos(angle), np.sin(angle)
    return np.kron(np.eye(2), [[c, -s], [s, c]])


def score(given_points: Points, **protocol: object) -> float:
    return measure(given_points, **(FEW | protocol))["higgins"].score


@pytest.mark.parametrize("classifier", ["logistic", "adagrad"])
@pytest.mark.parametrize("standardise", [False, True])
def test_factors_themselves_score_one(classifier: str, standardise: bool) -> None:
    own = points()
    own = own.with_codes(own.codes * 5)
    assert score(own, classifier=classifier, standardise=standardise, iterations=3000) >= 0.998


@pytest.mark.parametrize("classifier", ["logistic", "adagrad"])
def test_noise_scores_chance(classifier: str) -> None:
    noise = points().with_codes(np.random.default_rng(1).normal(size=(2000, 5)))
    assert abs(score(noise, classifier=classifier, iterations=500) - 1 / 4) < DEVIATIONS


def test_a_turn_by_45_degrees_lowers_the_score() -> None:
    straight = score(points(noise=0.1))
    assert score(points(turned(np.pi / 4), noise=0.1)) < straight - 0.2


@settings(max_examples=5, deadline=None)
@given(st.permutations(range(6)), st.lists(st.sampled_from([-1.0, 1.0]), min_size=6, max_size=6))
def test_the_order_and_the_signs_of_latents_are_of_no_effect(
    order: list[int], signs: list[float]
) -> None:
    own = points(turned(0.5), noise=0.1)
    other = own.with_codes(own.codes[:, order] * signs)
    assert score(other) == pytest.approx(score(own), abs=0.003)


def test_scale_is_of_no_effect_where_the_protocol_standardises() -> None:
    own = points(turned(0.6), noise=0.2)
    other = own.with_codes(own.codes * [1e-3, 1, 20, 1, 300, 1])
    assert score(other, standardise=True) == pytest.approx(score(own, standardise=True), abs=0.003)
    assert abs(score(other) - score(own)) > 0.02


def test_standardising_takes_mean_and_scale_from_the_training_examples() -> None:
    train = np.array([[1.0, 5, 2], [3, 5, 6]])
    test = np.array([[2.0, 5, 4], [5, 6, 2]])
    task = Examples(train, np.array([0, 1]), test, np.array([1, 0]), 2).standardised()
    assert task.train.tolist() == [[-1, 0, -1], [1, 0, 1]]
    assert task.test.tolist() == [[0, 0, 0], [3, 1, -1]]


def test_the_score_is_that_of_the_papers_steps_written_as_loops() -> None:
    own, rng = points(turned(0.6), noise=0.2), np.random.default_rng(5)

    def example() -> tuple[NDArray[np.float64], int]:
        k, apart = int(rng.integers(4)), []
        for _ in range(32):
            first = int(rng.integers(2000))
            same = np.flatnonzero(own.factors[:, k] == own.factors[first, k])
            second = int(rng.choice(same[same != first]))
            apart.append(np.abs(own.codes[first] - own.codes[second]))
        return np.mean(apart, axis=0), k

    def drawn(n: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        every = [example() for _ in range(n)]
        return np.array([z for z, _ in every]), np.array([k for _, k in every])

    z_diff, k = drawn(2000)
    fresh = examples(source(own.codes, own.factors), **FEW, seed=1)
    for factor in range(4):
        a, b = z_diff[k == factor], fresh.train[fresh.train_factor == factor]
        error = (a.var(0) / len(a) + b.var(0) / len(b)) ** 0.5
        assert (np.abs(a.mean(0) - b.mean(0)) < 4.5 * error).all()
    peer = LogisticRegression(max_iter=2000).fit(z_diff[:1000], k[:1000])
    theirs = peer.score(z_diff[1000:], k[1000:])
    assert 0.4 < theirs < 0.95
    assert abs(score(own) - theirs) < DEVIATIONS


def test_z_diff_is_the_mean_distance_of_pairs_that_share_the_factor() -> None:
    """Codes ±1 in two values of a factor: 0 apart where it is held, 0 or 2 where it is not."""
    factors = np.indices((2, 2)).reshape(2, 4).T.repeat(100, axis=0)
    own = source(2.0 * factors - 1, factors)
    held = np.array([0, 1] * 50)
    z_diff = differences(own, held, 400, np.random.default_rng(0))
    assert (z_diff[np.arange(100), held] == 0).all()
    other = z_diff[np.arange(100), 1 - held]
    assert np.abs(other - 1).max() < 5 / 400**0.5
    steps = other * 400 / 2
    np.testing.assert_allclose(steps, steps.round(), atol=1e-9)


def test_a_function_scores_as_the_points_it_gives() -> None:
    mixing, sizes = turned(0.6), np.array(SIZES)

    def encode(vectors: NDArray[np.int64]) -> NDArray[np.float64]:
        hashed = (vectors @ [[7919], [104729], [1299709], [15485863]]) * [1, 3, 5, 7]
        wobble = np.sin(hashed * 12.9898)  # noise that is a function
        return vectors / sizes @ mixing + 0.3 * wobble

    factors = np.random.default_rng(0).integers(0, SIZES, (4000, 4))
    of_points = higgins(encode(factors), factors, **FEW)
    assert 0.4 < of_points < 0.99
    assert abs(higgins(encode, SIZES, **FEW) - of_points) < DEVIATIONS


def test_several_protocols_share_the_same_examples() -> None:
    task = examples(source(*_arrays(points(turned(0.5), noise=0.2))), **FEW, seed=0)
    assert isinstance(task, Examples)
    rows = {
        "logistic": hits(task),
        "standardised": hits(task, standardise=True),
        "adagrad": hits(task, classifier="adagrad", classifiers=3, iterations=300),
    }
    assert [right.shape for right in rows.values()] == [(1, 1000), (1, 1000), (3, 1000)]
    assert len({right.mean() for right in rows.values()}) == 3  # the protocol moves the score


def test_the_lower_part_of_the_scores_is_dropped() -> None:
    own = points(turned(0.5), noise=0.2)
    protocol = {"classifier": "adagrad", "iterations": 200, "seeds": 3, "classifiers": 2}
    every = measure(own, **FEW, **protocol, resamples=0)["higgins"]
    half = measure(own, **FEW, **protocol, resamples=0, kept=0.5)["higgins"]
    accuracies = every.details["accuracies"]
    assert accuracies.shape == (3, 2)
    assert len(np.unique(accuracies)) > 4
    assert every.score == pytest.approx(accuracies.mean())
    assert half.score == pytest.approx(np.sort(accuracies.ravel())[3:].mean())


def test_the_interval_is_the_binomial_one_of_the_test_examples() -> None:
    measured = measure(points(turned(0.5), noise=0.2), **FEW, resamples=400)["higgins"]
    p = measured.score
    assert measured.resampled.shape == (400,)
    assert measured.resampled.std() == pytest.approx((p * (1 - p) / 1000) ** 0.5, rel=0.15)
    assert measured.interval()[0] < p < measured.interval()[1]


def test_of_several_seeds_the_interval_is_that_of_their_mean() -> None:
    measured = measure(points(turned(0.5), noise=0.2), **FEW, resamples=300, seeds=6)["higgins"]
    expected = measured.details["accuracies"].std() / 6**0.5
    assert measured.resampled.std() == pytest.approx(expected, rel=0.2)


def test_the_same_seed_gives_the_same_score() -> None:
    own = points(turned(0.5), noise=0.2)
    assert score(own, seed=3) == score(own, seed=3) != score(own, seed=4)


def test_raw_pixels_are_workable() -> None:
    """4,096 latents, most of them dead, as floats that hold bytes."""
    rng, factors = np.random.default_rng(0), points().factors
    pixels = np.zeros((2000, 4096))
    pixels[:, :40] = rng.integers(0, 256, (2000, 40))
    pixels[np.arange(2000), 100 + factors[:, 2]] = 255
    few = {"train": 200, "test": 200, "pairs": 8}
    assert measure(Points.of(pixels, factors), **few)["higgins"].score > 0.3


@pytest.mark.parametrize(
    ("protocol", "message"),
    [({"classifier": "svm"}, "classifier must be one of logistic, adagrad, got 'svm'"),
     ({"pairs": 0}, "pairs must be at least 1"), ({"train": 0}, "train must be at least 1"),
     ({"test": 0}, "test must be at least 1"), ({"seeds": 0}, "seeds must be at least 1"),
     ({"classifiers": 0}, "classifiers must be at least 1"),
     ({"iterations": 0}, "iterations must be at least 1"), ({"kept": 0.0}, "kept must be in"),
     ({"kept": 1.1}, "kept must be in")],
)  # fmt: skip
def test_bad_settings_are_refused(protocol: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        score(points(), **protocol)


def test_bad_arrays_are_refused() -> None:
    with pytest.raises(DataError, match="same points"):
        higgins(np.zeros((3, 2)), np.zeros((4, 2)))


def test_the_metric_is_named() -> None:
    assert METRIC.names == ("higgins",)
    assert set(METRIC.measure(points(), seed=0, resamples=2, **FEW)) == {"higgins"}


def _arrays(own: Points) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    return own.codes, own.factors
