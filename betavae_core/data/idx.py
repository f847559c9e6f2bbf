"""IDX, the format of MNIST and its family: files, plain or gzipped, and folders of them.

    00 00 | type (08: uint8) | number of dimensions | each as a big-endian uint32 | the bytes

Images lie in *-images-idx3-ubyte; labels beside them in *-labels-idx1-ubyte. A folder that holds
both train-images and t10k-images is an official train/test pair.

Source: http://yann.lecun.com/exdb/mnist/ ("the IDX file format").
"""

from __future__ import annotations

import gzip
import os
import re
import struct
from dataclasses import replace
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

_GZIP = b"\x1f\x8b"
_UINT8 = 0x08
IMAGES = re.compile(r"(?P<stem>[^.].*images[-.]idx3-ubyte|images[-.]idx3-ubyte)(\.gz)?$")
_TEST = re.compile(r"(?<![a-z])(t10k|test)-images")
_REMEDY = "fetch it again"


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array in the IDX file `path`, plain or gzipped; DataError when it is not whole."""
    with reading(path, _REMEDY), path.open("rb") as file:
        check_digest(path)
        size = os.fstat(file.fileno()).st_size
        gzipped = file.read(2) == _GZIP
        file.seek(0)
        if not gzipped:
            return _parse(file, size)
        with gzip.GzipFile(fileobj=file) as stream:
            return _parse(stream, DEFLATE_RATIO * size)


def read_images(path: Path) -> Dataset:
    """The images in the IDX file `path`, with the labels of its sibling file where there is one."""
    images = read_idx(path)
    beside = _labels_beside(path)
    labels = None if beside is None else read_idx(beside)
    with reading(path, _REMEDY):
        return from_array(images, name=_stem(path.name), labels=labels)


def read_folder(folder: Path, prefix: str = "") -> Dataset:
    """The IDX images in `folder`: the official pair, or one file; only names with `prefix`."""
    files = [file for file in image_files(folder) if file.name.startswith(prefix)]
    test = [file for file in files if _TEST.search(file.name)]
    train = [file for file in files if file not in test]
    if len(train) > 1 or len(test) > 1:
        names = ", ".join(file.name for file in files)
        raise DataError(f"{folder}: holds several sets of images ({names}); name the file to read")
    parts = [read_images(file) for file in train + test]
    name = folder.resolve().name
    if len(parts) == 1:
        return replace(parts[0], name=name)
    with reading(folder, _REMEDY):
        return _pair(name, *parts)


def _pair(name: str, train: Dataset, test: Dataset) -> Dataset:
    """Training images, then test images; labels where both have them."""
    if train.image_shape != test.image_shape:
        raise DataError(
            f"training and test images must have one shape (C, H, W), got {train.image_shape} "
            f"and {test.image_shape}"
        )
    both = train.labels is not None and test.labels is not None
    return Dataset(
        name=name,
        pixels=np.concatenate((train.pixels, test.pixels)),
        levels=max(train.levels, test.levels),
        image_shape=train.image_shape,
        labels=np.concatenate((train.labels, test.labels)) if both else None,  # type: ignore[arg-type]
        test_from=len(train),
    )


def _parse(stream: Stream, available: int) -> NDArray[np.uint8]:
    """The array in `stream`, which holds at most `available` bytes."""
    zeros, kind, ndim = struct.unpack(">HBB", read_bytes(stream, 4, "its header"))
    if zeros or not ndim:
        raise DataError(
            f"not an IDX file: it starts with {bytes((zeros >> 8, zeros & 255, kind, ndim))!r}, "
            "not with 00 00, a type and the number of dimensions"
        )
    if kind != _UINT8:
        raise DataError(f"its values must be uint8 (type 0x08), got type {kind:#04x}")
    shape = struct.unpack(f">{ndim}I", read_bytes(stream, 4 * ndim, "its header"))
    if prod(shape) > available:
        raise DataError(
            f"truncated: its header declares shape {shape}, {prod(shape)} bytes, more than the "
            f"file can hold; {_REMEDY}"
        )
    return read_payload(stream, prod(shape)).reshape(shape)


def image_files(folder: Path) -> list[Path]:
    """The IDX files of images in `folder`; of a plain file and its gzip, the plain one."""
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):  # "x" sorts before "x.gz"
        if (match := IMAGES.match(file.name)) and file.is_file():
            found.setdefault(match["stem"], file)
    return list(found.values())


def _labels_beside(path: Path) -> Path | None:
    """The file of labels that belongs to the file of images `path`, plain or gzipped."""
    match = IMAGES.match(path.name)
    if not match:
        return None
    stem = re.sub(r"images([-.])idx3-ubyte$", r"labels\1idx1-ubyte", match["stem"])
    candidates = (path.with_name(stem), path.with_name(stem + ".gz"))
    return next((file for file in candidates if file.is_file()), None)


def _stem(name: str) -> str:
    return name.removesuffix(".gz")


def _accepts(path: Path) -> bool:
    """A folder that holds IDX images, or a file that is one by its name or its first bytes."""
    if path.is_dir():
        return bool(image_files(path))
    if "idx" in path.name.lower() or path.suffix == ".gz":
        return True
    with path.open("rb") as file:
        return file.read(2) == b"\0\0"


def _read(path: Path) -> Dataset:
    return read_folder(path) if path.is_dir() else read_images(path)


ENTRIES = (
    Format("IDX files (*-images-idx3-ubyte, plain or .gz) or a folder of them", _accepts, _read),
)
