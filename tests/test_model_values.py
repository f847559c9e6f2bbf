"""What a model refuses: values that mean no image to it, and settings that mean nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import nn

from betavae_core.model import BetaVAE
from betavae_core.objectives import Beta

IMAGES = np.random.default_rng(0).integers(0, 2, (5, 4, 4), dtype=np.uint8)


def model(**settings: Any) -> BetaVAE:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(16, 6))
    given = {"latent_dim": 3, "image_shape": (1, 4, 4), "levels": 255} | settings
    return BetaVAE(encoder, nn.Linear(3, 16), **given)


@pytest.mark.parametrize(
    ("images", "levels", "message"),
    [
        (255.0 * IMAGES, 255, "float64 images must lie in 0 to 1 for this model, got 0 to 255"),
        (-0.5 * IMAGES, 255, "got -0.5 to -0"),
        (np.full((2, 4, 4), np.nan), 255, "got nan to nan"),
        (255 * IMAGES, 1, "uint8 images must lie in 0 to 1 for this model, got 0 to 255"),
        (300 * IMAGES.astype(int), 255, "int64 images must lie in 0 to 255"),
    ],
)
def test_an_array_of_other_values_is_refused(
    images: NDArray[Any], levels: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        model(levels=levels).encode(images)


@pytest.mark.parametrize("levels", [1, 255])
def test_booleans_are_black_and_white(levels: int) -> None:
    network = model(levels=levels)
    codes = [network.encode(x).mu for x in (IMAGES.astype(bool), levels * IMAGES, 1.0 * IMAGES)]
    np.testing.assert_allclose(codes[0], codes[1], rtol=1e-6)
    np.testing.assert_allclose(codes[0], codes[2], rtol=1e-6)


@pytest.mark.parametrize(
    "settings", [{"likelihood": "laplace"}, {"sigma": 0.0}, {"latent_dim": 0}, {"levels": 0}]
)
def test_a_setting_that_means_nothing_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(settings))}.* must be"):
        model(**settings)


@pytest.mark.parametrize("beta", [-3.0, float("nan"), float("inf")])
def test_a_weight_that_means_nothing_is_refused(beta: float) -> None:
    with pytest.raises(ValueError, match="beta must be finite and >= 0"):
        Beta(beta)
