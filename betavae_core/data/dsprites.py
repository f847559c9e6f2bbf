"""The official dSprites file: read without pickle, packed into bits, compared with ours.

The .npz holds imgs (737280, 64, 64) of 0 and 1, latents_classes and latents_values (737280, 6),
and `metadata`, a pickled dictionary that is skipped. Its three gigabytes of pixels are read block
by block and kept as 378 MB of bits. `shapes2d` draws the same data; what the two differ in is
counted once, and said whenever the file is loaded.

Source: Matthey, Higgins, Hassabis, Lerchner, "dSprites: disentanglement testing sprites dataset"
(2017), https://github.com/google-deepmind/dsprites-dataset.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from betavae_core.data import npy, shapes2d
from betavae_core.data.cache import converted, key_of
from betavae_core.data.dataset import Dataset
from betavae_core.data.download import fetch, remotes
from betavae_core.data.files import check_end, read_bytes, reading
from betavae_core.data.progress import note, tell
from betavae_core.data.sources import Format, Source
from betavae_core.data.stored import PixelWriter
from betavae_core.errors import DataError

FILES = remotes(
    (
        "https://github.com/google-deepmind/dsprites-dataset/raw/master/",
        "https://raw.githubusercontent.com/google-deepmind/dsprites-dataset/master/",
        "https://raw.githubusercontent.com/deepmind/dsprites-dataset/master/",
    ),
    (
        "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz",
        None,
        "md5:7da33b31b13a06f4b04a70402ce90c2e",
    ),
)
MEMBERS = ("imgs", "latents_classes", "latents_values")

_SHAPE = (1, shapes2d.SIDE, shapes2d.SIDE)
_REMEDY = "fetch it again"
_ROWS = 4096  # images read at a time: 16 MB


@dataclass(frozen=True)
class Difference:
    """How many pixels differ, and in how many images."""

    pixels: int
    images: int

    def __str__(self) -> str:
        if not self.pixels:
            return "equal to shapes2d, as drawn here, in every pixel"
        return (
            f"differs from shapes2d, as drawn here, in {self.pixels:,} pixels of "
            f"{self.images:,} images"
        )


def load() -> Dataset:
    """The official images, from the file in the cache folder, which is fetched where missing."""
    return read(prepare() / FILES[0].name)


def prepare() -> Path:
    """The folder with the official file, fetched where it is missing."""
    return fetch("dsprites", FILES)


def read(path: Path) -> Dataset:
    """The images and factors of a file in the layout of dSprites; the 0/1 pixels as packed bits."""
    with reading(path, _REMEDY):
        dataset, remark = converted("dsprites", key_of(path), lambda writer: _convert(path, writer))
    if remark:
        note(f"{path.name}: {remark}")
    return dataset


def comparable(dataset: Dataset) -> bool:
    """Whether there are as many images as dSprites has, of the same shape, as bits."""
    return len(dataset) == shapes2d.COUNT and dataset.image_shape == _SHAPE and dataset.packed


def compare_with_drawn(dataset: Dataset) -> Difference:
    """In what the pixels of `dataset` differ from those that `shapes2d` draws, image by image.

    Raises DataError unless it has their number and shape, (737280, 64, 64) of 0 and 1.
    """
    if not comparable(dataset):
        raise DataError(
            f"only {shapes2d.COUNT:,} images of 64x64 bits can be compared with shapes2d, got "
            f"{len(dataset):,} of {dataset.image_shape}"
        )
    pixels = images = 0
    for start in range(0, len(dataset), _ROWS):
        rows = slice(start, start + _ROWS)
        wrong = np.bitwise_xor(dataset.pixels[rows], shapes2d.draw()[rows])
        differ = wrong.any(axis=1)
        pixels += int(np.unpackbits(wrong[differ]).sum())
        images += int(differ.sum())
    return Difference(pixels, images)


def _convert(path: Path, writer: PixelWriter) -> tuple[Dataset, str]:
    with npy.opened_npz(path) as archive:
        dataset = _read_archive(archive, writer)
    if len(dataset) != shapes2d.COUNT or dataset.image_shape != _SHAPE:
        return dataset, ""
    return dataset, str(compare_with_drawn(dataset))


def _read_archive(archive: zipfile.ZipFile, writer: PixelWriter) -> Dataset:
    """The data set in `archive`, whose directory `npy.members` checks."""
    size = npy.members(archive)["imgs"].file_size
    classes = npy.read_member(archive, "latents_classes")
    values = npy.read_member(archive, "latents_values")
    with archive.open("imgs.npy") as stream:
        header = npy.checked_header(stream, size)
        n, height, width = _checked_shape(header, classes, values)
        for start in range(0, n, _ROWS):
            count = min(_ROWS, n - start)
            writer.append(_packed(read_bytes(stream, count * height * width, "its images"), count))
            tell("packing dSprites, images", start + count, n)
        check_end(stream, f"{n} images")
    names = tuple(shapes2d.FACTOR_VALUES)
    if classes.shape[1] != len(names):
        names = tuple(f"factor_{k}" for k in range(classes.shape[1]))
    return Dataset(
        name="dsprites",
        pixels=writer.finish(),
        levels=1,
        image_shape=(1, height, width),
        packed=True,
        factors=classes.astype(np.min_scalar_type(classes.max())),
        factor_names=names,
        factor_values=dict(zip(names, _values(classes, values), strict=True)),
    )


def _checked_shape(
    header: npy.Header, classes: NDArray[np.generic], values: NDArray[np.generic]
) -> tuple[int, int, int]:
    """(N, H, W), when the three arrays fit each other."""
    shape = header.shape
    if len(shape) != 3 or 0 in shape or header.dtype != np.uint8 or header.fortran_order:
        raise DataError(f"imgs must be (N, H, W) uint8, got {shape} {header.dtype}; {_REMEDY}")
    if classes.dtype.kind not in "iu" or classes.ndim != 2 or len(classes) != shape[0]:
        raise DataError(
            f"latents_classes must be ({shape[0]}, K) integers, got {classes.shape} {classes.dtype}"
        )
    if not classes.size or classes.min() < 0 or classes.max() >= shape[0]:
        raise DataError(f"latents_classes must be 0 … {shape[0] - 1}, one or more a row; {_REMEDY}")
    if values.shape != classes.shape:
        raise DataError(f"latents_values must be {classes.shape}, one a class, got {values.shape}")
    return shape[0], shape[1], shape[2]


def _packed(data: bytes, count: int) -> NDArray[np.uint8]:
    """The bits (count, ceil(HW / 8)) of images of 0 and 1."""
    images = np.frombuffer(data, np.uint8).reshape(count, -1)
    if (top := images.max()) > 1:
        raise DataError(f"imgs must be 0 or 1, found {top}; {_REMEDY}")
    return np.packbits(images, axis=1)


def _values(classes: NDArray[np.generic], values: NDArray[np.generic]) -> list[NDArray[np.generic]]:
    """For each factor the value of each class: of the first image that has it."""
    table = []
    for index, value in zip(classes.T, values.T, strict=True):
        present, first = np.unique(index, return_index=True)
        if len(present) != present[-1] + 1:
            raise DataError(f"classes must be 0 … {present[-1]}, only {len(present)} occur")
        table.append(value[first])
    return table


def _accepts(path: Path) -> bool:
    """An .npz that holds all three arrays; whether they are whole is for `read` to say."""
    if not path.is_file() or path.suffix.lower() != ".npz":
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except Exception:  # damaged: the reader of .npz says how
        return False
    return {f"{name}.npy" for name in MEMBERS} <= names


ENTRIES = (
    Source(
        "dsprites",
        shapes2d.COUNT,
        (1, 64, 64),
        shapes2d.COUNT * 64 * 64 // 8,
        "the official file of shapes2d; 27 MB to download",
        load,
        prepare,
    ),
    Format("dSprites' .npz (imgs, latents_classes, latents_values)", _accepts, read),
)
