"""What a step sees: its images and its noise, a pure function of (settings, step).

Position p of the run, p = step · B + row, is image order(epoch)[p mod N] of the training set, with
epoch = p // N: batches run on across the end of an epoch. Indices and noise are drawn for many
steps at a time, which on a CPU costs little more than drawing them for one. A block lies in tensors
that stay where they are: a captured step finds the next block in the place of the last.
"""

from __future__ import annotations

import torch
from torch import Tensor

from betavae_core.data.resident import Resident
from betavae_core.ops import philox

BLOCK = 64
_AHEAD = 2**18  # normals drawn at once, a megabyte, where that is more than a block


class Noise:
    """The noise of a run for the formulas in plain PyTorch, (B, D) a step.

    `steps` steps of it are drawn at once, in memory of its own: new memory costs a CPU as much as
    the arithmetic.
    """

    def __init__(self, seed: int, batch_size: int, latent_dim: int, device: torch.device) -> None:
        self.steps = BLOCK * max(1, _AHEAD // max(1, BLOCK * batch_size * latent_dim))
        self._seed, self._room = seed, philox.Room(device)
        self._samples = torch.arange(batch_size, device=device)
        shape = self.steps, batch_size, latent_dim
        self.eps = torch.empty(shape, dtype=torch.float32, device=device)
        self._first = -self.steps  # the first step at hand

    def prepare(self, step: int) -> None:
        """Have the noise of `step` at hand."""
        if self._first <= step < self._first + self.steps:
            return
        first = step - step % self.steps
        self._first = -self.steps  # an interrupt on the way leaves none, rather than half
        key = philox.make_key(self._seed, first, self._samples.device)
        philox.fill_normal(self.eps, key, self._samples, philox.NOISE, self._room)
        self._first = first

    def at(self, step: Tensor) -> Tensor:
        """The noise (B, D) of a step that is at hand, an int64 (1,)."""
        return self.eps.index_select(0, step % self.steps)[0]


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
        self.seed, self.batch_size = seed, batch_size
        self._first = -BLOCK  # the first step of the block at hand
        device = indices.device
        self._key = philox.make_key(seed, device=device)[0]
        # A row a step: the indices of its images, then its key.
        self._block = torch.zeros(BLOCK, batch_size + 2, dtype=torch.int64, device=device)
        self.noise = None if fused else Noise(seed, batch_size, latent_dim, device)
        self._epochs = range(0)
        self._order = torch.empty(0)

    def batch(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Images (B, C, H, W) uint8 of `step`, and its noise as an argument of the model."""
        self.prepare(step)
        return self.at(torch.tensor(step, device=self.indices.device))

    def prepare(self, step: int) -> None:
        """Have the block that `step` is in at hand."""
        if not self._first <= step < self._first + BLOCK:
            self._draw(step - step % BLOCK)
        if self.noise:
            self.noise.prepare(step)

    def at(self, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """As `batch`, for a step of the block at hand that only the device knows, an int64 ()."""
        step = step.reshape(1)
        row = self._block.index_select(0, step % BLOCK)[0]
        x = self.images.gather(row[:-2])
        return x, {"eps": self.noise.at(step)} if self.noise else {"key": row[-2:]}

    def _draw(self, first: int) -> None:
        """The indices and the keys of the block of steps that starts at `first`."""
        device = self.indices.device
        index = self.indices[self._positions(first)]
        steps = torch.arange(first, first + BLOCK, device=device)
        block = torch.cat((index, self._key.expand(BLOCK, 1), steps[:, None]), dim=1)
        self._first = -BLOCK  # an interrupt on the way leaves no block, rather than half of one
        self._block.copy_(block)
        self._first = first

    def _positions(self, first: int) -> Tensor:
        """(block, B) positions in the training set."""
        n, start = len(self.indices), first * self.batch_size
        stop = start + BLOCK * self.batch_size
        wanted = range(start // n, (stop - 1) // n + 1)
        if not (wanted.start in self._epochs and wanted[-1] in self._epochs):
            epochs = torch.arange(wanted.start, wanted.stop, device=self.indices.device)
            self._epochs, self._order = wanted, philox.epoch_order(self.seed, epochs, n)
        p = torch.arange(start, stop, device=self.indices.device)
        return self._order[p // n - self._epochs.start, p % n].reshape(BLOCK, -1)
