"""scikit-learn's handwritten digits: 1,797 images of 8x8 pixels in 0 … 16, with their labels.

Small enough to train on in seconds, and no download. Source: Alpaydin, Kaynak, "Optical
recognition of handwritten digits" (UCI, 1998), its test part.
"""

from __future__ import annotations

import numpy as np

from betavae_core.data.dataset import Dataset
from betavae_core.data.sources import Source

LEVELS = 16


def load() -> Dataset:
    """The digits as they are: a pixel's value is x / 16."""
    from sklearn.datasets import load_digits  # a second to import, and only this source needs it

    digits = load_digits()
    return Dataset(
        name="digits",
        pixels=digits.images.astype(np.uint8)[..., None],
        levels=LEVELS,
        image_shape=(1, 8, 8),
        labels=digits.target,
    )


ENTRIES = (Source("digits", 1797, (1, 8, 8), 1797 * 64, "handwritten digits (scikit-learn)", load),)
