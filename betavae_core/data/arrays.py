"""Any array of images as a data set: the one place that decides what an array of pixels means.

Layouts (N, H, W), (N, H, W, C) and (N, C, H, W) with C in {1, 3}; booleans, integers in 0 … 255,
floats in [0, 1]. Everything else is refused by name, because a guess here (a scaling by 255, a
clipped range, a NaN read as black) would become a wrong number of nats everywhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from betavae_core.data.dataset import CHANNELS, Dataset
from betavae_core.data.files import one_line
from betavae_core.errors import DataError

UNNAMED = "array"  # what the images are called where they have no name
_BLOCK = 1 << 22  # how many pixels are converted at a time


def from_array(
    images: ArrayLike,
    name: str = UNNAMED,
    labels: ArrayLike | None = None,
    factors: ArrayLike | None = None,
    factor_names: Sequence[str] = (),
) -> Dataset:
    """A Dataset of `images`: (N, H, W), (N, H, W, C) or (N, C, H, W) with C in {1, 3}.

    Where both fit, the last axis is the channels. Booleans, and numbers that are all 0 or 1, have
    `levels` 1; other integers must lie in 0 … 255 and other floats in [0, 1], which are stored as
    round(255 x): both have `levels` 255. uint8 images are not copied.

    `labels` (N,) integers; `factors` (N, K) numbers, named `factor_names` or factor_0, factor_1, …
    Raises DataError for any other shape, dtype or value.
    """
    pixels = channels_last(_array("images", images))
    stored, levels = _as_bytes(pixels)
    height, width, c = stored.shape[1:]
    table = None if factors is None else _array("factors", factors)
    if table is not None and table.ndim == 2 and not factor_names:
        factor_names = [f"factor_{k}" for k in range(table.shape[1])]
    return Dataset(
        name=name,
        pixels=stored,
        levels=levels,
        image_shape=(c, height, width),
        factors=table,
        factor_names=tuple(factor_names),
        labels=None if labels is None else _array("labels", labels),
    )


def channels_last(images: NDArray[np.generic]) -> NDArray[np.generic]:
    """`images` as (N, H, W, C), a view; DataError unless the layout is one of the three."""
    shape = images.shape
    if images.ndim == 3:
        images = images[..., None]
    elif images.ndim == 4 and shape[3] not in CHANNELS and shape[1] in CHANNELS:
        images = images.transpose(0, 2, 3, 1)
    if images.ndim != 4 or images.shape[3] not in CHANNELS:
        raise DataError(
            "images must have shape (N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3, "
            f"got {shape}; reshape the array"
        )
    if 0 in shape:
        raise DataError(f"images must not be empty, got shape {shape}")
    return images


def _array(what: str, values: ArrayLike) -> NDArray[np.generic]:
    """`values` as an array; what NumPy cannot make an array of (ragged lists) is a DataError."""
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} must be an array of numbers: {one_line(error)}") from error
    if array.dtype.hasobject:
        raise DataError(f"{what} must be numbers, got Python objects (dtype {array.dtype})")
    return array


def _as_bytes(images: NDArray[np.generic]) -> tuple[NDArray[np.uint8], int]:
    """Pixels as uint8, and the number of levels that they have."""
    kind = images.dtype.kind
    if kind == "b":
        return np.ascontiguousarray(images).view(np.uint8), 1
    if kind in "iu":
        return _from_integers(images)
    if kind == "f":
        return _from_floats(images)
    raise DataError(
        f"images must be booleans, integers in 0 … 255 or floats in [0, 1], "
        f"got dtype {images.dtype}; convert them to uint8"
    )


def _from_integers(images: NDArray[np.generic]) -> tuple[NDArray[np.uint8], int]:
    low, high = images.min(), images.max()
    if low < 0 or high > 255:
        raise DataError(
            f"integer images must lie in 0 … 255, found {low} … {high}; rescale them to uint8"
        )
    return np.ascontiguousarray(images, dtype=np.uint8), 1 if high <= 1 else 255


def _from_floats(images: NDArray[np.generic]) -> tuple[NDArray[np.uint8], int]:
    """round(255 x), or x itself when all are exactly 0 or 1."""
    for block in _blocks(images):
        _check_range(block)
    binary = all(((block == 0) | (block == 1)).all() for block in _blocks(images))
    levels = 1 if binary else 255
    stored = np.empty(images.shape, np.uint8)
    for source, target in zip(_blocks(images), _blocks(stored), strict=True):
        target[...] = np.rint(levels * source.astype(np.float64))
    return stored, levels


def _check_range(block: NDArray[np.generic]) -> None:
    for what, wrong in (("NaN", np.isnan(block)), ("infinite", np.isinf(block))):
        if wrong.any():
            raise DataError(f"float images must be finite, found {what} pixels; replace them")
    low, high = block.min(), block.max()
    if low < 0 or high > 1:
        remedy = "divide by 255 or pass uint8" if low >= 0 and high <= 255 else "rescale them"
        raise DataError(f"float images must lie in [0, 1], found {low:g} … {high:g}; {remedy}")


def _blocks(images: NDArray[np.generic]) -> Iterator[NDArray[np.generic]]:
    """Views of a few million pixels, so that a conversion needs little memory beside its result."""
    rows = max(1, _BLOCK // (images.size // len(images)))
    for start in range(0, len(images), rows):
        yield images[start : start + rows]
