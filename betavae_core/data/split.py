"""Which images are held out: a keyed hash of the index, the same for every seed of a run.

    word(i, latent) = Philox word at key [0, 0], sample i, this latent, stream SPLIT

The images with the smallest words are chosen, ties by index. So a choice needs no state and no
order of the data, does not depend on the pixels, and the two choices (latent 0: what is held out;
latent 1: what a summary looks at) are independent of each other.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from betavae_core.data.dataset import Dataset
from betavae_core.ops.philox import SPLIT, bits

HELD_OUT, SUMMARISED = 0, 1  # the latents that keep the two choices apart
LIMIT = 10_000

Indices = NDArray[np.int64]


def split(dataset: Dataset) -> tuple[Indices, Indices]:
    """(train, test) indices, each sorted.

    The official pair where the source has one, else a tenth, round(N / 10) and at least one
    image, is held out by the hash. A single image is both: nothing can be held out of it.
    """
    everything = np.arange(len(dataset), dtype=np.int64)
    if dataset.test_from is not None:
        return everything[: dataset.test_from], everything[dataset.test_from :]
    if len(dataset) == 1:
        return everything, everything
    test = _smallest(everything, max(1, round(len(dataset) / 10)), HELD_OUT)
    return np.delete(everything, test), test


def keyed_subset(indices: ArrayLike, limit: int = LIMIT) -> Indices:
    """At most `limit` of `indices`, sorted: those with the smallest hash, whatever their order."""
    return _smallest(np.sort(np.asarray(indices, dtype=np.int64)), limit, SUMMARISED)


def _smallest(indices: Indices, count: int, latent: int) -> Indices:
    """The `count` of the sorted `indices` with the smallest (word, index), sorted."""
    if count >= len(indices):
        return indices
    key = torch.zeros(2, dtype=torch.int64)
    words = bits(key, torch.from_numpy(indices), latent + 1, SPLIT)[:, latent].numpy()
    ranks = words.astype(np.uint64) << np.uint64(32) | indices.astype(np.uint64)  # all distinct
    return indices[ranks < np.partition(ranks, count)[count]]
