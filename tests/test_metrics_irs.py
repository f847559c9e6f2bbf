"""The interventional robustness score: ceiling, floor, invariances, the reference as loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from betavae_core.errors import DataError, UsageError
from betavae_core.metrics.irs import METRIC, irs, measure
from betavae_core.metrics.points import Points

SIZES = (3, 6, 40, 8)


def arrays(angle: float = 0.0, noise: float = 0.0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    factors = rng.integers(0, SIZES, (2000, 4))
    c, s = np.cos(angle), np.sin(angle)
    codes = factors / np.array(SIZES) @ np.kron(np.eye(2), [[c, -s], [s, c]])
    return codes + noise * rng.normal(size=(2000, 4)), factors


def as_loops(
    codes: NDArray[np.float64], factors: NDArray[np.int64], quantile: float
) -> tuple[float, NDArray[np.float64]]:
    """The score and its matrix in plain steps, for latents that vary."""
    (_, D), K = codes.shape, factors.shape[1]
    widest = [max(abs(z - codes[:, d].mean()) for z in codes[:, d]) for d in range(D)]
    matrix = np.zeros((D, K))
    for d in range(D):
        for k in range(K):
            strays = []
            for value in np.unique(factors[:, k]):
                there = codes[factors[:, k] == value, d]
                strays.append(np.quantile(np.abs(there - there.mean()), quantile))
            matrix[d, k] = 1 - np.mean(strays) / widest[d]
    return float(np.average(matrix.max(1), weights=widest)), matrix


@pytest.mark.parametrize("quantile", [0.99, 0.5, 1.0])
def test_the_score_is_that_of_the_reference_written_as_loops(quantile: float) -> None:
    codes, factors = arrays(0.4, noise=0.2)
    measured = measure(Points.of(codes, factors), quantile=quantile, bins=None)["irs"]
    score, matrix = as_loops(codes, factors, quantile)
    assert measured.score == pytest.approx(score, abs=1e-12)
    np.testing.assert_allclose(measured.details["matrix"], matrix, atol=1e-12)


def test_factors_of_many_values_are_cut_into_ranges_first() -> None:
    codes, factors = arrays(0.4, noise=0.2)
    cut = factors.copy()
    edges = np.histogram(factors[:, 2], 20)[1]
    cut[:, 2] = np.digitize(factors[:, 2], edges[:-1])
    assert irs(codes, factors) == pytest.approx(as_loops(codes, cut, 0.99)[0], abs=1e-12)
    assert irs(codes, factors) != irs(codes, factors, bins=None)


def test_factors_themselves_score_one() -> None:
    for quantile in (0.99, 1.0):
        assert irs(*arrays(), bins=None, quantile=quantile) == pytest.approx(1, abs=1e-12)


def test_gaussian_noise_scores_its_floor() -> None:
    """Of 10,000 points; the number stands in the docstring."""
    rng = np.random.default_rng(0)
    factors = rng.integers(0, (3, 6, 40, 32, 32), (10_000, 5))
    assert irs(rng.normal(size=(10_000, 10)), factors) == pytest.approx(0.36, abs=0.03)


def test_a_turn_by_45_degrees_lowers_the_score() -> None:
    assert irs(*arrays(np.pi / 4)) < irs(*arrays()) - 0.2


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(4)), st.lists(st.sampled_from([-1.0, 1.0]), min_size=4, max_size=4),
       st.floats(0.01, 100))  # fmt: skip
def test_order_signs_and_a_common_scale_of_latents_are_of_no_effect(
    order: list[int], signs: list[float], scale: float
) -> None:
    codes, factors = arrays(0.4, noise=0.2)
    other = irs(codes[:, order] * signs * scale, factors)
    assert other == pytest.approx(irs(codes, factors), abs=1e-9)


def test_constant_latents_do_not_count() -> None:
    codes, factors = arrays(0.4, noise=0.2)
    dead = np.insert(codes, [0, 2], 1e6, axis=1)
    measured = measure(Points.of(dead, factors), resamples=3)["irs"]
    assert measured.score == irs(codes, factors)
    assert measured.details["matrix"].shape == (6, 4)
    assert (measured.details["matrix"][[0, 3]] == 0).all()


def test_the_active_latents_are_counted_not_summed() -> None:
    """disentanglement_lib returns the sum of the codes of the active latents."""
    codes, factors = arrays(0.4, noise=0.2)
    active = measure(Points.of(codes * [1, 0, 1, 1], factors))["irs"].details["active"]
    assert active.dtype == bool
    assert active.tolist() == [True, False, True, True]


def test_codes_that_are_all_dead_score_zero() -> None:
    measured = measure(Points.of(np.ones((2000, 3)), arrays()[1]), resamples=4)["irs"]
    assert measured.score == 0
    assert measured.interval() == (0, 0)


def test_a_resample_may_lack_values_and_even_catch_one_code_only() -> None:
    codes = np.array([[0.0], [0.0], [0.0], [1.0]])
    factors = np.array([[0], [1], [1], [2]])
    resampled = measure(Points.of(codes, factors), resamples=50)["irs"].resampled
    assert np.isfinite(resampled).all()
    assert resampled.min() == 0  # some drew no 1 at all


def test_a_latent_weighs_as_much_as_it_strays() -> None:
    """A latent of one factor, and one a hundred times as wide that heeds both."""
    factors = np.indices((2, 2)).reshape(2, 4).T
    codes = np.stack([factors[:, 0], 100 * factors.sum(1)], axis=1)
    # Deviations 1/2 and 100; the first strays 0; the second 50 whichever factor is held.
    assert irs(codes, factors, quantile=1.0) == pytest.approx((0.5 * 1 + 100 * 0.5) / 100.5)


def test_a_function_scores_as_the_points_it_gives() -> None:
    c, s, sizes = np.cos(0.4), np.sin(0.4), np.array((1, *SIZES))
    mixing = np.kron(np.eye(2), [[c, -s], [s, c]])

    def encode(vectors: NDArray[np.int64]) -> NDArray[np.float64]:
        return (vectors / sizes)[:, 1:] @ mixing

    factors = np.random.default_rng(0).integers(0, sizes, (10_000, 5))
    of_points = irs(encode(factors), factors)
    assert irs(encode, sizes) == pytest.approx(of_points, abs=0.01)
    assert irs(encode, sizes, seed=1) != irs(encode, sizes, seed=2)


def test_the_resamples_spread_as_fresh_points_do() -> None:
    def fresh(seed: int) -> Points:
        rng = np.random.default_rng(seed)
        factors = rng.integers(0, SIZES, (1000, 4))
        return Points.of(factors / np.array(SIZES) + 0.2 * rng.normal(size=(1000, 4)), factors)

    measured = measure(fresh(99), resamples=100)["irs"]
    assert measured.resampled.mean() == pytest.approx(measured.score, abs=0.02)
    over_draws = [measure(fresh(s))["irs"].score for s in range(40)]
    assert measured.resampled.std() == pytest.approx(np.std(over_draws), rel=0.5)


@pytest.mark.parametrize(
    ("protocol", "message"),
    [({"quantile": 1.5}, "quantile must be in"), ({"train": 0}, "train must be at least 1"),
     ({"bins": 1}, "bins must be")],
)  # fmt: skip
def test_bad_settings_are_refused(protocol: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        irs(*arrays(), **protocol)


def test_bad_arrays_are_refused() -> None:
    with pytest.raises(DataError, match="codes must be"):
        irs(np.zeros(3), np.zeros((3, 2)))


def test_the_metric_is_named() -> None:
    assert METRIC.names == ("irs",)
