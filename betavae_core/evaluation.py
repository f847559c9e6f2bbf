"""What a trained model is worth: the terms of the ELBO on each split, and each latent's share.

Always in float32 and with noise from the evaluation stream, one draw an image, so that the numbers
of two runs compare whatever precision they were trained in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from betavae_core.data.resident import Resident
from betavae_core.data.split import Indices, keyed_subset
from betavae_core.model import BetaVAE, evaluating
from betavae_core.objectives import Objective
from betavae_core.ops import LOGVAR_MAX, LOGVAR_MIN, philox, reparam_kl
from betavae_core.posterior import Posterior

ACTIVE = 0.1  # nats of KL above which a latent counts as active
_BATCH = 128  # on a CPU twice as fast as 500: new memory costs more than arithmetic


def report(
    model: BetaVAE,
    images: Resident,
    splits: Mapping[str, Indices],
    objective: Objective,
    *,
    step: int,
    seed: int,
) -> dict[str, Any]:
    """`train` and `test`: means over at most 10,000 keyed images of each, and the test's latents.

    A split gives `n`, `loss`, `recon_nll`, `kl` and `neg_elbo`, all in nats an image. The latents
    give `kl_per_latent`, `sigma_per_latent` (mean posterior σ) and `active_latents`, the number
    with a KL above 0.1 nats.
    """
    result: dict[str, Any] = {}
    for name, indices in splits.items():
        chosen = torch.from_numpy(keyed_subset(indices)).to(images.pixels.device)
        recon_nll, posterior = expectation(model, images, chosen, seed)
        loss = objective(recon_nll, posterior, step)
        kl = float(posterior.kl)
        result[name] = {
            "n": len(chosen),
            "loss": float(loss),
            "recon_nll": float(recon_nll),
            "kl": kl,
            "neg_elbo": float(recon_nll) + kl,
        }
    assert posterior.kl_per_latent is not None
    kl_per_latent = posterior.kl_per_latent.tolist()
    logvar = posterior.logvar.clamp(LOGVAR_MIN, LOGVAR_MAX)
    sigma = (0.5 * logvar).exp().mean(0).tolist()
    active = sum(kl > ACTIVE for kl in kl_per_latent)
    return result | {
        "kl_per_latent": kl_per_latent,
        "sigma_per_latent": sigma,
        "active_latents": active,
    }


@torch.no_grad()
def expectation(
    model: BetaVAE, images: Resident, indices: Tensor, seed: int
) -> tuple[Tensor, Posterior]:
    """The mean recon_nll and the posterior of all images at `indices`, with one draw of z each.

    An image's noise is a function of its index, so a mean does not depend on the batches.
    """
    key = philox.make_key(seed, device=indices.device)
    nll, parts = [], []
    with evaluating(model):
        for index in indices.split(_BATCH):
            eps = philox.normal(key, index, model.latent_dim, philox.EVALUATION)
            x = images.gather(index)
            mu, logvar = model.encoder(model.normalise(x)).chunk(2, dim=1)
            z = reparam_kl(mu, logvar, eps=eps).z
            nll.append(model.nll(model.logits(z), x))
            parts.append((mu, logvar, eps))
    mu, logvar, eps = (torch.cat(part) for part in zip(*parts, strict=True))
    return torch.cat(nll).mean(), Posterior(mu, logvar, *reparam_kl(mu, logvar, eps=eps))
