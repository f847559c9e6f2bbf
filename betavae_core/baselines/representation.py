"""What every baseline is: a function from indices into a data set to codes.

A metric that takes a `Representation` need not know whether the codes are pixels, ground truth or
the work of a network, nor where the images lie.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from betavae_core.data.dataset import Dataset
from betavae_core.data.resident import Resident
from betavae_core.data.split import Indices, split
from betavae_core.errors import DataError
from betavae_core.ops import philox

Representation = Callable[[NDArray[np.integer]], NDArray[np.floating]]  # (n,) -> (n, D)

_BATCH = 1024


def of_images(
    dataset: Dataset, encode: Callable[[Tensor], Tensor], device: torch.device | str = "cpu"
) -> Representation:
    """The representation that `encode` gives: images (B, C, H, W) uint8 in, codes (B, D) out.

    The images are gathered on `device` and encoded in batches, without gradients; the codes are
    float32. Indices that are no whole numbers in [0, N) raise DataError.
    """
    images = Resident(dataset, device)

    @torch.no_grad()
    def codes(indices: NDArray[np.integer]) -> NDArray[np.floating]:
        rows = torch.from_numpy(checked(indices, len(dataset))).to(device)
        parts = [encode(images.gather(part)).float().cpu() for part in rows.split(_BATCH)]
        return torch.cat(parts).numpy()

    return codes


def checked(indices: NDArray[np.integer], n: int) -> Indices:
    """The indices as int64. Raises DataError unless they are (n,) whole numbers in [0, N)."""
    rows = np.asarray(indices)
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise DataError(f"indices must be (n,) whole numbers, got {rows.shape} {rows.dtype}")
    if len(rows) and not (rows.min() >= 0 and rows.max() < n):
        raise DataError(f"indices must lie in [0, {n}), got {rows.min()} to {rows.max()}")
    return rows.astype(np.int64)


def unit(x: Tensor, levels: int) -> Tensor:
    """Images (B, C, H, W) uint8 as (B, P) float32 in [0, 1]."""
    return x.flatten(1).float() / levels


def first_seen(dataset: Dataset, count: int, seed: int) -> Indices:
    """At most `count` training images: those that a training from `seed` would see first."""
    train = split(dataset)[0]
    order = philox.epoch_order(seed, torch.zeros(1, dtype=torch.int64), len(train))
    return train[order[0, :count].numpy()]
