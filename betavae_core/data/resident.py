"""The data set where the model lives: its bytes or bits on the device, gathered by index."""

from __future__ import annotations

import warnings
from math import prod

import numpy as np
import torch
from torch import Tensor

from betavae_core.data.dataset import Dataset


class Resident:
    """The pixels of a data set as a uint8 tensor on `device`; a CPU shares them, uncopied."""

    def __init__(self, dataset: Dataset, device: torch.device | str) -> None:
        with warnings.catch_warnings():  # a read-only array is fine: the tensor is only read
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            self.pixels = torch.from_numpy(dataset.pixels).to(device)
        self.packed, self.image_shape = dataset.packed, dataset.image_shape
        every = np.unpackbits(np.arange(256, dtype=np.uint8)).view(np.int64)
        self._eight = torch.from_numpy(every).to(device)  # pixels of a packed byte, as one number

    def gather(self, index: Tensor) -> Tensor:
        """The images at `index` (B,), as (B, C, H, W) uint8 in channels-last memory."""
        c, h, w = self.image_shape
        rows = self.pixels.index_select(0, index)
        if self.packed:
            pixels = self._eight.index_select(0, rows.flatten().int()).view(torch.uint8)
            rows = pixels.reshape(len(rows), 8 * rows.shape[1])[:, : prod(self.image_shape)]
        return rows.reshape(-1, h, w, c).permute(0, 3, 1, 2)
