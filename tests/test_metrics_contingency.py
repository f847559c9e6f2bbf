"""Binned latents against factors: the bins of the field, the tables of plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from code_cases import FEW, Codes, Factors, blurred, drawn
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import mutual_info_score

from betavae_core.errors import UsageError
from betavae_core.metrics.contingency import (
    entropies,
    equal_width_bins,
    joint_counts,
    mutual_information,
)
from betavae_core.metrics.points import resampled_rows
from betavae_core.metrics.resampling import draw_weights

N = 200


@pytest.fixture(scope="module")
def factors() -> Factors:
    return drawn(N)


@pytest.fixture(scope="module")
def cells(factors: Factors) -> Factors:
    return equal_width_bins(blurred(factors), 7)


def as_histogram(codes: Codes, bins: int) -> Factors:
    """disentanglement_lib's discretizer, as it is described: bins from 1."""
    columns = [np.digitize(z, np.histogram(z, bins)[1][:-1]) for z in codes.T]
    return np.stack(columns, axis=1) - 1


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.float64, (11, 2), elements=st.floats(-1e6, 1e6, width=32)),
    st.integers(2, 40),
)
def test_bins_are_those_of_a_histogram(codes: Codes, bins: int) -> None:
    spans = np.ptp(codes, axis=0)
    codes = codes[:, spans > 1e-3 * np.abs(codes).max()]  # np.histogram refuses narrower ones
    if codes.shape[1]:
        np.testing.assert_array_equal(equal_width_bins(codes, bins), as_histogram(codes, bins))


def test_the_largest_value_is_in_the_last_bin_with_its_neighbours() -> None:
    codes = np.array([[0.0], [0.5], [0.99], [1.0]])
    assert equal_width_bins(codes, 2)[:, 0].tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("value", [0.0, 0.1, -3e17])
def test_a_constant_latent_is_in_one_bin(value: float) -> None:
    assert len(np.unique(equal_width_bins(np.full((9, 1), value), 20))) == 1


def test_a_latent_of_two_neighbouring_numbers_has_two_bins() -> None:
    codes = np.array([[1e9], [np.nextafter(1e9, 2e9)]])
    assert len(np.unique(equal_width_bins(codes, 20))) == 2


@pytest.mark.parametrize("bins", [-1, 0, 1])
def test_fewer_than_two_bins_are_refused(bins: int) -> None:
    with pytest.raises(UsageError, match=f"bins must be >= 2, got {bins}"):
        equal_width_bins(np.zeros((3, 1)), bins)


def test_tables_are_those_of_loops(factors: Factors, cells: Factors) -> None:
    weights = draw_weights(N, 3, seed=5)
    tables = joint_counts(cells, factors[:, 2], weights)
    expected = np.zeros((4, cells.shape[1], cells.max() + 1, FEW[2]))
    for r in range(4):
        for n in range(N):
            for d in range(cells.shape[1]):
                expected[r, d, cells[n, d], factors[n, 2]] += weights[r, n]
    np.testing.assert_array_equal(tables, expected)


def test_information_is_that_of_scikit_learn(factors: Factors, cells: Factors) -> None:
    found = mutual_information(cells, factors, np.ones((1, N)))[0]
    for d, latent in enumerate(cells.T):
        for k, factor in enumerate(factors.T):
            assert found[d, k] == pytest.approx(mutual_info_score(latent, factor), abs=1e-12)


def test_a_weighted_point_counts_as_often_as_it_weighs(factors: Factors, cells: Factors) -> None:
    weights = draw_weights(N, 4, seed=3)
    found = mutual_information(cells, factors, weights)
    for r, rows in enumerate(resampled_rows(N, 4, 3), start=1):
        alone = mutual_information(cells[rows], factors[rows], np.ones((1, N)))[0]
        np.testing.assert_allclose(found[r], alone, atol=1e-12)


def test_a_factor_knows_its_entropy_of_itself(factors: Factors) -> None:
    weights = draw_weights(N, 2, seed=0)
    own = np.diagonal(mutual_information(factors, factors, weights), axis1=1, axis2=2)
    np.testing.assert_allclose(entropies(factors, weights), own, atol=1e-12)


def test_even_values_have_the_logarithm_of_their_number() -> None:
    values = np.repeat(np.arange(8), 5)[:, None]
    assert entropies(values, np.ones((1, 40)))[0, 0] == pytest.approx(np.log(8), abs=1e-12)


def test_independent_values_have_no_information_of_each_other() -> None:
    a, b = np.indices((4, 6)).reshape(2, 24)
    found = mutual_information(a[:, None], b[:, None], np.ones((1, 24))).item()
    assert found == pytest.approx(0.0, abs=1e-14)


def test_a_resample_without_a_value_is_measured_all_the_same() -> None:
    values = np.array([0, 0, 1, 1, 2])[:, None]
    weights = np.array([[1.0, 1, 1, 1, 0], [2, 2, 0, 0, 0]])
    assert entropies(values, weights)[:, 0] == pytest.approx([np.log(2), 0.0], abs=1e-12)


def test_the_score_has_the_same_bits_with_any_number_of_resamples(
    factors: Factors, cells: Factors
) -> None:
    few, many = (mutual_information(cells, factors, draw_weights(N, r, 0)) for r in (0, 50))
    np.testing.assert_array_equal(few[0], many[0])
