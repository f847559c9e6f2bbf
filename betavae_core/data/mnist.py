"""MNIST: 70,000 handwritten digits of 28x28 grey pixels, downloaded, with the official test set.

Source: LeCun, Cortes, Burges, "The MNIST database of handwritten digits" (1998).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from betavae_core.data.dataset import Dataset
from betavae_core.data.download import fetch, remotes
from betavae_core.data.idx import read_folder
from betavae_core.data.sources import Source

FILES = remotes(
    (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    (
        "train-images-idx3-ubyte.gz",
        9_912_422,
        "sha256:440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    ),
    (
        "train-labels-idx1-ubyte.gz",
        28_881,
        "sha256:3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    ),
    (
        "t10k-images-idx3-ubyte.gz",
        1_648_877,
        "sha256:8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    ),
    (
        "t10k-labels-idx1-ubyte.gz",
        4_542,
        "sha256:f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
)


def prepare() -> Path:
    """The folder with the four files, fetched where they are missing."""
    return fetch("mnist", FILES)


def load() -> Dataset:
    """60,000 training images, then 10,000 test images, with the digits as labels."""
    return replace(read_folder(prepare()), name="mnist")


ENTRIES = (
    Source(
        "mnist",
        70_000,
        (1, 28, 28),
        70_000 * 28**2,
        "handwritten digits; 12 MB to download",
        load,
        prepare,
    ),
)
