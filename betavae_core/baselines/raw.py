"""The raw pixels as a representation: what a metric gives to no representation at all."""

from __future__ import annotations

from betavae_core.baselines.representation import Representation, of_images, unit
from betavae_core.data.dataset import Dataset


def fit(dataset: Dataset, *, seed: int = 0) -> Representation:
    """Codes (n, P) = x / levels, in [0, 1]. Nothing is random: `seed` is for the interface."""
    return of_images(dataset, lambda x: unit(x, dataset.levels))
