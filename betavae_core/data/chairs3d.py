"""3D Chairs: 86,366 renderings of 1,393 chairs from 62 sides; put there by hand.

A folder a chair, with `renders/`, whose pictures are 600x600 on white: the middle 400x400 pixels,
resized to 64x64, in grey. The chair is the label.

Source: Aubry, Maturana, Efros, Russell, Sivic, "Seeing 3D chairs" (2014).
"""

from __future__ import annotations

from pathlib import Path

from betavae_core.data.dataset import Dataset
from betavae_core.data.images import Cut, by_hand, from_folder
from betavae_core.data.sources import Source

CUT = Cut(crop=400, channels=1)
ORIGIN = (
    "no checksum of it is published; unpack "
    "https://www.di.ens.fr/willow/research/seeing3Dchairs/data/rendered_chairs.tar"
)


def load() -> Dataset:
    """The renderings in the cache folder, decoded on first use."""
    return from_folder(prepare(), CUT, "chairs3d")


def prepare() -> Path:
    """The folder of the images, when they are there."""
    return by_hand("chairs3d", ORIGIN)


ENTRIES = (
    Source(
        "chairs3d",
        86_366,
        (1, 64, 64),
        86_366 * 64 * 64,
        "renderings of 1,393 chairs; to be put there by hand",
        load,
        prepare,
    ),
)
