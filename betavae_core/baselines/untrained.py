"""An untrained encoder as a representation: what the architecture alone is worth."""

from __future__ import annotations

from typing import Any

from betavae_core.baselines.representation import Representation
from betavae_core.baselines.vae import mean_codes, settings
from betavae_core.config import Config
from betavae_core.data.dataset import Dataset
from betavae_core.data.split import split
from betavae_core.hardware import choose_device
from betavae_core.runs import make_model


def fit(dataset: Dataset, *, seed: int = 0, device: str = "auto", **changes: Any) -> Representation:
    """Codes (n, D): the posterior means of a model at step 0, its weights drawn from `seed`.

    `changes` are settings of `betavae_core.Config` in place of those of the 2D shapes.
    """
    config = Config(**(settings(quick=True) | {"seed": seed} | changes))
    resolved = config.resolve(
        dataset.image_shape, len(split(dataset)[0]), choose_device(device), "fp32"
    )
    model = make_model(resolved, dataset.image_shape, dataset.levels)
    return mean_codes(dataset, model.to(resolved.device).eval())
