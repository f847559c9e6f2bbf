"""Higgins et al. 2017: β-VAE beside VAE, traversals from the same seed, on their data sets."""

from __future__ import annotations

from functools import partial
from typing import Any

from betavae_core import figures, gallery
from betavae_core.experiments.study import Experiment, Study


def run(beta: float, quick_steps: int, study: Study) -> list[dict[str, Any]]:
    """The paper's β and β = 1; the traversals side by side, the KL of each latent."""
    images = study.dataset()
    rows, panels = [], []
    for name, value in ((f"β-VAE, β = {beta:g}", beta), ("VAE, β = 1", 1.0)):
        steps = quick_steps if study.quick else 300_000
        model = study.train(f"beta-{value:g}", beta=value, steps=steps)
        panels.append(gallery.panel(model, images, name))
        study.draw(f"kl-beta-{value:g}", gallery.kl(model, images))
        study.draw(f"traversals-beta-{value:g}", gallery.traversals(model, images))
        assert model.summary is not None
        for what in ("active_latents", "recon_nll", "kl"):
            ours = model.summary.get(what, model.summary["test"].get(what))
            rows.append({"name": f"{what}, {name}", "published": None, "ours": ours})
    study.draw("traversals", figures.side_by_side(panels, title=f"{images.name}: traversals"))
    study.note("The paper shows these traversals as pictures and gives no numbers for them.")
    if study.quick:
        study.note(f"The quick run takes {quick_steps:,} steps, the full one 300,000.")
    return rows


_FOLDER = "a folder of {} images, or {}"

EXPERIMENTS = (
    Experiment(
        "higgins-shapes",
        "On the 2D shapes β = 4 spends its nats on few latents, each one factor; β = 1 on many.",
        partial(run, 4.0, 1_000),
    ),
    Experiment(
        "higgins-faces",
        "On 3D faces β = 20 finds azimuth, elevation and lighting.",
        partial(run, 20.0, 1_500),
    ),
    Experiment(
        "higgins-chairs",
        "On 3D chairs β = 5 finds azimuth, leg style and width.",
        partial(run, 5.0, 1_500),
        _FOLDER.format("chair", "chairs3d"),
    ),
    Experiment(
        "higgins-celeba",
        "On CelebA β = 250 under a Gaussian likelihood finds azimuth, smile and hair.",
        partial(run, 250.0, 1_500),
        _FOLDER.format("face", "celeba"),
    ),
    Experiment(
        "celeba-z32",
        "The traversal sheet of the first re-implementation: CelebA, z = 32, β = 10.",
        partial(run, 10.0, 1_500),
        _FOLDER.format("face", "celeba"),
    ),
)
