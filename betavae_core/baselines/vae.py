"""A trained β-VAE as a representation: β = 0 an autoencoder, 1 the VAE, above it the β-VAE."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from betavae_core.baselines.representation import Representation, of_images
from betavae_core.config import Config
from betavae_core.data.dataset import Dataset
from betavae_core.errors import UsageError
from betavae_core.model import BetaVAE
from betavae_core.trainer import Progress
from betavae_core.training import train

BETA = 4.0  # of the paper's β-VAE on the 2D shapes


def fit(
    dataset: Dataset,
    *,
    seed: int = 0,
    folder: Path | None = None,
    quick: bool = False,
    device: str = "auto",
    progress: Progress | None = None,
    beta: float = BETA,
    **changes: Any,
) -> Representation:
    """Codes (n, D): the posterior means of a model trained by `betavae_core.train` in `folder`.

    A run that is in `folder` is gone on with, and a finished one is only loaded. `changes` are
    settings of `betavae_core.Config` in place of those of the 2D shapes.
    Raises UsageError without a folder, and as `train` does.
    """
    if folder is None:
        raise UsageError("a VAE trains in a run directory: give its folder")
    config = settings(quick) | {"seed": seed, "device": device, "beta": beta} | changes
    resume = (folder / "config.toml").is_file()
    run = train(Config(**config), images=dataset, out=folder, resume=resume, progress=progress)
    return mean_codes(dataset, run.model)


def settings(quick: bool) -> dict[str, Any]:
    """Settings of Higgins et al. 2017, table 1, 2D shapes; fewer steps if `quick`, for a CPU."""
    paper = {"arch": "higgins-mlp", "latent_dim": 10, "optimizer": "adagrad", "lr": 1e-2}
    return paper | {"batch_size": 64, "steps": 2_000 if quick else 300_000}


def mean_codes(dataset: Dataset, model: BetaVAE) -> Representation:
    """Codes (n, D): the posterior means of `model`, on its own device."""
    device = next(model.parameters()).device
    return of_images(dataset, lambda x: model.encode(x).mu, device)
