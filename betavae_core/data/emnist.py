"""EMNIST: handwritten letters and digits of 28x28 grey pixels, downloaded or in the user's folder.

The files are IDX files whose every image is transposed: rows are stored where columns should be.
They are known by their names, emnist-SET-train-images-idx3-ubyte, and are turned upright here,
whoever asks. Labels have the names of their characters; in the set `letters` 1 … 26 are a … z,
capitals and small letters together.

Source: Cohen, Afshar, Tapson, van Schaik, "EMNIST: an extension of MNIST to handwritten letters"
(2017), arXiv 1702.05373.
"""

from __future__ import annotations

import re
import shutil
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase, digits

import numpy as np

from betavae_core.data import idx
from betavae_core.data.cache import root
from betavae_core.data.dataset import Dataset
from betavae_core.data.download import Remote, fetch
from betavae_core.data.files import reading, record_digest
from betavae_core.data.progress import note
from betavae_core.data.sources import Format, Source
from betavae_core.errors import DataError

ARCHIVE = Remote(
    "gzip.zip",
    561_753_746,
    "sha256:fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e",
    (
        "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",
        "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/gzip.zip",
    ),
)
LETTERS = "emnist-letters-"
FILES = tuple(
    f"{LETTERS}{part}-{kind}-ubyte.gz"
    for part in ("train", "test")
    for kind in ("images-idx3", "labels-idx1")
)
# In the merged sets a small letter that looks like its capital has the capital's label.
_MERGED = digits + ascii_uppercase + "abdefghnqrt"
_CHARACTERS = {
    "letters": dict(enumerate(ascii_lowercase, start=1)),
    "byclass": dict(enumerate(digits + ascii_uppercase + ascii_lowercase)),
    "bymerge": dict(enumerate(_MERGED)),
    "balanced": dict(enumerate(_MERGED)),
}
_SET = re.compile(r"emnist-(?P<set>[a-z]+)-")


def prepare() -> Path:
    """The folder with the four files of the letters, taken out of the archive where missing."""
    folder = root() / "emnist-letters"
    if not all((folder / name).is_file() for name in FILES):
        archive = fetch("emnist-letters", (ARCHIVE,)) / ARCHIVE.name
        with reading(archive, "delete it and fetch it again"), zipfile.ZipFile(archive) as members:
            for name in FILES:
                _extract(members, name, folder)
        archive.unlink()  # 562 MB, of which the letters are 34
        archive.with_name(f"{archive.name}.sha256").unlink(missing_ok=True)
    return folder


def load() -> Dataset:
    """124,800 training images, then 20,800 test images, upright, labels 1 … 26 named a … z."""
    return replace(read_folder(prepare()), name="emnist-letters")


def read_folder(folder: Path) -> Dataset:
    """The EMNIST images in `folder`; of several sets the letters, which a warning says."""
    sets = sorted({_set_of(file) for file in idx.image_files(folder) if _is_emnist(file)})
    if len(sets) == 1:
        return _upright(idx.read_folder(folder, f"emnist-{sets[0]}-"), sets[0])
    if "letters" not in sets:
        raise DataError(f"{folder}: holds several sets of EMNIST ({', '.join(sets)}); keep one")
    warnings.warn(
        f"{folder}: holds several sets of EMNIST ({', '.join(sets)}); the letters are read",
        stacklevel=2,
    )
    return _upright(idx.read_folder(folder, LETTERS), "letters")


def _upright(stored: Dataset, part: str) -> Dataset:
    """The images with rows and columns exchanged, and the names of the set's characters."""
    c, height, width = stored.image_shape
    return replace(
        stored,
        pixels=np.ascontiguousarray(stored.pixels.transpose(0, 2, 1, 3)),
        image_shape=(c, width, height),
        label_names=_CHARACTERS.get(part, {}),  # `digits` and `mnist`: the label says it
    )


def _extract(members: zipfile.ZipFile, name: str, folder: Path) -> None:
    """Write one file of the archive into `folder`, whole or not at all, its digest beside it."""
    note(f"unpacking {name}")
    partial = folder / f".{name}.partial"
    with members.open(f"gzip/{name}") as packed, partial.open("wb") as file:
        shutil.copyfileobj(packed, file)
    partial.replace(folder / name)
    record_digest(folder / name)


def _is_emnist(path: Path) -> bool:
    return _SET.match(path.name) is not None


def _set_of(path: Path) -> str:
    match = _SET.match(path.name)
    return match["set"] if match else ""


def _accepts(path: Path) -> bool:
    if path.is_dir():
        return any(_is_emnist(file) for file in idx.image_files(path))
    return _is_emnist(path) and idx.IMAGES.match(path.name) is not None


def _read(path: Path) -> Dataset:
    return read_folder(path) if path.is_dir() else _upright(idx.read_images(path), _set_of(path))


ENTRIES = (
    Source(
        "emnist-letters",
        145_600,
        (1, 28, 28),
        145_600 * 28**2,
        "handwritten letters; 562 MB to download",
        load,
        prepare,
    ),
    Format("EMNIST's IDX files (emnist-*, turned upright) or a folder of them", _accepts, _read),
)
