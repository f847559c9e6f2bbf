"""What the pictures accept: images in [0, 1] or bytes, and finite numbers of a stated shape."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from betavae_core.errors import UsageError


def unit_images(name: str, images: Any, axes: str) -> NDArray[np.float64]:
    """`images` as floats in [0, 1], shape (…, H, W) or (…, H, W, 3).

    `axes` names the axes before H, such as "D, n". Bytes are divided by 255; booleans are 0 and 1.
    Raises UsageError for other shapes, no images, and values outside [0, 1].
    """
    array = np.asarray(images)
    pixels = len(axes.split(", ")) + 2
    if array.ndim < pixels or array.shape[pixels:] not in ((), (1,), (3,)) or array.size == 0:
        raise UsageError(
            f"{name} must be ({axes}, H, W[, C]) with C in {{1, 3}}, none 0, got {array.shape}"
        )
    if array.dtype not in (np.uint8, np.bool_) and not np.issubdtype(array.dtype, np.floating):
        raise UsageError(f"{name} must be uint8 or floats in [0, 1], got {array.dtype}")
    unit = array / 255.0 if array.dtype == np.uint8 else array.astype(np.float64)
    if not (unit.min() >= 0 and unit.max() <= 1):
        raise UsageError(
            f"{name} must lie in [0, 1], got values from {unit.min():g} to {unit.max():g}; "
            "divide by the number of grey levels"
        )
    return unit[..., 0] if array.shape[pixels:] == (1,) else unit


def finite(name: str, values: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """`values` as float64 of exactly `shape`; UsageError for another shape, NaN or infinity."""
    array = np.asarray(values, dtype=np.float64)
    if array.shape != shape:
        raise UsageError(f"{name} must have the shape {shape}, got {array.shape}")
    if not np.isfinite(array).all():
        raise UsageError(f"{name} must be finite, got NaN or infinity; leave those out")
    return array
