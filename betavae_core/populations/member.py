"""One model of a sweep: trained, or found trained, and then scored."""

from __future__ import annotations

import io
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from betavae_core import data
from betavae_core.data.dataset import Dataset
from betavae_core.data.resident import Resident
from betavae_core.data.split import keyed_subset
from betavae_core.errors import FailureError, UsageError
from betavae_core.loop import fit
from betavae_core.metrics import factorvae, higgins, mig, modularity, sap
from betavae_core.populations.folder import codes_path, run_path
from betavae_core.populations.plan import Job, has_factors
from betavae_core.run_directory import read_config
from betavae_core.runs import Run
from betavae_core.storage import make_folder, write_atomic
from betavae_core.trainer import Trainer
from betavae_core.training import begun, finish

POINTS = 10_000  # images that are encoded to score a model: of the whole data set, by key

_METRICS: dict[str, Callable[..., float]] = {
    "mig": mig,
    "sap": sap,
    "modularity": modularity,
    "factorvae": factorvae,
    "higgins": higgins,
}


def load_images(source: str, classes: str | None) -> Dataset:
    """The images of `source`, or some of their classes, loaded once for many runs."""
    dataset = data.load(source)
    return dataset if classes is None else data.select_classes(dataset, classes)


def begin(
    job: Job,
    out: Path,
    images: Dataset,
    progress: Callable[[int], None],
    resident: Resident | None = None,
) -> AbstractContextManager[Trainer | Run]:
    """The model of `job`, to be trained, or to go on with, or found trained: as `begun` says.

    `progress` hears of the steps that are done.
    """
    path = run_path(out, job.label)
    saved = read_config(path) if (path / "config.toml").is_file() else None

    def tell(step: int, steps: int, row: dict[str, Any]) -> None:
        progress(step)

    return begun(job.config, images, path, saved, progress=tell, images=resident)


def make(job: Job, out: Path, images: Dataset, progress: Callable[[int], None]) -> dict[str, Any]:
    """Train the model of `job` if it is not, and give its row of sweep.json.

    `progress` hears of the steps that are done. Raises what `train` raises.
    """
    with begin(job, out, images, progress) as trainer:
        if isinstance(trainer, Trainer):
            fit([trainer])
        return end(job, out, images, trainer)


def end(job: Job, out: Path, images: Dataset, trained: Trainer | Run) -> dict[str, Any]:
    """The row of a trained model, once its run has its result."""
    run = finish(trained) if isinstance(trained, Trainer) else trained
    return score(job, run, images, codes_path(out, job.label))


def score(job: Job, run: Run, images: Dataset, codes_file: Path) -> dict[str, Any]:
    """What the run is worth, without comparing it with others; its codes go to `codes_file`."""
    assert run.summary is not None
    config, summary, capacity = run.config, run.summary, run.config.objective == "capacity"
    chosen = keyed_subset(np.arange(len(images)), POINTS)
    arrays = {"codes": run.model.encode(images.take(chosen)).mu, "kl": summary["kl_per_latent"]}
    scores = {}
    if images.factors is not None:
        arrays["factors"] = images.factors[chosen]
    if has_factors(images, config.latent_dim):
        scores = disentanglement(arrays["codes"], arrays["factors"])
    _write_arrays(codes_file, arrays)
    return {
        "label": job.label,
        "setting": job.setting,
        "beta": summary["beta"],
        "beta_norm": summary["beta_norm"],
        "gamma": config.gamma if capacity else None,
        "capacity_max": config.capacity_max if capacity else None,
        "seed": config.seed,
        **{name: summary["test"][name] for name in ("recon_nll", "kl", "neg_elbo")},
        "active_latents": summary["active_latents"],
        "udr": None,
        **{name: value if isfinite(value) else None for name, value in scores.items()},
        "path": str(run.path),
    }


def disentanglement(codes: ArrayLike, factors: ArrayLike) -> dict[str, float]:
    """How well the codes (N, D) keep the factors (N, K) apart, by the metrics that take seconds."""
    return {name: metric(codes, factors) for name, metric in _METRICS.items()}


def describe(error: Exception) -> str:
    """An error of a run in one line; one that the library does not name with its place."""
    if isinstance(error, UsageError | FailureError):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(place.filename).name}, line {place.lineno})"


def _write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    content = io.BytesIO()
    np.savez(content, **arrays)
    make_folder(path.parent)
    write_atomic(path, content.getvalue())
