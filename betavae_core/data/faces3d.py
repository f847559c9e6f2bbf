"""3D Faces: 239,840 renderings of a licensed face model; put there by hand.

`headlike` draws something of the kind that needs no licence.

Source: Paysan, Knothe, Amberg, Romdhani, Vetter, "A 3D face model for pose and illumination
invariant face recognition" (2009); the number of renderings: Chen et al. 2018, β-TCVAE.
"""

from __future__ import annotations

from pathlib import Path

from betavae_core.data.dataset import Dataset
from betavae_core.data.images import Cut, by_hand, from_folder
from betavae_core.data.sources import Source

CUT = Cut(channels=1)
ORIGIN = (
    "the Basel Face Model is licensed, see https://faces.dmi.unibas.ch; `headlike` is a stand-in"
)


def load() -> Dataset:
    """The renderings in the cache folder, decoded on first use."""
    return from_folder(prepare(), CUT, "faces3d")


def prepare() -> Path:
    """The folder of the images, when they are there."""
    return by_hand("faces3d", ORIGIN)


ENTRIES = (
    Source(
        "faces3d",
        239_840,
        (1, 64, 64),
        239_840 * 64 * 64,
        "renderings of faces; licensed, to be put there by hand",
        load,
        prepare,
    ),
)
