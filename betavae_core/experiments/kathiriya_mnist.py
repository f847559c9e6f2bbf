"""Kathiriya's VAE on MNIST: pairs, prior samples, an interpolation and embeddings as it learns."""

from __future__ import annotations

from typing import Any

from betavae_core import gallery
from betavae_core.experiments.study import Experiment, Study


def run(study: Study) -> list[dict[str, Any]]:
    """z = 20, β = 1; epochs 0, 10 and the last."""
    digits = study.dataset()
    last = 12 if study.quick else 100
    ten = study.train("z-20", epochs=min(10, last))
    untrained = study.untrained(ten)
    for epoch, model in ((0, untrained), (10, ten)):
        study.draw(f"embedding-epoch-{epoch}", gallery.embedding(model, digits))
    final = study.train("z-20", epochs=last)
    for epoch, model in ((0, untrained), (last, final)):
        study.draw(f"pairs-epoch-{epoch}", gallery.reconstructions(model, digits))
    study.draw("samples", gallery.samples(final, digits))
    study.draw("interpolation", gallery.interpolation(final, digits))
    study.note("The original shows pictures and states no number; ours is the held-out neg_elbo.")
    assert final.summary is not None
    return [
        {
            "name": f"neg_elbo of {split} images (nats), {last} epochs",
            "published": None,
            "ours": final.summary[split]["neg_elbo"],
        }
        for split in ("train", "test")
    ]


EXPERIMENT = Experiment(
    "kathiriya-mnist",
    "Twenty latents of MNIST: validation pairs at epoch 0 and the last, samples from the prior, "
    "an interpolation in 16 steps, and the means in two dimensions at epoch 0 and 10.",
    run,
    "a folder of MNIST's IDX files, or mnist",
)
