"""Gaussian blobs: the formula, and that position is all that differs."""

from __future__ import annotations

from math import exp

import numpy as np
import pytest

from betavae_core.data import DataError, blobs, load


def test_a_pixel_is_the_bell_of_its_distance_from_the_centre() -> None:
    dataset = load("blobs")
    assert dataset.factors is not None
    rng = np.random.default_rng(0)
    for index, row, col in rng.integers(0, (4096, 64, 64), (300, 3)):
        y, x = dataset.factors[index]
        value = 255 * exp(-((row - y) ** 2 + (col - x) ** 2) / 200)
        assert abs(int(dataset.images[index, row, col]) - value) <= 0.5 + 1e-9


def test_the_centre_is_brightest_and_visits_every_pixel_once() -> None:
    dataset = load("blobs")
    peaks = dataset.images.reshape(4096, -1).argmax(axis=1)
    np.testing.assert_array_equal(peaks, np.arange(4096))
    assert (dataset.images.max(axis=(1, 2)) == 255).all()


def test_the_factors_are_the_centre_in_pixels() -> None:
    dataset = load("blobs")
    assert dataset.factor_names == ("y", "x")
    assert dataset.factors is not None
    assert dataset.factors[64 * 20 + 7].tolist() == [20, 7]
    for name in ("y", "x"):
        np.testing.assert_array_equal(dataset.factor_values[name], np.arange(64))


def test_exchanging_x_and_y_transposes_the_image() -> None:
    images = load("blobs").images.reshape(64, 64, 64, 64)
    np.testing.assert_array_equal(images.transpose(1, 0, 3, 2), images)


def test_a_wider_blob_is_wider() -> None:
    narrow, wide = blobs.draw(16, 2.0), blobs.draw(16, 4.0)
    assert narrow.image_shape == (1, 16, 16)
    assert (wide.images >= narrow.images).all()
    assert wide.images.sum() > 2 * narrow.images.sum()


@pytest.mark.parametrize(("side", "sigma"), [(0, 1.0), (4, 0.0), (4, -1.0), (4, float("nan"))])
def test_impossible_blobs_are_refused(side: int, sigma: float) -> None:
    with pytest.raises(DataError, match="side >= 1 and sigma > 0"):
        blobs.draw(side, sigma)
