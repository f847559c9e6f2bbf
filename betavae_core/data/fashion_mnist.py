"""Fashion-MNIST: 70,000 pieces of clothing of 28x28 grey pixels, downloaded, with its test set.

Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST: a novel image dataset" (2017), arXiv 1708.07747.
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
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    (
        "train-images-idx3-ubyte.gz",
        26_421_880,
        "sha256:3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    ),
    (
        "train-labels-idx1-ubyte.gz",
        29_515,
        "sha256:a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    ),
    (
        "t10k-images-idx3-ubyte.gz",
        4_422_102,
        "sha256:346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    ),
    (
        "t10k-labels-idx1-ubyte.gz",
        5_148,
        "sha256:67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
)
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def prepare() -> Path:
    """The folder with the four files, fetched where they are missing."""
    return fetch("fashion-mnist", FILES)


def load() -> Dataset:
    """60,000 training images, then 10,000 test images, with what they show as labels."""
    names = dict(enumerate(CLASSES))
    return replace(read_folder(prepare()), name="fashion-mnist", label_names=names)


ENTRIES = (
    Source(
        "fashion-mnist",
        70_000,
        (1, 28, 28),
        70_000 * 28**2,
        "clothing; 31 MB to download",
        load,
        prepare,
    ),
)
