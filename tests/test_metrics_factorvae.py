"""The FactorVAE score: ceiling, floor, pruning, and the reference implementation's loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from betavae_core.errors import DataError, UsageError
from betavae_core.metrics.factorvae import _accuracy, factorvae, measure
from betavae_core.metrics.points import Points

SIZES = (3, 6, 10, 8)
FEW = {"train": 1000, "test": 1000, "members": 32}
DEVIATIONS = 4 * (2 * 0.25 / 1000) ** 0.5  # four, of the difference of two accuracies of 1,000


def points(angle: float = 0.0, noise: float = 0.0) -> Points:
    """2,000 points whose codes are the factors, turned two and two, and two latents of noise."""
    rng = np.random.default_rng(0)
    factors = rng.integers(0, SIZES, (2000, 4))
    c, s = np.cos(angle), np.sin(angle)
    codes = factors / np.array(SIZES) @ np.kron(np.eye(2), [[c, -s], [s, c]])
    codes = np.concatenate([codes, rng.normal(0, 0.3, (2000, 2))], axis=1)
    return Points.of(codes + noise * rng.normal(size=(2000, 6)), factors)


def score(given_points: Points, **protocol: object) -> float:
    return measure(given_points, **(FEW | protocol))["factorvae"].score


def test_factors_themselves_score_one() -> None:
    assert score(points()) == 1


def test_noise_scores_chance() -> None:
    noise = points().with_codes(np.random.default_rng(1).normal(size=(2000, 5)))
    assert abs(score(noise) - 1 / 4) < DEVIATIONS


def test_a_turn_by_45_degrees_lowers_the_score() -> None:
    assert score(points(np.pi / 4)) < score(points()) - 0.1


@settings(max_examples=5, deadline=None)
@given(st.permutations(range(6)), st.lists(st.sampled_from([-1.0, 1.0]), min_size=6, max_size=6))
def test_the_order_and_the_signs_of_latents_are_of_no_effect(
    order: list[int], signs: list[float]
) -> None:
    own = points(0.4, noise=0.1)
    assert score(own.with_codes(own.codes[:, order] * signs)) == score(own)


def test_scale_is_of_no_effect_but_by_pruning() -> None:
    own = points(0.4, noise=0.1)
    other = own.with_codes(own.codes * [1e-3, 1, 20, 1, 300, 1])
    assert score(other, prune=0.0) == score(own, prune=0.0)
    assert score(other) < score(own)


def test_the_score_is_that_of_the_reference_written_as_loops() -> None:
    own, rng = points(0.5, noise=0.2), np.random.default_rng(5)
    spread = own.codes.var(0, ddof=1)

    def votes(n: int) -> NDArray[np.int64]:
        table = np.zeros((4, 6), np.int64)
        for _ in range(n):
            k = int(rng.integers(4))
            value = own.factors[rng.integers(2000), k]
            rows = rng.choice(np.flatnonzero(own.factors[:, k] == value), 32)
            table[k, np.argmin(own.codes[rows].var(0, ddof=1) / spread)] += 1
        return table

    train, test = votes(1000), votes(1000)
    theirs = test[train.argmax(0), np.arange(6)].sum() / 1000
    assert 0.4 < theirs < 0.95
    measured = measure(own, **FEW, resamples=0)["factorvae"]
    assert abs(measured.score - theirs) < DEVIATIONS
    shares = measured.details["votes"] / 1000
    assert np.abs(shares - train / 1000).max() < 4 * (2 * 0.25 * 0.75 / 1000) ** 0.5


def test_latents_that_hardly_vary_do_not_vote() -> None:
    """A collapsed copy of a factor would win every vote for it."""
    own = points()
    collapsed = own.codes.copy()
    collapsed[:, 1] *= 0.05
    measured = measure(own.with_codes(collapsed), **FEW, resamples=0)["factorvae"]
    assert measured.details["active"].tolist() == [True, False, True, True, True, True]
    assert measured.details["votes"][:, 1].sum() == 0
    assert measured.score < 0.9
    assert score(own.with_codes(collapsed), prune=0.01) == 1


def test_the_active_latents_are_counted_not_the_latents() -> None:
    """disentanglement_lib returns the length of the mask."""
    own = points()
    dead = own.with_codes(own.codes * [1, 0, 1, 0, 0, 1])
    measured = measure(dead, **FEW, resamples=3, prune=0.0)["factorvae"]
    assert measured.details["active"].sum() == 3
    assert np.isfinite(measured.resampled).all()


def test_codes_that_are_all_dead_score_zero() -> None:
    dead = points().with_codes(np.full((2000, 3), 7.0))
    for prune in (0.0, 0.05):
        measured = measure(dead, **FEW, resamples=5, prune=prune)["factorvae"]
        assert measured.score == 0
        assert measured.interval() == (0, 0)
        assert not measured.details["active"].any()


def test_the_vote_that_counts_is_of_the_factor_that_leads_in_training() -> None:
    """One latent wins all votes: right for the factor that led, a coin of K sides for the rest."""
    own = points()
    alone = own.with_codes(own.codes[:, :1])
    measured = measure(alone, **FEW, resamples=0)["factorvae"]
    lead = measured.details["votes"][:, 0].argmax()
    assert measured.details["votes"].sum() == 1000
    assert abs(measured.score - 1 / 4) < DEVIATIONS
    assert 0 <= lead < 4


def test_a_function_scores_as_the_points_it_gives() -> None:
    c, s, sizes = np.cos(0.5), np.sin(0.5), np.array((1, *SIZES))
    mixing = np.kron(np.eye(2), [[c, -s], [s, c]])

    def encode(vectors: NDArray[np.int64]) -> NDArray[np.float64]:
        wobble = np.sin(vectors.sum(1) * 12.9898)[:, None] * [0.2, 0.1, 0.2, 0.1]
        return (vectors / sizes)[:, 1:] @ mixing + wobble

    factors = np.random.default_rng(0).integers(0, sizes, (4000, 5))
    of_points = factorvae(encode(factors), factors, **FEW)
    assert 0.3 < of_points < 0.99
    assert abs(factorvae(encode, sizes, **FEW) - of_points) < DEVIATIONS


def test_the_resamples_spread_as_the_votes_do() -> None:
    own = points(0.5, noise=0.2)
    measured = measure(own, **FEW, resamples=300)["factorvae"]
    over_seeds = [score(own, seed=s) for s in range(30)]
    assert measured.resampled.std() == pytest.approx(np.std(over_seeds), rel=0.4)
    assert measured.interval()[0] < measured.score < measured.interval()[1]


def test_the_square_of_a_large_code_does_not_overflow() -> None:
    """The codes of a network move as float32, whose largest number is 2^128."""
    own = points(0.4, noise=0.1)
    narrow = own.codes.astype(np.float32).astype(float)
    assert score(own.with_codes(narrow * 2.0**80)) == score(own.with_codes(narrow))


def test_fresh_votes_are_judged_by_the_leaders_of_the_training_votes() -> None:
    train, test = np.array([[3, 0], [1, 2]]), np.array([[1, 4], [5, 0]])
    assert _accuracy(train, test) == (1 + 0) / 10
    assert _accuracy(np.stack([train, test]), np.stack([test, test])).tolist() == [0.1, 0.9]


@pytest.mark.parametrize(
    ("protocol", "message"),
    [({"members": 1}, "members must be at least 2"), ({"train": 0}, "train must be at least 1"),
     ({"test": 0}, "test must be at least 1")],
)  # fmt: skip
def test_bad_settings_are_refused(protocol: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        score(points(), **protocol)


def test_bad_arrays_are_refused() -> None:
    with pytest.raises(DataError, match="finite"):
        factorvae(np.full((3, 2), np.nan), np.zeros((3, 2)))
