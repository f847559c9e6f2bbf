"""3D Shapes: 480,000 coloured images of an object in a room, all combinations of six factors.

Source: Burgess, Kim, "3D Shapes Dataset" (2018), https://github.com/google-deepmind/3d-shapes.
"""

from __future__ import annotations

from pathlib import Path

from betavae_core.data import hdf5
from betavae_core.data.dataset import Dataset
from betavae_core.data.download import fetch, remotes
from betavae_core.data.sources import Source

FILES = remotes(
    (
        "https://storage.googleapis.com/3d-shapes/",
        "https://commondatastorage.googleapis.com/3d-shapes/",
    ),
    (
        "3dshapes.h5",
        267_573_662,
        "sha256:0a0f6ed98baff276a50f3a081a7434d788da63cb135a98189b2a5b5769be1785",
    ),
)


def load() -> Dataset:
    """All images, memory-mapped, with their six factors as class indices and values."""
    return hdf5.read(prepare() / FILES[0].name, "shapes3d")


def prepare() -> Path:
    """The folder with the .h5 file, fetched where it is missing."""
    return fetch("shapes3d", FILES)


ENTRIES = (
    Source(
        "shapes3d",
        480_000,
        (3, 64, 64),
        480_000 * 64 * 64 * 3,
        "3D Shapes, 6 factors; 268 MB to download",
        load,
        prepare,
    ),
)
