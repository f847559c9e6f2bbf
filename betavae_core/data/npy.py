"""NumPy's files: .npy, one array, and .npz, a zip of them. Nothing in them is ever unpickled.

NumPy parses the header of an array and the bytes are read here, so that a header is compared with
the file's size before anything is allocated, and an array of Python objects is refused by its
dtype. One path reads both kinds of file; a member of an .npz is a stream like any other.
"""

from __future__ import annotations

import os
import warnings
import zipfile
from dataclasses import dataclass
from io import BytesIO
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from betavae_core.data.arrays import from_array
from betavae_core.data.dataset import Dataset
from betavae_core.data.files import (
    DEFLATE_RATIO,
    Stream,
    check_digest,
    read_bytes,
    read_payload,
    reading,
)
from betavae_core.data.sources import Format
from betavae_core.errors import DataError

IMAGE_KEYS = ("images", "imgs", "x", "arr_0")
LABEL_KEYS = ("labels", "y")
FACTOR_KEYS = ("factors", "latents_classes")

_NUMBERS = "biuf"  # booleans, integers, floats
_HEADER_LIMIT = 10_000  # bytes; the limit of numpy.load
_HEADERS = {
    1: (2, np.lib.format.read_array_header_1_0),
    2: (4, np.lib.format.read_array_header_2_0),
}


@dataclass(frozen=True)
class Header:
    """What the header of an array declares, and the bytes that it takes itself."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[np.generic]
    length: int

    @property
    def nbytes(self) -> int:
        """Bytes of data that must follow."""
        return prod(self.shape) * self.dtype.itemsize


def read_npy(path: Path) -> Dataset:
    """The images in the .npy file `path`."""
    remedy = "write it again with numpy.save(file, images)"
    with reading(path, remedy), path.open("rb") as file:
        check_digest(path)
        images = _read_array(file, os.fstat(file.fileno()).st_size)
        return from_array(images, name=path.stem)


def read_npz(path: Path) -> Dataset:
    """The images in the .npz file `path`, with labels and factors where their lengths match.

    Images are under the first of IMAGE_KEYS that is there, else they are the only array of three
    or four dimensions.
    """
    remedy = "write it again with numpy.savez_compressed(file, images=images)"
    with reading(path, remedy), opened_npz(path) as archive:
        headers = {name: member_header(archive, name) for name in members(archive)}
        images = read_member(archive, images_key(headers))
        labels = _optional(archive, headers, LABEL_KEYS, "biu", (len(images),))
        factors = _optional(archive, headers, FACTOR_KEYS, _NUMBERS, (len(images), None))
        return from_array(images, name=path.stem, labels=labels, factors=factors)


def opened_npz(path: Path) -> zipfile.ZipFile:
    """The archive `path`, when it is what the digest beside it says."""
    check_digest(path)
    return zipfile.ZipFile(path)


def _read_array(stream: Stream, size: int) -> NDArray[np.generic]:
    """The array of numbers in `stream`, which holds `size` bytes."""
    header = checked_header(stream, size)
    order = "F" if header.fortran_order else "C"
    flat = read_payload(stream, header.nbytes).view(header.dtype)
    return flat.reshape(header.shape, order=order)  # type: ignore[call-overload]


def checked_header(stream: Stream, size: int) -> Header:
    """The header of an array of numbers, when it and its data are the `size` bytes of `stream`."""
    header = read_header(stream)
    if header.dtype.hasobject:
        raise DataError(
            "holds pickled Python objects, which are never loaded because unpickling runs code; "
            "save a plain array of numbers"
        )
    if header.dtype.kind not in _NUMBERS:
        raise DataError(f"must hold numbers, got dtype {header.dtype}; save an array of uint8")
    if header.nbytes != size - header.length:
        raise DataError(
            f"its header declares shape {header.shape} {header.dtype}, {header.nbytes} bytes, and "
            f"{size - header.length} are there: truncated or damaged; write it again"
        )
    return header


def read_header(stream: Stream) -> Header:
    """The header of an array, its length checked before it is read."""
    start = read_bytes(stream, 8, "its header")
    if start[:6] != np.lib.format.MAGIC_PREFIX or start[6] not in _HEADERS:
        raise DataError(f"not a NumPy array: it starts with {start!r}; write it with numpy.save")
    width, parse = _HEADERS[start[6]]
    prefix = read_bytes(stream, width, "its header")
    length = int.from_bytes(prefix, "little")
    if length > _HEADER_LIMIT:
        raise DataError(f"its header must have at most {_HEADER_LIMIT} bytes, declares {length}")
    text = read_bytes(stream, length, "its header")
    with warnings.catch_warnings():
        # Headers that Python 2 wrote are fine, and damaged ones are about to be refused.
        warnings.simplefilter("ignore")
        shape, fortran_order, dtype = parse(BytesIO(prefix + text))
    return Header(shape, fortran_order, dtype, 8 + width + length)


def members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The arrays in the archive by name, each checked not to promise more than it can hold."""
    found = {
        info.filename.removesuffix(".npy"): info
        for info in archive.infolist()
        if info.filename.endswith(".npy")
    }
    for name, info in found.items():
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(f"{name} is compressed in a way that NumPy does not write")
        if info.file_size > DEFLATE_RATIO * info.compress_size:
            raise DataError(f"{name} declares {info.file_size} bytes, more than it can hold")
    return found


def member_header(archive: zipfile.ZipFile, name: str) -> Header:
    with archive.open(f"{name}.npy") as stream:
        return read_header(stream)


def read_member(archive: zipfile.ZipFile, name: str) -> NDArray[np.generic]:
    info = archive.getinfo(f"{name}.npy")
    try:
        with archive.open(info) as stream:
            return _read_array(stream, info.file_size)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error


def images_key(headers: dict[str, Header]) -> str:
    for key in IMAGE_KEYS:
        if key in headers:
            return key
    pictures = [
        key for key, h in headers.items() if len(h.shape) in (3, 4) and h.dtype.kind in _NUMBERS
    ]
    if len(pictures) == 1:
        return pictures[0]
    arrays = ", ".join(f"{key} {header.shape}" for key, header in headers.items()) or "none"
    raise DataError(
        f"cannot tell which array holds the images: name it one of {', '.join(IMAGE_KEYS)}; "
        f"arrays there: {arrays}"
    )


def _optional(
    archive: zipfile.ZipFile,
    headers: dict[str, Header],
    keys: tuple[str, ...],
    kinds: str,
    shape: tuple[int | None, ...],
) -> NDArray[np.generic] | None:
    """The first array under one of `keys` that has the dtype and the shape, None being any."""
    for key in keys:
        header = headers.get(key)
        if header is None or header.dtype.kind not in kinds or len(header.shape) != len(shape):
            continue
        if all(want in (None, got) for want, got in zip(shape, header.shape, strict=True)):
            return read_member(archive, key)
    return None


def _accepts(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in (".npy", ".npz")


def _read(path: Path) -> Dataset:
    return read_npy(path) if path.suffix.lower() == ".npy" else read_npz(path)


ENTRIES = (Format(".npy and .npz files", _accepts, _read),)
