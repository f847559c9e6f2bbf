"""Higgins et al. 2017, figure 6: how much β wants depends on how many latents there are."""

from __future__ import annotations

from typing import Any

import numpy as np

from betavae_core import figures
from betavae_core.data.dataset import Dataset
from betavae_core.data.split import keyed_subset
from betavae_core.experiments.study import Experiment, Study
from betavae_core.metrics.higgins import higgins
from betavae_core.metrics.mig import mig
from betavae_core.runs import Run

LATENTS = {True: (4, 10, 25), False: (2, 5, 10, 20, 50)}  # by quick or not
BETA_NORMS = {True: (0.001, 0.004, 0.016, 0.064), False: (1e-4, 1e-3, 4e-3, 0.016, 0.064, 0.25)}
POINTS = 10_000
_QUICK: dict[str, Any] = {"arch": "mlp", "steps": 1_500, "optimizer": "adam", "lr": 1e-3}
_FULL: dict[str, Any] = {"steps": 300_000}


def run(study: Study) -> list[dict[str, Any]]:
    """A model for each number of latents and β_norm; two scores of each, as heat-maps."""
    shapes = study.with_factors()
    latents, norms = LATENTS[study.quick], BETA_NORMS[study.quick]
    scores = np.empty((2, len(latents), len(norms)))
    rows = []
    for i, size in enumerate(latents):
        for j, norm in enumerate(norms):
            settings = (_QUICK if study.quick else _FULL) | {"latent_dim": size, "beta_norm": norm}
            model = study.train(f"z-{size}-norm-{norm:g}", **settings)
            scores[:, i, j] = disentanglement(model, shapes, study.seed)
            rows.append(_row(model, norm, scores[:, i, j]))
    best = [_best(size, norms, row) for size, row in zip(latents, scores[0], strict=True)]
    study.note(comparison([row["ours"] for row in best]))
    for name, values in zip(("Higgins metric", "MIG"), scores, strict=True):
        study.draw(name.split()[0].lower(), _heatmap(values, latents, norms, name))
    if study.quick:
        study.note(
            "The quick run: an MLP 512-256 under Adam, 1,500 steps, one seed a cell, so that a few "
            "per cent mean little."
        )
    return [*best, *rows]


def comparison(best: list[float]) -> str:
    """Whether the best β_norm, by number of latents, rises as in the paper."""
    rises = best == sorted(best) and best[0] < best[-1]
    verdict = "so it is here" if rises else "this run does not show it"
    return f"The paper gives a picture, in which more latents want a higher β_norm: {verdict}."


def disentanglement(model: Run, images: Dataset, seed: int) -> tuple[float, float]:
    """The Higgins metric and the MIG of a model's mean codes, on 10,000 keyed images."""
    assert images.factors is not None
    rows = keyed_subset(np.arange(len(images)), POINTS)
    codes, factors = model.model.encode(images.take(rows)).mu, images.factors[rows]
    return higgins(codes, factors, seed=seed), mig(codes, factors)


def _row(model: Run, norm: float, scores: Any) -> dict[str, Any]:
    size, beta = model.config.latent_dim, model.config.beta
    return {
        "name": f"Higgins metric (%), z = {size}, β_norm = {norm:g} (β = {beta:.3g})",
        "published": None,
        "ours": 100 * scores[0],
        "mig": scores[1],
        "latent_dim": size,
        "beta": beta,
        "beta_norm": norm,
    }


def _best(size: int, norms: tuple[float, ...], scores: Any) -> dict[str, Any]:
    name = f"β_norm with the highest Higgins metric, z = {size}"
    return {"name": name, "published": None, "ours": norms[int(np.argmax(scores))]}


def _heatmap(values: Any, latents: tuple[int, ...], norms: tuple[float, ...], name: str) -> Any:
    return figures.heatmap(
        values,
        [str(size) for size in latents],
        [f"{norm:g}" for norm in norms],
        title=f"2D shapes: {name} over β_norm and the number of latents",
        labels=("number of latents", "β_norm = β M / N"),
        unit=name,
    )


EXPERIMENT = Experiment(
    "latent-size",
    "How the best β depends on the number of latents, under the Higgins metric and MIG.",
    run,
    preset="higgins-shapes",
)
