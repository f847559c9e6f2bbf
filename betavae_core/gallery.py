"""The pictures of a run: what the model makes of its data, drawn by `figures`.

Every picture names the split that its images are of.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from betavae_core import figures
from betavae_core.config import TARGETS
from betavae_core.data.dataset import Dataset
from betavae_core.data.split import keyed_subset, split
from betavae_core.errors import UsageError
from betavae_core.objectives import Capacity
from betavae_core.ops import LOGVAR_MAX, LOGVAR_MIN, philox
from betavae_core.runs import Run, load

RANGE = np.linspace(-3, 3, 9)  # the values that a traversal gives a latent, in prior σ
FORMS = ("png", "pdf", "svg", "gif")
IMAGE = "image"  # traversals start from a test image


def draw(run: Run, dataset: Dataset, kind: str) -> Figure:
    """The picture `kind`, one of KINDS, of a run."""
    return KINDS[kind](run, dataset)


def plot(
    run: Run | str | os.PathLike[str],
    kind: str,
    out: str | os.PathLike[str] | None = None,
    *,
    images: NDArray[Any] | Dataset | None = None,
    form: str = "png",
    around: str = IMAGE,
) -> Path:
    """Draw one picture of a run, or of the run in a folder, and give the file.

    Args:
        out: the folder to draw into, in place of the run's figures/.
        images: what the run was trained on, where that was passed to `train`.
        form: png, pdf or svg and, for traversals, gif: the animation.
        around: what traversals start from: a number, the image in the data set's order; `prior`,
            the prior's mean; or `image`, one of the test set.

    Raises UsageError for another kind, form or start, and where the run's images are others now.
    """
    if kind not in KINDS:
        raise UsageError(f"KIND must be one of {', '.join(KINDS)}, got {kind!r}")
    if form not in FORMS:
        raise UsageError(f"--format must be one of {', '.join(FORMS)}, got {form!r}")
    if kind != "traversals" and (form == "gif" or around != IMAGE):
        raise UsageError(f"--format gif and --around are for traversals, got {kind}")
    run = run if isinstance(run, Run) else load(run)
    dataset = run.images(images)
    target = Path(out or run.path / "figures") / f"{kind}.{form}"
    if form == "gif":
        return figures.animate(animation(run, dataset, around), target)
    if kind == "traversals":
        return figures.save(traversals(run, dataset, around), target)
    return figures.save(draw(run, dataset, kind), target)


def draw_all(run: Run, dataset: Dataset) -> None:
    """The pictures that every training ends with, into the figures/ of the run."""
    folder = run.path / "figures"
    folder.mkdir(exist_ok=True)
    for kind in ("reconstructions", "traversals", "kl", "training"):
        figures.save(draw(run, dataset, kind), folder / f"{kind}.png")


def reconstructions(run: Run, dataset: Dataset) -> Figure:
    """Test images and what the model makes of their mean codes."""
    images = test_images(dataset, 20)
    decoded = run.model.decode(run.model.encode(images).mu)
    title = f"Reconstructions of test images · {_name(run)}"
    return figures.reconstructions(images / np.float32(dataset.levels), decoded, title=title)


def traversals(run: Run, dataset: Dataset, around: str = IMAGE) -> Figure:
    """One latent a row, moved over the prior's range around an image's code or the prior's mean.

    KL and σ are means over a thousand test images; `around` is as in `plot`.
    """
    shown = latents(run, test_images(dataset, 1000))
    code, base, start = _start(run, dataset, around)
    title = f"Traversals around {start} · {_name(run)}"
    decoded = traverse(run, code)
    return figures.traversals(decoded, shown.kl, shown.sigma, RANGE, title=title, base=base)


def animation(run: Run, dataset: Dataset, around: str = IMAGE) -> list[Figure]:
    """The traversals as the pages of an animation, all latents moving at once."""
    kl = latents(run, test_images(dataset, 1000)).kl
    code, _, start = _start(run, dataset, around)
    values = np.linspace(RANGE[0], RANGE[-1], 2 * len(RANGE) - 1)
    title = f"Traversals around {start} · {_name(run)}"
    return figures.traversal_frames(traverse(run, code, values), kl, values, title=title)


def _start(run: Run, dataset: Dataset, around: str) -> tuple[NDArray[Any], NDArray[Any], str]:
    """The code that traversals start from, its picture, and what to call it."""
    if around == "prior":
        code = np.zeros(run.config.latent_dim, np.float32)
        return code, run.model.decode(code[None])[0], "the prior's mean"
    if around != IMAGE and not (around.isdecimal() and int(around) < len(dataset)):
        last = len(dataset) - 1
        raise UsageError(f"--around must be image, prior or 0 to {last}, got {around!r}")
    image = test_images(dataset, 1000)[:1] if around == IMAGE else dataset.take([int(around)])
    code = run.model.encode(image).mu[0]
    called = "a test image" if around == IMAGE else f"image {around}"
    return code, image[0] / np.float32(dataset.levels), called


class Latents(NamedTuple):
    """What the latents say of some images: codes (N, D), mean KL and mean posterior σ (D,)."""

    mu: NDArray[np.float32]
    kl: NDArray[np.float32]
    sigma: NDArray[np.float32]


def latents(run: Run, images: NDArray[np.uint8]) -> Latents:
    """The latents of `images`, in a data set's layout."""
    mu, logvar, *_ = run.model.encode(images)
    logvar = np.clip(logvar, LOGVAR_MIN, LOGVAR_MAX)
    kl = 0.5 * (mu**2 + np.expm1(logvar) - logvar)
    return Latents(mu, kl.mean(0), np.exp(logvar / 2).mean(0))


def traverse(
    run: Run, code: NDArray[Any], values: NDArray[np.float64] = RANGE
) -> NDArray[np.float32]:
    """(D, n, H, W[, C]): row d decodes `code` (D,) with latent d at each of `values` (n,)."""
    codes = np.tile(code, (len(code), len(values), 1))
    for latent, row in enumerate(codes):
        row[:, latent] = values
    decoded = run.model.decode(codes.reshape(-1, len(code)))
    return decoded.reshape(len(code), len(values), *decoded.shape[1:])


def panel(
    run: Run, dataset: Dataset, name: str, maps: tuple[str, str] | None = None
) -> figures.Panel:
    """A model for `figures.side_by_side`: pairs, traversals and, over two factors, mean codes."""
    images = test_images(dataset, 1000)
    shown, pairs = latents(run, images), images[: len(RANGE)]
    return figures.Panel(
        name=name,
        images=traverse(run, shown.mu[0]),
        kl=shown.kl,
        sigma=shown.sigma,
        values=RANGE,
        originals=pairs / np.float32(dataset.levels),
        reconstructions=run.model.decode(shown.mu[: len(RANGE)]),
        maps=mean_maps(run, dataset, maps) if maps else None,
    )


def mean_maps(run: Run, dataset: Dataset, names: tuple[str, str]) -> NDArray[np.float64]:
    """(D, ny, nx): the mean code of each latent over two factors, of at most 50,000 images."""
    if dataset.factors is None or not set(names) <= set(dataset.factor_names):
        raise UsageError(f"this picture needs data with the factors {', '.join(names)}")
    chosen = keyed_subset(np.arange(len(dataset)), 50_000)
    columns = [dataset.factors[chosen, dataset.factor_names.index(name)] for name in names]
    codes = run.model.encode(dataset.take(chosen)).mu
    return figures.mean_codes(codes, *columns)[1]


def interpolation(run: Run, dataset: Dataset) -> Figure:
    """Sixteen equal steps between the codes of two test images, four times."""
    images = test_images(dataset, 8)
    if len(images) < 8:
        raise UsageError(f"interpolation needs 8 test images, and {dataset.name} has {len(images)}")
    first, second = run.model.encode(images).mu.reshape(2, 4, 1, -1)
    t = np.linspace(0, 1, 16, dtype=np.float32)[:, None]
    codes = (1 - t) * first + t * second
    decoded = run.model.decode(codes.reshape(-1, codes.shape[-1]))
    ends = (images / np.float32(dataset.levels)).reshape(2, 4, *images.shape[1:]).swapaxes(0, 1)
    title = f"Interpolation between test images · {_name(run)}"
    return figures.interpolation(decoded.reshape(4, 16, *decoded.shape[1:]), ends, title=title)


def samples(run: Run, dataset: Dataset) -> Figure:
    """A hundred decoded draws from the prior."""
    key = philox.make_key(run.config.seed)
    z = philox.normal(key, torch.arange(100), run.config.latent_dim, philox.EVALUATION).numpy()
    return figures.samples(run.model.decode(z), title=f"Samples from the prior · {_name(run)}")


def manifold(run: Run, dataset: Dataset) -> Figure:
    """The decoder over (-4, 4) squared. Raises UsageError unless there are two latents."""
    if run.config.latent_dim != 2:
        raise UsageError(f"manifold needs --latent-dim 2, got a run with {run.config.latent_dim}")
    values = np.linspace(-4, 4, 20, dtype=np.float32)
    grid = np.stack(np.meshgrid(values, values), -1)
    decoded = run.model.decode(grid.reshape(-1, 2)).reshape(20, 20, *dataset.take([0]).shape[1:])
    return figures.manifold(decoded, title=f"Decoded codes · {_name(run)}")


def embedding(run: Run, dataset: Dataset) -> Figure:
    """The mean codes of test images in two dimensions, by class where there are labels.

    Two latents are shown as they are; more by t-SNE.
    """
    chosen = keyed_subset(split(dataset)[1], 2_000)
    codes = run.model.encode(dataset.take(chosen)).mu
    labels = None if dataset.labels is None else dataset.labels[chosen]
    title = f"Codes of test images · {_name(run)}"
    names = label_names(dataset)
    if codes.shape[1] == 2:
        return figures.scatter(codes, labels, names, title=title, prior=True)
    points = figures.reduce(codes, "tsne")
    return figures.embedding(points, labels, names, title=title, method="tsne")


def factors(run: Run, dataset: Dataset) -> Figure:
    """Mean codes over position (Burgess et al. 2018, figure 2), by descending KL."""
    names = set(dataset.factor_names)
    position = ("posY", "posX") if "posX" in names else ("y", "x")
    maps = mean_maps(run, dataset, position)
    shown = latents(run, test_images(dataset, 1000))
    return figures.factors(maps, {}, shown.kl, title=f"Mean codes over position · {_name(run)}")


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


def test_images(dataset: Dataset, count: int) -> NDArray[np.uint8]:
    """At most `count` test images, chosen by key, in an order that is not the data set's."""
    chosen = keyed_subset(split(dataset)[1], count)
    return dataset.take(np.random.default_rng(0).permutation(chosen))


def label_names(dataset: Dataset) -> tuple[str, ...]:
    """A name for each label, its number where it has none."""
    if dataset.labels is None:
        return ()
    return tuple(dataset.label_names.get(i, str(i)) for i in range(int(dataset.labels.max()) + 1))


def _name(run: Run) -> str:
    config = run.config
    if config.objective == "capacity":
        return f"{run.path.name}, γ = {config.gamma:g}, C = {config.capacity_max:g} nats"
    if config.objective in TARGETS:
        target = TARGETS[config.objective]
        held = "KL" if target == "target_kl" else "recon_nll"
        return f"{run.path.name}, {held} held at {getattr(config, target):g} nats"
    return f"{run.path.name}, β = {config.beta:g}" if config.objective == "beta" else run.path.name


KINDS: dict[str, Callable[[Run, Dataset], Figure]] = {
    "reconstructions": reconstructions,
    "traversals": traversals,
    "interpolation": interpolation,
    "samples": samples,
    "manifold": manifold,
    "embedding": embedding,
    "factors": factors,
    "kl": kl,
    "training": training,
}
