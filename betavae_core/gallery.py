"""The pictures of a run: what the model makes of its data, drawn by `figures`.

Every picture names the split that its images are of.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from betavae_core import data, figures
from betavae_core.data.dataset import Dataset
from betavae_core.data.split import keyed_subset, split
from betavae_core.errors import UsageError
from betavae_core.objectives import Capacity
from betavae_core.runs import Run, load

_RANGE = np.linspace(-3, 3, 9)  # the values that a traversal gives a latent, in prior σ


def draw(run: Run, dataset: Dataset, kind: str) -> Figure:
    """The picture `kind` of a run. Raises UsageError for a kind that there is not."""
    if kind not in KINDS:
        raise UsageError(f"KIND must be one of {', '.join(KINDS)}, got {kind!r}")
    return KINDS[kind](run, dataset)


def plot(path: Path, kind: str, out: Path | None = None) -> Path:
    """Draw one picture of the run in `path` into `out`, or its own figures/; give the file."""
    run = load(path)
    target = (out or path / "figures") / f"{kind}.png"
    return figures.save(draw(run, data.load(run.config.data), kind), target)


def inspect(source: str, out: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The facts of a data set and of its factors, and a contact sheet of it in `out`."""
    dataset = data.load(source)
    chosen = np.random.default_rng(0).permutation(keyed_subset(np.arange(len(dataset)), 60))
    images = dataset.take(chosen) / np.float32(dataset.levels)
    captions = None if dataset.labels is None else [str(label) for label in dataset.labels[chosen]]
    title = f"{dataset.name}: {len(chosen)} of {len(dataset):,} images"
    sheet = figures.contact_sheet(images, title=title, captions=captions)
    facts = {
        "name": dataset.name,
        "images": len(dataset),
        "shape": list(dataset.image_shape),
        "levels": dataset.levels,
        "bytes": dataset.nbytes,
        "labels": 0 if dataset.labels is None else len(np.unique(dataset.labels)),
        "sheet": str(figures.save(sheet, out / f"{dataset.name}.png")),
    }
    return facts, _factor_rows(dataset)


def _factor_rows(dataset: Dataset) -> list[dict[str, Any]]:
    """For each factor its number of values and its range."""
    if dataset.factors is None:
        return []
    rows = []
    for name, column in zip(dataset.factor_names, dataset.factors.T, strict=True):
        values = np.asarray(dataset.factor_values.get(name, np.unique(column)))
        first, last = values[0].item(), values[-1].item()
        rows.append({"factor": name, "values": len(values), "from": first, "to": last})
    return rows


def draw_all(run: Run, dataset: Dataset) -> None:
    """Every kind of picture, into the figures/ of the run."""
    folder = run.path / "figures"
    folder.mkdir(exist_ok=True)
    for kind in KINDS:
        figures.save(draw(run, dataset, kind), folder / f"{kind}.png")


def reconstructions(run: Run, dataset: Dataset) -> Figure:
    """Test images and what the model makes of their mean codes."""
    images = _test_images(dataset, 20)
    decoded = run.model.decode(run.model.encode(images).mu)
    title = f"Reconstructions of test images · {_name(run)}"
    return figures.reconstructions(images / np.float32(dataset.levels), decoded, title=title)


def traversals(run: Run, dataset: Dataset) -> Figure:
    """One latent a row, moved over the prior's range around the code of a test image.

    KL and σ are means over a thousand test images.
    """
    images = _test_images(dataset, 1000)
    posterior = run.model.encode(images)
    variance = np.exp(posterior.logvar)
    kl = 0.5 * (posterior.mu**2 + variance - 1 - posterior.logvar).mean(0)
    codes = np.tile(posterior.mu[0], (len(kl), len(_RANGE), 1))
    for latent, row in enumerate(codes):
        row[:, latent] = _RANGE
    decoded = run.model.decode(codes.reshape(-1, len(kl)))
    decoded = decoded.reshape(len(kl), len(_RANGE), *decoded.shape[1:])
    base = images[0] / np.float32(dataset.levels)
    title = f"Traversals around a test image · {_name(run)}"
    sigma = np.sqrt(variance).mean(0)
    return figures.traversals(decoded, kl, sigma, _RANGE, title=title, base=base)


def kl(run: Run, dataset: Dataset) -> Figure:
    """KL per latent over training, and the capacity where the objective has one."""
    rows = _logged(run)
    steps = np.array([row["step"] for row in rows])
    per_latent = np.array([row["kl_per_latent"] for row in rows])
    capacity = None
    if run.config.objective == "capacity":
        capacity = np.array([Capacity.from_config(run.config).capacity(step) for step in steps])
    title = f"KL per latent, training batches · {_name(run)}"
    return figures.kl_per_latent(steps, per_latent, title=title, capacity=capacity)


def training(run: Run, dataset: Dataset) -> Figure:
    """The terms of the negative ELBO over training."""
    rows, columns = _logged(run), ("step", "recon_nll", "kl", "loss")
    steps, recon_nll, kl, loss = (np.array([row[c] for row in rows]) for c in columns)
    title = f"Loss on training batches · {_name(run)}"
    return figures.training(steps, recon_nll, kl, loss, title=title)


def _logged(run: Run) -> list[dict[str, Any]]:
    """The rows of the run's log. Raises UsageError while it has none."""
    if not (rows := run.metrics):
        raise UsageError(f"the log of the run in {run.path} has no line yet; resume it or wait")
    return rows


def _test_images(dataset: Dataset, count: int) -> NDArray[np.uint8]:
    """At most `count` test images, chosen by key, in an order that is not the data set's."""
    chosen = keyed_subset(split(dataset)[1], count)
    return dataset.take(np.random.default_rng(0).permutation(chosen))


def _name(run: Run) -> str:
    config = run.config
    if config.objective == "capacity":
        return f"{run.path.name}, γ = {config.gamma:g}, C = {config.capacity_max:g} nats"
    return f"{run.path.name}, β = {config.beta:g}" if config.objective == "beta" else run.path.name


KINDS: dict[str, Callable[[Run, Dataset], Figure]] = {
    "reconstructions": reconstructions,
    "traversals": traversals,
    "kl": kl,
    "training": training,
}
