"""CelebA: 202,599 photographs of faces, aligned, of 178x218 pixels; put there by hand.

The middle 148x148 pixels, resized to 64x64, are what most of the field trains on: the face fills
them. Other works resize the whole picture; for that, name the folder instead of `celeba`.

Source: Liu, Luo, Wang, Tang, "Deep learning face attributes in the wild" (2015).
"""

from __future__ import annotations

from pathlib import Path

from betavae_core.data.dataset import Dataset
from betavae_core.data.images import Cut, by_hand, from_folder
from betavae_core.data.sources import Source

CUT = Cut(crop=148, channels=3)
ORIGIN = (
    "its authors hand out img_align_celeba.zip for research at "
    "http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
)


def load() -> Dataset:
    """The faces in the cache folder, decoded on first use."""
    return from_folder(prepare(), CUT, "celeba")


def prepare() -> Path:
    """The folder of the images, when they are there."""
    return by_hand("celeba", ORIGIN)


ENTRIES = (
    Source(
        "celeba",
        202_599,
        (3, 64, 64),
        202_599 * 64 * 64 * 3,
        "faces; to be put there by hand",
        load,
        prepare,
    ),
)
