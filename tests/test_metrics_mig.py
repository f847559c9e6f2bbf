"""The mutual information gap: ceilings and floors, the paper in loops, the peers' mistake."""

from __future__ import annotations

from collections import Counter
from math import log

import numpy as np
import pytest
from code_cases import SHAPES, Codes, Factors, blurred, drawn, noise, perfect, turned
from hypothesis import given, settings
from hypothesis import strategies as st

from betavae_core.errors import DataError
from betavae_core.metrics.mig import METRIC, measure, mig
from betavae_core.metrics.points import Points, resampled_rows


def as_in_the_paper(codes: Codes, factors: Factors, bins: int) -> float:
    """Equation 6 with counters, the information as E[ln p(a, b) / p(a) p(b)]."""

    def information(a: list[int], b: list[int]) -> float:
        n, both, one, other = len(a), Counter(zip(a, b, strict=True)), Counter(a), Counter(b)
        return sum(c / n * log(c * n / (one[i] * other[j])) for (i, j), c in both.items())

    cells = [np.digitize(z, np.histogram(z, bins)[1][1:-1]).tolist() for z in codes.T]
    gaps = []
    for v in factors.T.tolist():
        knows = sorted((information(z, v) for z in cells), reverse=True)
        gaps.append((knows[0] - knows[1]) / information(v, v))
    return sum(gaps) / len(gaps)


@pytest.fixture(scope="module")
def shapes() -> Factors:
    return drawn(10_000, SHAPES)


@pytest.mark.parametrize(("bins", "ceiling"), [(20, 0.896), (40, 0.987)])
def test_the_ceiling_of_the_2d_shapes_depends_on_the_bins(
    shapes: Factors, bins: int, ceiling: float
) -> None:
    assert mig(perfect(shapes, idle=5), shapes, bins=bins) == pytest.approx(ceiling, abs=1e-3)


def test_noise_scores_next_to_nothing(shapes: Factors) -> None:
    assert mig(noise(len(shapes), 10), shapes) == pytest.approx(0.0003, abs=0.0003)


@pytest.mark.parametrize("bins", [2, 7, 20])
def test_it_is_the_formula_of_the_paper(bins: int) -> None:
    factors = drawn(300)
    codes = turned(blurred(factors, 0.4))
    assert mig(codes, factors, bins=bins) == pytest.approx(
        as_in_the_paper(codes, factors, bins), abs=1e-12
    )


def test_a_factor_that_two_latents_know_equally_has_no_gap() -> None:
    factors = drawn(400)
    assert mig(np.concatenate([factors, factors], axis=1), factors) == 0.0


def test_turning_by_45_degrees_lowers_it() -> None:
    factors = drawn(2000)
    assert mig(turned(perfect(factors)), factors) < 0.7 * mig(perfect(factors), factors)


def test_latents_are_columns_however_the_codes_lie_in_memory() -> None:
    """disentangling-vae #78 reshaped (N, D) to (D, N) where it meant the transpose."""
    factors = drawn(1000)
    codes = blurred(factors)
    expected = mig(codes, factors)
    padded = np.zeros((2000, 2 * codes.shape[1]))
    padded[::2, ::2] = codes
    for same in (np.asfortranarray(codes), np.ascontiguousarray(codes.T).T, padded[::2, ::2]):
        assert mig(same, factors) == expected
    mixed = codes.reshape(codes.shape[::-1]).T
    assert expected > 0.8
    assert mig(mixed, factors) < 0.05


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(4)), st.integers(0, 1000))
def test_the_order_of_the_latents_changes_nothing(order: list[int], seed: int) -> None:
    factors = drawn(150, seed=seed)
    codes = blurred(factors)
    assert mig(codes[:, order], factors) == pytest.approx(mig(codes, factors), abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from([-1.0, 1.0]), min_size=4, max_size=4), st.integers(0, 1000))
def test_signs_change_nothing_beyond_the_interval(signs: list[float], seed: int) -> None:
    factors = drawn(150, seed=seed)
    codes = blurred(factors)
    low, high = measure(Points.of(codes, factors), resamples=50)["mig"].interval(0.99)
    assert low <= mig(codes * signs, factors) <= high


@settings(max_examples=20, deadline=None)
@given(st.integers(-20, 20), st.integers(0, 1000))
def test_scaling_a_latent_changes_nothing(exponent: int, seed: int) -> None:
    factors = drawn(150, seed=seed)
    codes = blurred(factors)
    assert mig(codes * [2.0**exponent, 1, 1, 1], factors) == mig(codes, factors)


def test_a_resample_scores_as_its_points_do_alone() -> None:
    factors = drawn(500)
    points = Points.of(perfect(factors), factors)
    resampled = measure(points, seed=4, resamples=5)["mig"].resampled
    alone = [measure(points.take(rows))["mig"].score for rows in resampled_rows(500, 5, 4)]
    assert resampled == pytest.approx(alone, abs=1e-12)


def test_a_resample_that_lacks_a_factor_is_measured_on_the_others() -> None:
    factors = np.array([[0, 0], [0, 1], [0, 0], [0, 1], [1, 1]])
    measured = measure(Points.of(factors, factors), resamples=50)["mig"]
    assert np.isfinite(measured.resampled).all()
    rows = np.array([0, 1, 2, 3])
    assert measure(Points.of(factors, factors).take(rows))["mig"].score == pytest.approx(1.0)


def test_details_show_what_each_latent_knows() -> None:
    factors = drawn(1000)
    details = measure(Points.of(perfect(factors, idle=2), factors))["mig"].details
    assert details["information"].shape == (5, 3)
    np.testing.assert_allclose(np.diag(details["information"][:3]), details["entropy"])
    assert details["per_factor"].mean() == pytest.approx(mig(perfect(factors, idle=2), factors))


def test_a_single_latent_has_no_gap_to_another() -> None:
    with pytest.raises(DataError, match=r"^mig compares latents: .* at least 2 columns, got 1$"):
        mig(np.arange(6.0)[:, None], drawn(6))


def test_it_is_registered_under_its_name() -> None:
    assert METRIC.names == ("mig",)
    assert set(METRIC.measure(Points.of(drawn(50), drawn(50)), seed=0, resamples=2)) == {"mig"}
