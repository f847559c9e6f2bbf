"""Which points are fitted, which are scored, and resamples as weights."""

from __future__ import annotations

import numpy as np
import pytest
from code_cases import drawn

from betavae_core.errors import DataError
from betavae_core.metrics.points import Points, resampled_rows
from betavae_core.metrics.resampling import draw_weights, split


def numbered(n: int) -> Points:
    """Points whose code is their number."""
    return Points.of(np.arange(n)[:, None], drawn(n))


def rows(part: Points) -> list[int]:
    return part.codes[:, 0].astype(int).tolist()


@pytest.mark.parametrize(("n", "fitted"), [(15_000, 10_000), (10_000, 6667), (3, 2), (2, 1)])
def test_two_thirds_are_fitted_and_the_others_score(n: int, fitted: int) -> None:
    points = Points(np.arange(float(n))[:, None], np.zeros((n, 1), int), (0,))
    train, test = split(points, seed=0)
    assert len(train) == fitted
    assert sorted(rows(train) + rows(test)) == list(range(n))


def test_points_in_any_order_are_drawn_from_all_of_it() -> None:
    train, test = split(numbered(3000), seed=0)
    assert np.mean(rows(test)) == pytest.approx(1500, abs=100)
    assert np.mean(rows(train)) == pytest.approx(1500, abs=100)


def test_the_seed_decides_the_split() -> None:
    first, again, other = (split(numbered(100), seed=s)[0] for s in (1, 1, 2))
    assert rows(first) == rows(again) != rows(other)


def test_a_single_point_is_refused() -> None:
    with pytest.raises(DataError, match=r"^points must be enough .* others, got 1$"):
        split(numbered(9).take(np.array([3])), seed=0)


def test_the_first_weights_are_the_points_themselves() -> None:
    assert draw_weights(7, 0, seed=0).tolist() == [[1.0] * 7]


def test_a_resample_weighs_each_point_by_how_often_it_is_drawn() -> None:
    weights = draw_weights(50, 3, seed=9)
    assert weights.shape == (4, 50)
    for row, drawn_rows in zip(weights[1:], resampled_rows(50, 3, 9), strict=True):
        assert row.tolist() == [drawn_rows.tolist().count(n) for n in range(50)]
