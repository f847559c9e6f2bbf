"""`evaluate`: how disentangled a run's codes, or codes from anywhere, are.

Of a run: its terms of the ELBO on held-out images, what its latents say without labels, and, where
the data have factors, every metric of a protocol.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from betavae_core import figures, metrics
from betavae_core.data import npy
from betavae_core.data.dataset import Dataset
from betavae_core.data.files import reading
from betavae_core.data.split import keyed_subset
from betavae_core.errors import DataError
from betavae_core.metrics.decomposition import KLDecomposition
from betavae_core.runs import Run, load
from betavae_core.storage import writable_folder, write_atomic

POINTS = 10_000
Progress = Callable[[str, int, int], None]
# Where a matrix of latents against factors is found, the best first, and what its numbers are.
_MATRICES = (
    ("dci_disentanglement", "importance", "importance (share of a factor's trees or weights)"),
    ("infom", "nmi", "mutual information, share of the factor's entropy"),
    ("mig", "information", "mutual information (nats)"),
    ("sap", "predictability", "predictability of the factor from the latent"),
)


def evaluate(
    run: Run | str | os.PathLike[str],
    *,
    images: NDArray[Any] | Dataset | None = None,
    protocol: str = "dlib",
    only: Iterable[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Everything that can be said of the codes of a run; leaves metrics.json in its folder.

    The points are 10,000 keyed images, training and held-out alike: the factors of a data set
    that is all combinations of them are met in no split alone.

    Args:
        run: a run, or its folder.
        images: what it was trained on, where that was passed to `train`.
        protocol, only: which metrics, as in `metrics.suite`.
        out: the folder for metrics.json and figures/, in place of the run's.
        seed: of the samples that a metric draws.

    Returns `test` and `train` (the terms of the ELBO), `latents` (what needs no labels) and, with
    factors, `metrics` and `figures`.
    Raises UsageError where there is no run, its images are others now, or metrics are asked for
    that need factors.
    """
    metrics.require(protocol, only, seed)
    run = run if isinstance(run, Run) else load(run)
    dataset, folder = run.images(images), writable_folder(Path(out or run.path))
    if only is not None and dataset.factors is None:
        raise DataError(f"{dataset.name} has no factors, and --metric needs them; leave it out")
    rows = keyed_subset(np.arange(len(dataset)), POINTS)
    mu, logvar, *_ = run.model.encode(dataset.take(rows))
    result = _elbo(run) | {"latents": without_labels(mu, logvar, seed)}
    if dataset.factors is not None:
        chosen = _columns(dataset, rows)
        found = metrics.suite(
            mu, chosen[0], protocol=protocol, only=only, seed=seed, progress=progress
        )
        title = f"Latents against factors · {run.path.name}"
        result |= _scored(found, chosen[1], folder, title)
    return _kept(result, folder)


def evaluate_codes(
    file: str | os.PathLike[str],
    *,
    protocol: str = "dlib",
    only: Iterable[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The metrics of the arrays `codes` (N, D) and `factors` (N, K) in an .npz file.

    Leaves metrics.json and a picture where `out` says, and nothing where it does not.
    Raises DataError, in one line, for a file that does not hold these.
    """
    metrics.require(protocol, only, seed)
    codes, factors = read_codes(file := Path(file))
    folder = None if out is None else writable_folder(Path(out))
    found = metrics.suite(
        codes, factors, protocol=protocol, only=only, seed=seed, progress=progress
    )
    names = [f"factor {k}" for k in metrics.Points.of(codes, factors).columns]
    result = _scored(found, names, folder, f"Latents against factors · {file.stem}")
    return result if folder is None else _kept(result, folder)


def read_codes(file: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """The arrays `codes` and `factors` of an .npz file; nothing in it is unpickled."""
    remedy = "write it again with numpy.savez(file, codes=codes, factors=factors)"
    with reading(file, remedy), npy.opened_npz(file) as archive:
        there = npy.members(archive)
        for name in ("codes", "factors"):
            if name not in there:
                raise DataError(f"has no array {name!r}, only {', '.join(there) or 'none'}")
        return npy.read_member(archive, "codes"), npy.read_member(archive, "factors")


def without_labels(
    mu: NDArray[Any], logvar: NDArray[Any], seed: int = 0
) -> dict[str, float | None]:
    """What is known without any factor.

    The KL of the codes and its three parts; how far the moments of the aggregate posterior are
    from the prior's; the total correlation of the means, were they Gaussian: all in nats. And the
    number of active latents, by KL and by the variance of the mean. The parts of the KL are None
    where there are no more images than latents: too few to estimate them.
    """
    parts: dict[str, float | None] = dict.fromkeys(KLDecomposition._fields)
    if len(mu) > mu.shape[1]:
        parts = metrics.kl_decomposition(mu, logvar, seed=seed)._asdict()
    return {
        "kl": float(metrics.kl_per_latent(mu, logvar).sum()),
        **parts,
        "aggregate_to_prior": metrics.aggregate_moments(mu, logvar).kl_to_prior,
        "gaussian_total_correlation": metrics.gaussian_total_correlation(mu),
        "active_latents": int(metrics.active_latents(mu, logvar).sum()),
        "active_units": int(metrics.active_units(mu).sum()),
    }


def _elbo(run: Run) -> dict[str, Any]:
    summary = run.summary or {}
    return {split: summary[split] for split in ("train", "test") if split in summary}


def _columns(dataset: Dataset, rows: NDArray[np.int64]) -> tuple[NDArray[Any], list[str]]:
    """The factors of the chosen points, and the names of those that vary."""
    assert dataset.factors is not None
    factors = dataset.factors[rows]
    varying = metrics.Points.of(np.zeros((len(rows), 1)), factors).columns
    return factors, [dataset.factor_names[k] for k in varying]


def _scored(
    found: dict[str, metrics.Score], factors: list[str], folder: Path | None, title: str
) -> dict[str, Any]:
    result: dict[str, Any] = {"metrics": {name: score.row() for name, score in found.items()}}
    picture = matrix(found, factors, title)
    if folder is not None and picture is not None:
        result["figures"] = [
            str(figures.save(picture, folder / "figures" / "factors-by-latent.png"))
        ]
    return result


def matrix(found: dict[str, metrics.Score], factors: list[str], title: str) -> Figure | None:
    """Latents against factors, as the best of the metrics found sees it; None if none does."""
    for name, key, unit in _MATRICES:
        if name in found and key in found[name].details:
            values = np.asarray(found[name].details[key])
            latents = [f"z{d}" for d in range(len(values))]
            shape = {"labels": ("latent", "factor"), "unit": unit, "title": title}
            return figures.heatmap(values, latents, factors, **shape)  # type: ignore[arg-type]
    return None


def _kept(result: dict[str, Any], folder: Path) -> dict[str, Any]:
    write_atomic(folder / "metrics.json", json.dumps(result, indent=2).encode())
    return result
