"""HDF5 files (.h5): one array of images, with factors or labels beside it, converted once.

`images` (or the one array that looks like it) is read in blocks, and kept as a memory-mapped
array. `labels` (N, K), as in 3D Shapes, are factors; `labels` (N,) are labels; `latents/classes`
are factors too. A column of few distinct values becomes class indices with their values.

HDF5 cannot tell a flipped bit, gives zeros for chunks that are not there, and hangs on some damaged
files. So what the file holds is compared with what it declares before it is read, and all is
rehearsed in a child process; links to other files are not followed.

Source: https://github.com/google-deepmind/3d-shapes (Burgess, Kim 2018) for the layout.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from betavae_core.data.arrays import channels_last, from_array
from betavae_core.data.cache import converted, key_of
from betavae_core.data.dataset import Dataset
from betavae_core.data.files import DEFLATE_RATIO, check_digest, reading
from betavae_core.data.npy import FACTOR_KEYS, IMAGE_KEYS, LABEL_KEYS
from betavae_core.data.progress import tell
from betavae_core.data.rehearsal import rehearse
from betavae_core.data.sources import Format
from betavae_core.data.stored import PixelWriter
from betavae_core.errors import DataError

if TYPE_CHECKING:
    import h5py  # type: ignore[import-untyped]

FACTORS = (*FACTOR_KEYS, "latents/classes", *LABEL_KEYS)
SHAPES3D = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")

_NUMBERS = "biuf"
_BLOCK = 1 << 25  # bytes read at a time
_CLASSES = 256  # distinct values that a column of class indices has at most
_REMEDY = "fetch or write it again"


def read(path: Path, name: str = "") -> Dataset:
    """The images in the HDF5 file `path`, converted to a memory-mapped array on first use."""
    name = name or path.stem
    with reading(path, _REMEDY):
        return converted(name, key_of(path), lambda writer: (_convert(path, name, writer), ""))[0]


def _convert(path: Path, name: str, writer: PixelWriter) -> Dataset:
    import h5py  # only who reads HDF5 needs it

    check_digest(path)
    rehearse(lambda: _rehearse(path))
    with h5py.File(path, "r") as file:
        arrays = _arrays(file)
        images = arrays[_images_key(arrays)]
        _check_storage(images)
        dataset = _read_images(images, name, writer)
        return _with_factors(dataset, arrays)


def _rehearse(path: Path) -> None:
    """Walk through all that `_convert` walks through, but read only the ends of the images."""
    import h5py

    with h5py.File(path, "r") as file:
        arrays = _arrays(file)
        images = arrays[_images_key(arrays)]
        _check_storage(images)
        rows = _rows(images)
        _ = images[:rows], images[-rows:], _table(arrays, len(images))


def _arrays(file: h5py.File) -> dict[str, h5py.Dataset]:
    """Every array of numbers in the file by its path; links are not followed."""
    import h5py

    found: dict[str, h5py.Dataset] = {}

    def visit(key: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind in _NUMBERS and item.shape:
            found[key] = item

    file.visititems(visit)
    return found


def _images_key(arrays: dict[str, h5py.Dataset]) -> str:
    for key in IMAGE_KEYS:
        if key in arrays:
            return key
    pictures = [key for key, array in arrays.items() if array.ndim in (3, 4)]
    if len(pictures) == 1:
        return pictures[0]
    there = ", ".join(f"{key} {array.shape}" for key, array in arrays.items()) or "none"
    raise DataError(
        f"cannot tell which array holds the images: name it one of {', '.join(IMAGE_KEYS)}; "
        f"arrays there: {there}"
    )


def _check_storage(array: h5py.Dataset) -> None:
    """DataError unless the file itself holds as much as the array declares."""
    stored, declared = array.id.get_storage_size(), prod(array.shape) * array.dtype.itemsize
    if not declared:
        raise DataError(f"{array.name} must not be empty, got shape {array.shape}")
    if array.is_virtual or array.external:
        raise DataError(f"{array.name} lies in other files, which are not read; copy it in")
    if array.chunks is None:
        whole = stored == declared
    else:
        expected = prod(-(-n // c) for n, c in zip(array.shape, array.chunks, strict=True))
        whole = array.id.get_num_chunks() == expected and declared <= DEFLATE_RATIO * stored
    if not whole:
        raise DataError(
            f"{array.name} declares {array.shape} {array.dtype}, {declared} bytes, and the file "
            f"holds {stored} bytes of it: truncated or damaged; {_REMEDY}"
        )


def _read_images(images: h5py.Dataset, name: str, writer: PixelWriter) -> Dataset:
    """The images written block by block where they are bytes, else converted as one array."""
    if images.dtype != np.uint8:
        whole = from_array(np.concatenate(list(_blocks(images, name))), name=name)
        writer.append(whole.pixels)
        levels = whole.levels
    else:
        levels = 1
        for block in _blocks(images, name):
            writer.append(channels_last(block).view(np.uint8))
            levels = 255 if block.max() > 1 else levels
    pixels = writer.finish()
    return Dataset(name, pixels, levels, (pixels.shape[3], pixels.shape[1], pixels.shape[2]))


def _blocks(array: h5py.Dataset, name: str) -> Iterator[NDArray[Any]]:
    """The array, some rows at a time: whole chunks, because a chunk is decompressed whole."""
    n, rows = len(array), _rows(array)
    for start in range(0, n, rows):
        yield array[start : start + rows]
        tell(f"converting {name}, images", min(start + rows, n), n)


def _rows(array: h5py.Dataset) -> int:
    """How many rows a block has."""
    rows = max(1, _BLOCK // (prod(array.shape[1:]) * array.dtype.itemsize))
    return rows if array.chunks is None else max(rows // array.chunks[0], 1) * array.chunks[0]


def _with_factors(dataset: Dataset, arrays: dict[str, h5py.Dataset]) -> Dataset:
    """The data set with the factors, or the labels, that have its length."""
    table = _table(arrays, len(dataset))
    if table is None:
        return dataset
    return _factored(dataset, table) if table.ndim == 2 else replace(dataset, labels=table)


def _table(arrays: dict[str, h5py.Dataset], n: int) -> NDArray[Any] | None:
    """The first array of factors (n, K), or of labels (n,), which are integers."""
    for key in FACTORS:
        array = arrays.get(key)
        if array is None or len(array) != n or array.ndim > 2:
            continue
        if array.ndim == 2 or array.dtype.kind in "biu":
            _check_storage(array)
            return array[:] if array.ndim == 2 else array[:].astype(np.int64)
    return None


def _factored(dataset: Dataset, table: NDArray[Any]) -> Dataset:
    names = tuple(f"factor_{k}" for k in range(table.shape[1]))
    if len(names) == len(SHAPES3D) and dataset.image_shape == (3, 64, 64):
        names = SHAPES3D
    columns = [np.unique(column, return_inverse=True) for column in table.T]
    if any(len(values) > _CLASSES for values, _ in columns):
        return replace(dataset, factors=table, factor_names=names)
    return replace(
        dataset,
        factors=np.stack([index for _, index in columns], axis=1).astype(np.uint8),
        factor_names=names,
        factor_values={k: values for k, (values, _) in zip(names, columns, strict=True)},
    )


def _accepts(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in (".h5", ".hdf5")


ENTRIES = (Format(".h5 files", _accepts, read),)
