"""What a step sees: its images and its noise, a pure function of (settings, step).

Position p of the run, p = step · B + row, is image order(epoch)[p mod N] of the training set, with
epoch = p // N: batches run on across the end of an epoch. Indices and noise are drawn for a block
of steps at a time, which on a CPU costs little more than drawing them for one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from betavae_core.data.resident import Resident
from betavae_core.ops import philox

_BLOCK = 64


class Feed:
    """The batches of a run.

    Args:
        images: the resident data set; `indices` are those of its training images.
        fused: give the noise as a key for the kernel to draw from, rather than drawn.
    """

    def __init__(
        self,
        images: Resident,
        indices: Tensor,
        *,
        seed: int,
        batch_size: int,
        latent_dim: int,
        fused: bool,
    ) -> None:
        self.images, self.indices = images, indices
        self.seed, self.batch_size, self.latent_dim = seed, batch_size, latent_dim
        self.fused = fused
        self._first = -_BLOCK  # the first step of the block at hand
        self._epochs = range(0)
        self._order = torch.empty(0)

    def batch(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Images (B, C, H, W) uint8 of `step`, and its noise as an argument of the model."""
        if not self._first <= step < self._first + _BLOCK:
            self._draw(step - step % _BLOCK)
        row = step - self._first
        x = self.images.gather(self._index[row])
        return x, {"key": self._keys[row]} if self.fused else {"eps": self._eps[row]}

    def _draw(self, first: int) -> None:
        """The indices and the noise of the block of steps that starts at `first`."""
        device = self.indices.device
        self._index = self.indices[self._positions(first)]
        steps = torch.arange(first, first + _BLOCK, device=device)
        seed = philox.make_key(self.seed, device=device)[0].expand_as(steps)
        self._keys = torch.stack((seed, steps), dim=1)
        if not self.fused:
            samples = torch.arange(self.batch_size, device=device)
            self._eps = philox.normal(self._keys, samples, self.latent_dim)
        self._first = first  # last: an interrupt on the way leaves the old block, whole

    def _positions(self, first: int) -> Tensor:
        """(block, B) positions in the training set."""
        n, start = len(self.indices), first * self.batch_size
        stop = start + _BLOCK * self.batch_size
        wanted = range(start // n, (stop - 1) // n + 1)
        if not (wanted.start in self._epochs and wanted[-1] in self._epochs):
            epochs = torch.arange(wanted.start, wanted.stop, device=self.indices.device)
            self._epochs, self._order = wanted, philox.epoch_order(self.seed, epochs, n)
        p = torch.arange(start, stop, device=self.indices.device)
        return self._order[p // n - self._epochs.start, p % n].reshape(_BLOCK, -1)
