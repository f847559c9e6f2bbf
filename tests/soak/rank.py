"""One process of a data-parallel training: its share of each batch, gradients averaged over all.

    python rank.py RANK WORLD PORT

Prints one line of JSON: the losses, and the noise and the images that it was given.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
import torch.distributed as dist

import betavae_core as bv
from betavae_core import data
from betavae_core.data.resident import Resident
from betavae_core.feed import Feed
from betavae_core.objectives import Beta
from betavae_core.runs import make_model

STEPS, BATCH, LATENTS = 40, 12, 3


def main(rank: int, world: int, port: int) -> None:
    """Train for STEPS steps on rows rank · B/W to (rank + 1) · B/W of each batch."""
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    limit = timedelta(seconds=60)
    dist.init_process_group("gloo", rank=rank, world_size=world, timeout=limit)
    images = np.random.default_rng(0).integers(0, 256, (50, 8, 8), dtype=np.uint8)
    feed = Feed(
        Resident(data.from_array(images), torch.device("cpu")),
        torch.arange(len(images)),
        seed=0,
        batch_size=BATCH,
        latent_dim=LATENTS,
        fused=False,
    )
    print(json.dumps(train(feed, rank, world)))
    dist.destroy_process_group()


def train(feed: Feed, rank: int, world: int) -> dict[str, list[Any]]:
    """The losses over the whole batch, and this process's images and noise."""
    config = bv.Config(arch="mlp", hidden=(16,), latent_dim=LATENTS, beta=4.0)
    model = make_model(config, (1, 8, 8), 255)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    told: dict[str, list[Any]] = {"losses": [], "images": [], "noise": []}
    share = slice(rank * BATCH // world, (rank + 1) * BATCH // world)
    for step in range(STEPS):
        x, noise = feed.batch(step)
        x, eps = x[share], noise["eps"][share]
        terms = model(x, eps=eps)
        loss = Beta(4.0)(terms.recon_nll, terms.posterior, step)
        optimizer.zero_grad()
        loss.backward()
        for tensor in (*(p.grad for p in model.parameters()), loss.detach()):
            dist.all_reduce(tensor)
            tensor /= world
        optimizer.step()
        told["losses"].append(float(loss))
        told["images"].append(x.tolist())
        told["noise"].append([[value.hex() for value in row] for row in eps.tolist()])
    return told


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
