"""The rendered heads: factors do what they say, and mirrored heads are the heads turned back."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from betavae_core.data import headlike
from betavae_core.data.headlike import FACTOR_VALUES, Head

LIGHTS = len(FACTOR_VALUES["lighting"])
FRONT = LIGHTS // 2


@cache
def rendered(azimuth: float, elevation: float, breadth: float = 0.5) -> np.ndarray:
    return Head(breadth).render(azimuth, elevation).astype(int)


def covered(image: np.ndarray) -> np.ndarray:
    return image > 0


def test_a_head_is_inside_the_picture_on_black() -> None:
    for azimuth, elevation in ((0, 0), (75, 30), (75, -30), (40, 0)):
        for breadth in (0.0, 1.0):
            picture = rendered(azimuth, elevation, breadth)
            border = np.concatenate([picture[:, [0, -1]].ravel(), picture[:, :, [0, -1]].ravel()])
            assert not border.any()
            assert 0.2 < covered(picture[FRONT]).mean() < 0.7


def test_the_head_has_no_holes() -> None:
    for azimuth in (0, 45, 75):
        mask = covered(rendered(azimuth, 10)[FRONT])
        for row in mask:
            lit = np.flatnonzero(row)
            if len(lit):
                # A profile may have a gap between nose and lips or behind an ear, nothing else.
                assert (~row[lit[0] : lit[-1]]).sum() <= 6


def test_turning_back_is_mirroring_with_the_lamp_on_the_other_side() -> None:
    left, right = rendered(-45, 20), rendered(45, 20)
    difference = np.abs(left - right[::-1, :, ::-1])
    assert difference.mean() < 0.2
    assert (difference > 8).mean() < 0.002  # rays that graze the outline


def test_the_lamp_lights_the_side_that_it_is_on() -> None:
    pictures = rendered(0, 0)
    balance = [
        (picture[:, 32:].sum() - picture[:, :32].sum()) / picture.sum() for picture in pictures
    ]
    assert (np.diff(balance) > 0).all()
    assert abs(balance[FRONT]) < 0.01


def test_the_nose_points_where_the_head_is_turned() -> None:
    left, right = rendered(-75, 0)[FRONT], rendered(75, 0)[FRONT]
    middle = slice(20, 45)  # the rows of the nose
    assert np.flatnonzero(covered(right[middle]).any(axis=0))[-1] >= 58
    assert np.flatnonzero(covered(left[middle]).any(axis=0))[0] <= 5


def test_looking_up_shows_the_chin_and_looking_down_the_forehead() -> None:
    up, down = rendered(0, 30)[FRONT], rendered(0, -30)[FRONT]
    top = slice(8, 24)
    # The smooth forehead has little contrast, eyes and nose have much.
    assert contrast(down[top]) < contrast(up[top])


def contrast(image: np.ndarray) -> float:
    inner = image[:, 24:40]
    return float(np.abs(np.diff(inner, axis=0)).mean())


def test_a_broad_head_is_wider_than_a_narrow_one() -> None:
    widths = [covered(rendered(0, 0, breadth)[FRONT]).any(axis=0).sum() for breadth in (0.0, 1.0)]
    assert widths[1] > widths[0] + 5


def test_the_images_are_in_the_order_of_the_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {
        "shape": np.arange(2.0),
        "azimuth": np.array([-30.0, 0.0, 30.0]),
        "elevation": np.array([-10.0, 20.0]),
        "lighting": np.array([-60.0, 0.0, 60.0]),
    }
    monkeypatch.setattr(headlike, "FACTOR_VALUES", few)
    monkeypatch.setattr(headlike, "CLASSES", (2, 3, 2, 3))
    monkeypatch.setattr(headlike, "COUNT", 36)
    images = headlike.draw.__wrapped__().reshape(2, 3, 2, 3, 64, 64)
    np.testing.assert_array_equal(images[1, 2, 1], Head(1.0).render(30.0, 20.0))
    np.testing.assert_array_equal(images[0, 1, 0], Head(0.0).render(0.0, -10.0))
    np.testing.assert_array_equal(images[1, 0, 1], Head(1.0).render(30.0, 20.0)[::-1, :, ::-1])
