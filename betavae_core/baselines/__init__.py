"""The representations that Higgins et al. 2017 compare in figure 6, all through one interface.

`fit(name, dataset)` gives a `Representation`: a function from indices into the data set to codes.
One that is trained keeps its model in `folder`, and finds a finished one there instead of training
again. A baseline is a file in this room with a function `fit`, and its line in `BASELINES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from betavae_core.baselines.representation import Representation
from betavae_core.data.dataset import Dataset
from betavae_core.errors import UsageError
from betavae_core.trainer import Progress

__all__ = ["BASELINES", "Baseline", "Representation", "fit"]

_TRAINED = ("folder", "quick", "device", "progress")


@dataclass(frozen=True)
class Baseline:
    """A baseline: its name, what it is, the file that fits it and what `fit` there takes."""

    name: str
    says: str
    file: str
    takes: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trained(self) -> bool:
        """Whether fitting takes minutes and leaves a model in a folder."""
        return "folder" in self.takes


BASELINES = {
    baseline.name: baseline
    for baseline in (
        Baseline("ground-truth", "the factors that vary, scaled to [0, 1]", "ground_truth"),
        Baseline("raw", "the pixels", "raw"),
        Baseline("pca", "10 principal components of the pixels", "pca"),
        Baseline("ica", "10 independent components of the pixels", "ica"),
        Baseline("dc-ign", "a VAE taught one factor a latent (clamping)", "dc_ign", _TRAINED),
        Baseline("infogan", "codes that a GAN's Q reads off an image", "infogan", _TRAINED),
        Baseline("untrained", "a VAE's encoder before its first step", "untrained", ("device",)),
        Baseline("ae", "an autoencoder, β = 0", "vae", _TRAINED, {"beta": 0.0}),
        Baseline("vae", "the VAE, β = 1", "vae", _TRAINED, {"beta": 1.0}),
        Baseline("beta-vae", "the β-VAE, β = 4", "vae", _TRAINED, {"beta": 4.0}),
    )
}


def fit(
    name: str,
    dataset: Dataset,
    *,
    seed: int = 0,
    folder: Path | None = None,
    quick: bool = False,
    device: str = "auto",
    progress: Progress | None = None,
    **changes: Any,
) -> Representation:
    """The named baseline, fitted on `dataset`: a function from indices (n,) to codes (n, D).

    Args:
        seed: everything random follows from it.
        folder: where a trained baseline keeps its model, or finds it finished. A VAE needs one.
        quick: the size that a CPU trains in minutes, in place of the full one.
        progress: as in `train`, called with rows of the baseline's own losses.
        changes: keywords of the baseline's own `fit`, in place of their defaults.

    Raises:
        UsageError: no such baseline, or it cannot take this data or folder.
        TrainingError: a loss became non-finite.
    """
    if name not in BASELINES:
        raise UsageError(f"a baseline must be one of {', '.join(BASELINES)}, got {name!r}")
    baseline = BASELINES[name]
    given = {"folder": folder, "quick": quick, "device": device, "progress": progress}
    taken = {key: given[key] for key in baseline.takes}
    module = import_module(f"{__name__}.{baseline.file}")
    representation: Representation = module.fit(
        dataset, seed=seed, **(taken | dict(baseline.settings) | changes)
    )
    return representation
