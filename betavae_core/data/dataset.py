"""A data set: images as bytes or bits, how many grey levels they have, and what is known of them.

Images are small and stay resident, so a data set is one array. A pixel's value is x / levels:
`levels` is 1 for 0/1 images, 255 for bytes, 16 for scikit-learn's digits. Images of 0 and 1 may
be packed, eight pixels a byte, which holds the 737,280 images of dSprites in 378 MB.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from betavae_core.errors import DataError

CHANNELS = (1, 3)
_DIGEST_BYTES = 1 << 24  # how many bytes of pixels `digest` takes at a time


@dataclass(frozen=True, eq=False)
class Dataset:
    """N images of `image_shape` (C, H, W), with ground-truth factors and labels where known.

    `pixels` is (N, H, W, C) uint8 in 0 … `levels` or, when `packed`, (N, ceil(HWC / 8)) uint8: the
    bits of an image in row-major order, the first pixel in the highest bit of the first byte.

    `factors` is (N, K). Integers are class indices: `factor_values[name][index]` is the value of
    the factor, where values are known. Other numbers are the values themselves.
    `labels` is (N,), integers; `label_names[label]` is what a class is called, where it has a name.

    `test_from` is set where the source has an official train/test pair: rows from there on are
    the test set.

    The arrays are not copied and must not be written to. Raises DataError when they disagree.
    """

    name: str
    pixels: NDArray[np.uint8]
    levels: int
    image_shape: tuple[int, int, int]
    packed: bool = False
    factors: NDArray[np.generic] | None = None
    factor_names: tuple[str, ...] = ()
    factor_values: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    labels: NDArray[np.generic] | None = None
    label_names: Mapping[int, str] = field(default_factory=dict)
    test_from: int | None = None

    def __post_init__(self) -> None:
        self._check_pixels()
        self._check_factors()
        self._check_labels()
        if self.test_from is not None and not 0 < self.test_from < len(self):
            raise DataError(
                f"an official split needs images on both sides, got {self.test_from} training "
                f"images of {len(self)}"
            )

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def nbytes(self) -> int:
        """Bytes that the pixels take in memory, as they are held."""
        return self.pixels.nbytes

    @property
    def varies(self) -> bool:
        """Whether there are factors, and at least one takes more than one value."""
        return self.factors is not None and bool((self.factors != self.factors[0]).any())

    @cached_property
    def images(self) -> NDArray[np.uint8]:
        """All images, (N, H, W) for grey or (N, H, W, C), uint8 in 0 … levels.

        A packed data set is unpacked on first use and kept: eight times its `nbytes` more.
        """
        return self._unpacked(self.pixels)

    def take(self, indices: ArrayLike) -> NDArray[np.uint8]:
        """The n images at `indices`, (n, H, W) for grey or (n, H, W, C); unpacks just those."""
        return self._unpacked(self.pixels[np.asarray(indices, dtype=np.int64)])

    def digest(self) -> str:
        """SHA-256 of shape, levels and pixels: equal for equal images, packed or not."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        sha = hashlib.sha256(f"{len(self)} {self.image_shape} {self.levels}\n".encode())
        for block in self._blocks():
            sha.update(block)
        return sha.hexdigest()

    def _blocks(self) -> Iterator[memoryview]:
        """The pixels, a few megabytes at a time; 0/1 images always as bits."""
        rows = max(1, _DIGEST_BYTES // prod(self.pixels.shape[1:]))
        for start in range(0, len(self), rows):
            block = self.pixels[start : start + rows]
            if self.levels == 1 and not self.packed:
                block = np.packbits(block.reshape(len(block), -1), axis=1)
            yield np.ascontiguousarray(block).data

    def _unpacked(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        c, height, width = self.image_shape
        shape = (len(pixels), height, width) if c == 1 else (len(pixels), height, width, c)
        if self.packed:
            pixels = np.unpackbits(pixels, axis=1, count=c * height * width)
        return pixels.reshape(shape)

    def _check_pixels(self) -> None:
        c, height, width = self.image_shape
        size = c * height * width
        row = (-(-size // 8),) if self.packed else (height, width, c)
        if c not in CHANNELS:
            raise DataError(f"images must have 1 or 3 channels, got {c}")
        if size < 1 or not len(self.pixels):
            raise DataError(f"a data set must hold images, got shape {self.pixels.shape}")
        if self.pixels.dtype != np.uint8 or self.pixels.shape[1:] != row:
            expected = ", ".join(map(str, ("N", *row)))
            got = f"{self.pixels.shape} {self.pixels.dtype}"
            raise DataError(f"pixels must be ({expected}) uint8, got {got}")
        if not 1 <= self.levels <= 255 or (self.packed and self.levels != 1):
            most = "1 when packed" if self.packed else "1 to 255"
            raise DataError(f"levels must be {most}, got {self.levels}")
        if not self.packed and self.levels < 255 and (top := int(self.pixels.max())) > self.levels:
            raise DataError(f"pixels must be at most levels = {self.levels}, found {top}")

    def _check_factors(self) -> None:
        factors, names = self.factors, self.factor_names
        if factors is None:
            if names:
                raise DataError(f"factor names without factors: {', '.join(names)}")
            return
        if factors.ndim != 2 or len(factors) != len(self) or factors.dtype.kind not in "biuf":
            raise DataError(
                f"factors must be ({len(self)}, K) numbers, one row an image, "
                f"got {factors.shape} {factors.dtype}"
            )
        if len(names) != factors.shape[1]:
            raise DataError(f"{factors.shape[1]} factors need as many names, got {len(names)}")
        if not np.isfinite(factors).all():
            raise DataError("factors must be finite, found NaN or infinity")

    def _check_labels(self) -> None:
        labels = self.labels
        if labels is None:
            return
        if labels.shape != (len(self),) or labels.dtype.kind not in "biu":
            raise DataError(
                f"labels must be ({len(self)},) integers, one an image, "
                f"got {labels.shape} {labels.dtype}"
            )
