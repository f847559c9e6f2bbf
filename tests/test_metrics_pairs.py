"""Groups of codes that share one factor's value, out of points and out of a function."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from betavae_core.errors import DataError, UsageError
from betavae_core.metrics.pairs import (
    FreshSource,
    PointSource,
    Source,
    as_source,
    at_least_one,
    source,
)
from betavae_core.metrics.points import Points

SIZES = (3, 1, 4, 5)  # the second is never held


def grid(n: int = 600, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, SIZES, (n, len(SIZES)))


def itself(vectors: NDArray[np.int64]) -> NDArray[np.float64]:
    """Codes that are their factors, so that a test reads the factors off the codes."""
    return vectors.astype(float)


def sources() -> list[Source]:
    return [source(itself(grid()), grid()), source(itself, SIZES)]


@pytest.mark.parametrize("given_source", sources(), ids=["points", "function"])
@pytest.mark.parametrize("size", [2, 7])
def test_a_group_shares_the_held_factor_and_no_other(given_source: Source, size: int) -> None:
    shared = np.repeat(np.arange(3), 500)
    groups = given_source.groups(shared, size, np.random.default_rng(0))
    assert groups.shape == (1500, size, 4)
    alike = (groups == groups[:, :1]).all(1)
    for k, column in enumerate((0, 2, 3)):
        assert alike[shared == k, column].all()
        others = [c for c in (0, 2, 3) if c != column]
        # Two draws from three values or more agree a third of the time at most.
        assert alike[np.ix_(shared == k, others)].mean() < (0.4 if size == 2 else 0.05)


@pytest.mark.parametrize("given_source", sources(), ids=["points", "function"])
def test_members_are_drawn_evenly(given_source: Source) -> None:
    groups = given_source.groups(np.full(4000, 2), 3, np.random.default_rng(0))
    for member in range(3):
        for column in (0, 2, 3):
            counts = np.bincount(groups[:, member, column].astype(int), minlength=SIZES[column])
            expected = 4000 / SIZES[column]
            # Five standard deviations, and what 600 points may be off a grid's evenness.
            assert np.abs(counts - expected).max() < 5 * expected**0.5 + 0.25 * expected


def test_no_point_is_paired_with_itself() -> None:
    names = np.arange(600.0)[:, None]
    pairs = source(names, grid()).groups(np.full(5000, 1), 2, np.random.default_rng(0))
    assert (pairs[:, 0] != pairs[:, 1]).all()


def test_the_others_of_a_group_are_every_other_point_of_the_value() -> None:
    factors = np.array([[0], [0], [0], [1], [1], [1]])
    names = np.arange(6.0)[:, None]
    pairs = source(names, factors).groups(np.zeros(3000, int), 2, np.random.default_rng(0))
    seen, counts = np.unique(pairs[:, :, 0], axis=0, return_counts=True)
    assert seen.tolist() == [[a, b] for s in (0, 3) for a in range(s, s + 3)
                             for b in range(s, s + 3) if a != b]  # fmt: skip
    assert np.abs(counts - 250).max() < 5 * 250**0.5


def test_a_value_that_occurs_once_is_not_held() -> None:
    factors = np.array([[0, 0], [1, 0], [1, 1], [2, 1], [2, 0]])
    names = np.arange(5.0)[:, None]
    groups = source(names, factors).groups(np.zeros(200, int), 3, np.random.default_rng(0))
    assert set(groups.ravel()) == {1, 2, 3, 4}


def test_a_factor_whose_values_all_differ_cannot_be_held() -> None:
    with pytest.raises(DataError, match="share a value of factor 1, got 4 points"):
        source(np.zeros((4, 2)), np.array([[0, 0], [0, 1], [1, 2], [1, 3]]))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=2, max_size=30),
       st.integers(2, 5), st.integers(0, 9))  # fmt: skip
def test_groups_share_their_factor_whatever_the_points(
    rows: list[tuple[int, int]], size: int, seed: int
) -> None:
    factors = np.array(rows)
    try:
        points = Points.of(factors.astype(float), factors)
        drawn = PointSource(points)
    except DataError:
        return  # nothing varies, or nothing is shared
    shared = np.random.default_rng(seed).integers(0, drawn.n_factors, 20)
    groups = drawn.groups(shared, size, np.random.default_rng(seed))
    for codes, k in zip(groups, shared, strict=True):
        assert len(set(codes[:, points.columns[k]])) == 1


def test_the_same_seed_draws_the_same_groups() -> None:
    for each in sources():
        a, b, c = (each.groups(np.arange(3), 5, np.random.default_rng(s)) for s in (1, 1, 2))
        np.testing.assert_array_equal(a, b)
        assert (a != c).any()


def test_codes_come_back_unrounded() -> None:
    """They move as float32 where that is what they are, and only there."""
    exact = np.random.default_rng(0).normal(size=(600, 2))
    for codes, dtype in ((exact, np.float64), (np.full((600, 1), 1e300), np.float64),
                         (exact.astype(np.float32), np.float32)):  # fmt: skip
        given_source, rng = source(codes, grid()), np.random.default_rng(0)
        groups = given_source.groups(np.zeros(50, int), 2, rng)
        assert groups.dtype == dtype
        assert np.isin(groups, codes).all()


def test_a_function_is_called_with_large_batches_of_whole_vectors() -> None:
    calls: list[NDArray[np.int64]] = []

    def encode(vectors: NDArray[np.int64]) -> NDArray[np.float64]:
        calls.append(vectors)
        return itself(vectors)

    source(encode, SIZES).groups(np.zeros(5000, int), 4, np.random.default_rng(0))
    assert [len(vectors) for vectors in calls] == [8192, 8192, 3616]
    drawn = np.concatenate(calls)
    assert drawn.dtype == np.int64
    assert drawn.min(0).tolist() == [0, 0, 0, 0]
    assert drawn.max(0).tolist() == [2, 0, 3, 4]


def test_bytes_from_a_function_do_not_wrap_around() -> None:
    encoded = source(lambda v: (v % 2 * 255).astype(np.uint8), (2, 2))
    pairs = encoded.groups(np.zeros(100, int), 2, np.random.default_rng(0))
    assert set(np.unique(pairs[:, 0] - pairs[:, 1])) == {-255.0, 0.0, 255.0}


def test_fresh_points_hold_codes_of_their_own_factors() -> None:
    points = source(itself, SIZES).points(500, np.random.default_rng(0))
    assert points.columns == (0, 2, 3)
    np.testing.assert_array_equal(points.codes[:, [0, 2, 3]], points.factors)
    assert points.sizes == (3, 4, 5)


def test_points_that_are_given_are_the_points() -> None:
    points = Points.of(itself(grid()), grid())
    assert as_source(points).points(10, np.random.default_rng(0)) is points
    assert as_source(fresh := FreshSource(itself, SIZES)) is fresh


def test_batches_cover_every_item_once() -> None:
    wide = source(np.zeros((600, 4096)), grid())
    for each in (*sources(), wide):
        for codes_each in (1, 128, 10**7):
            slices = list(each.batches(1000, codes_each))
            assert np.concatenate([np.arange(1000)[s] for s in slices]).tolist() == [*range(1000)]
            assert all(s.stop - s.start <= max(1, each.at_once // codes_each) for s in slices)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [((1, 1), "with one that is > 1"), ((2.5, 3), "whole number"), ((), "whole number"),
     (((2, 3), (4, 5)), "whole number"), ((3, 0), "at least 1"), ((3, -2), "at least 1")],
)  # fmt: skip
def test_sizes_are_whole_numbers_and_one_varies(sizes: tuple[float, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        source(itself, sizes)


@pytest.mark.parametrize(
    ("encode", "message"),
    [(lambda v: v[:-1] * 1.0, "must give"), (lambda v: v[:, 0] * 1.0, "must give"),
     (lambda v: v.astype(str), "must give"), (lambda v: v * np.nan, "NaN or infinity"),
     (lambda v: np.zeros((len(v), 0)), "must give")],
)  # fmt: skip
def test_what_a_function_returns_is_checked(encode: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        source(encode, SIZES).groups(np.arange(3), 2, np.random.default_rng(0))  # type: ignore[arg-type]


def test_counts_are_at_least_one() -> None:
    at_least_one(pairs=1, train=2)
    with pytest.raises(UsageError, match="train must be at least 1, got 0"):
        at_least_one(pairs=1, train=0)
