"""Modularity: the paper in loops, its ceiling, and a floor that is far from 0."""

from __future__ import annotations

import numpy as np
import pytest
from code_cases import SHAPES, Codes, Factors, blurred, drawn, noise, perfect, turned
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from betavae_core.errors import DataError
from betavae_core.metrics.modularity import METRIC, measure, modularity
from betavae_core.metrics.points import Points, resampled_rows


def as_in_the_paper(codes: Codes, factors: Factors, bins: int) -> float:
    """Section 3: the squared distance of each latent's information from its template."""
    scores = []
    for z in codes.T:
        cells = np.digitize(z, np.histogram(z, bins)[1][1:-1])
        knows = [mutual_info_score(cells, v) for v in factors.T]
        template = [i if i == max(knows) else 0.0 for i in knows]
        strays = sum((i - t) ** 2 for i, t in zip(knows, template, strict=True))
        scores.append(1 - strays / (max(knows) ** 2 * (len(knows) - 1)))
    return float(np.mean(scores))


@pytest.mark.parametrize("bins", [2, 7, 20])
def test_it_is_the_formula_of_the_paper(bins: int) -> None:
    factors = drawn(300)
    codes = turned(blurred(factors, 0.4))
    assert modularity(codes, factors, bins=bins) == pytest.approx(
        as_in_the_paper(codes, factors, bins), abs=1e-10
    )


def test_latents_of_one_factor_each_are_modular() -> None:
    every = np.indices((4, 5, 3)).reshape(3, -1).T
    assert modularity(every, every) == pytest.approx(1.0, abs=1e-12)


def test_several_latents_may_share_a_factor() -> None:
    every = np.indices((4, 5)).reshape(2, -1).T
    assert modularity(np.concatenate([every, every], axis=1), every) == pytest.approx(1.0)


def test_a_latent_that_mixes_factors_is_not_modular() -> None:
    every = np.indices((4, 4)).reshape(2, -1).T
    assert modularity(every @ [[1, 1], [1, -1]], every) == pytest.approx(0.0, abs=1e-12)


def test_turning_by_45_degrees_lowers_it() -> None:
    factors = drawn(2000, (6, 6))
    assert modularity(perfect(factors), factors) > 0.99
    assert modularity(turned(perfect(factors)), factors) < 0.1


def test_a_constant_latent_counts_nothing() -> None:
    every = np.indices((4, 4)).reshape(2, -1).T
    codes = np.concatenate([every, np.full((16, 1), 0.1)], axis=1)
    assert modularity(codes, every) == pytest.approx(2 / 3, abs=1e-12)


def test_noise_looks_modular_where_factors_differ_in_their_number_of_values() -> None:
    """Its information of a factor is bias, in proportion to V - 1: 2, 5, 39, 31, 31."""
    bias = np.array(SHAPES) - 1.0
    expected = 1 - ((bias**2).sum() - bias.max() ** 2) / (4 * bias.max() ** 2)
    shapes = drawn(10_000, SHAPES)
    assert modularity(noise(10_000, 10), shapes) == pytest.approx(expected, abs=0.05)


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(4)), st.integers(-20, 20), st.integers(0, 1000))
def test_order_and_scale_change_nothing(order: list[int], exponent: int, seed: int) -> None:
    factors = drawn(150, seed=seed)
    codes = blurred(factors)
    other = codes[:, order] * [2.0**exponent, 1, 1, 1]
    assert modularity(other, factors) == pytest.approx(modularity(codes, factors), abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from([-1.0, 1.0]), min_size=4, max_size=4), st.integers(0, 1000))
def test_signs_change_nothing_beyond_the_interval(signs: list[float], seed: int) -> None:
    factors = drawn(150, seed=seed)
    codes = blurred(factors)
    low, high = measure(Points.of(codes, factors), resamples=50)["modularity"].interval(0.99)
    assert low <= modularity(codes * signs, factors) <= high


def test_a_resample_scores_as_its_points_do_alone() -> None:
    factors = drawn(500)
    points = Points.of(perfect(factors), factors)
    resampled = measure(points, seed=4, resamples=5)["modularity"].resampled
    alone = [measure(points.take(r))["modularity"].score for r in resampled_rows(500, 5, 4)]
    assert resampled == pytest.approx(alone, abs=1e-10)


def test_details_hold_what_it_is_a_mean_of() -> None:
    factors = drawn(300)
    measured = measure(Points.of(blurred(factors), factors))["modularity"]
    assert measured.details["per_latent"].mean() == pytest.approx(measured.score)
    assert measured.details["information"].shape == (4, 3)


def test_a_single_factor_has_nothing_to_be_told_from() -> None:
    with pytest.raises(DataError, match=r"^modularity compares factors: .* must vary, got 1$"):
        modularity(noise(30, 3), drawn(30, (4, 1)))


def test_it_is_registered_under_its_name() -> None:
    assert METRIC.names == ("modularity",)
