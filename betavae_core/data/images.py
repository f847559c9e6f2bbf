"""Folders of images: cropped to a centred square, resized, decoded once in parallel, and kept.

Every image below the folder counts, in the order of its path. From the middle of each a square is
cut (the largest there is, or `crop` pixels), and resized to `size` pixels by area-aware bilinear
interpolation. When all images are grey they get one channel, else three. Images in two or more
folders below this one have the name of theirs as label.

An image that cannot be read is left out, counted, and named in a warning. Links that lead out of
the folder are refused. The result is kept as a memory-mapped array, under a key of all names,
sizes and times of change.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from betavae_core.data.cache import converted, root
from betavae_core.data.dataset import Dataset
from betavae_core.data.files import one_line, reading
from betavae_core.data.progress import tell
from betavae_core.data.sources import Format
from betavae_core.data.stored import PixelWriter
from betavae_core.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
SIDE = 64

_MOST_PIXELS = 1 << 26  # of one image; more is taken for a decompression bomb
_BLOCK = 512  # images decoded between two writes
_NAMED = 3  # unreadable files that a warning names
_REMEDY = "check that it may be read"


@dataclass(frozen=True)
class Cut:
    """How an image becomes a square: the largest in its middle, or `crop` pixels; then `size`.

    `channels` is 1, 3, or None for 1 where all images are grey.
    """

    size: int = SIDE
    crop: int | None = None
    channels: int | None = None

    def __post_init__(self) -> None:
        for name in ("size", "crop"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise DataError(f"{name} must be >= 1, got {value}")
        if self.channels not in (None, 1, 3):
            raise DataError(f"channels must be 1 or 3, got {self.channels}")


def from_folder(folder: Path, cut: Cut | None = None, name: str = "") -> Dataset:
    """The images below `folder`, decoded on first use. DataError when there is none to read."""
    cut, name = cut or Cut(), name or folder.resolve().name
    with reading(folder, _REMEDY):
        files = list(image_files(folder))
        key = _key(folder, files, cut)
        dataset, remark = converted(name, key, lambda w: _decode_all(folder, files, cut, name, w))
    if remark:
        warnings.warn(f"{folder}: {remark}", stacklevel=2)
    return dataset


def image_files(folder: Path) -> Iterator[str]:
    """The path within `folder` of every image below it, sorted folder by folder."""
    inside = folder.resolve()
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(folders + files):
            path = Path(place, name)
            if path.is_symlink() and not path.resolve().is_relative_to(inside):
                shown = path.relative_to(folder)
                raise DataError(f"{shown} is a link that leads out of the folder; copy it in")
        for name in sorted(files):
            if name.lower().endswith(ENDINGS) and not name.startswith("."):
                yield str(Path(place, name).relative_to(folder))


def _is_odd(path: Path) -> bool:
    """Whether `path` is no regular file: opening a pipe would wait for ever, a link may be dead."""
    return not path.is_file()


def _key(folder: Path, files: list[str], cut: Cut) -> str:
    """A text that changes when an image does: by name, size or time of change."""
    sha = hashlib.sha256(f"{folder.resolve()} {cut}\n".encode())
    for file in files:
        status = (folder / file).lstat() if _is_odd(folder / file) else (folder / file).stat()
        sha.update(f"{file} {status.st_size} {status.st_mtime_ns}\n".encode(errors="replace"))
    return sha.hexdigest()


def _decode_all(
    folder: Path, files: list[str], cut: Cut, name: str, writer: PixelWriter
) -> tuple[Dataset, str]:
    """The data set of all readable images, and a sentence on the others."""
    kept, failures, grey = [], [], True
    with ThreadPoolExecutor(os.cpu_count()) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a decoder grumbles about and reads all the same
        for start in range(0, len(files), _BLOCK):
            block = files[start : start + _BLOCK]
            images = pool.map(lambda file: _decode(folder / file, cut), block)
            for file, image in zip(block, images, strict=True):
                if isinstance(image, str):
                    failures.append(f"{file!r} ({image})" if "\n" in file else f"{file} ({image})")
                    continue
                kept.append(file)
                grey = grey and bool((image == image[..., :1]).all())
                writer.append(image[None])
            tell(f"decoding {name}, images", start + len(block), len(files))
    remark = _remark(failures, len(files))
    if not kept:
        raise DataError(f"{remark}; there must be one")
    if grey and cut.channels is None:
        writer.rewrite(lambda rows: rows[..., :1])
    return _dataset(name, writer.finish(), kept), remark


def _decode(path: Path, cut: Cut) -> NDArray[np.uint8] | str:
    """The image as (size, size, C), or why it cannot be read."""
    from PIL import Image, UnidentifiedImageError

    if _is_odd(path):
        return "not a file"
    try:
        with Image.open(path) as image:
            if image.width * image.height > _MOST_PIXELS:
                return f"{image.width}x{image.height} pixels, more than {_MOST_PIXELS:,}"
            if _lies(image, path.stat().st_size):
                return f"{image.width}x{image.height} pixels, more than it can hold"
            square = _square(image, cut)
        return np.asarray(square).reshape(cut.size, cut.size, -1)
    except UnidentifiedImageError:
        return "no image, or damaged"
    except Exception as error:  # a decoder fed with damaged bytes raises nearly anything
        return one_line(error)


def _lies(image: Image, size: int) -> bool:
    """Whether an image of `size` bytes declares more pixels than they can be, where that is known.

    Of what is not compressed at most 8 a byte; of a JPEG 512, for 16x16 pixels take 6 bits.
    """
    pixels, tiles = image.width * image.height, getattr(image, "tile", [])
    if image.format == "JPEG":
        return pixels > 512 * size
    raw = image.format in ("BMP", "PPM", "TIFF") and all(tile[0] == "raw" for tile in tiles)
    return raw and pixels > size * (8 if image.mode == "1" else 1)


def _square(image: Image, cut: Cut) -> Image:
    """The middle of the image, the way up that its camera noted, on white where transparent."""
    from PIL import ImageOps
    from PIL.Image import Resampling

    image = _eight_bits(ImageOps.exif_transpose(image)).convert("L" if cut.channels == 1 else "RGB")
    side = min(image.width, image.height, cut.crop or image.width)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return square.resize((cut.size, cut.size), Resampling.BILINEAR)


def _eight_bits(image: Image) -> Image:
    """The image with at most eight bits a channel and nothing transparent."""
    from PIL.Image import alpha_composite, fromarray, new

    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        if values.dtype.kind == "f" or values.min() < 0 or values.max() > 0xFFFF:
            raise DataError(f"pixels must have 8 or 16 bits, got {image.mode}")
        return fromarray((values >> 8).astype(np.uint8))
    if "A" not in image.mode and "transparency" not in image.info:
        return image
    layer = image.convert("RGBA")
    return alpha_composite(new("RGBA", image.size, "white"), layer)


def _dataset(name: str, pixels: NDArray[np.uint8], files: list[str]) -> Dataset:
    """The data set of these images, labelled by folder where there are two or more."""
    common = os.path.commonpath([os.path.dirname(file) for file in files])
    inner = [Path(file).relative_to(common).parts for file in files]
    folders, labels = np.unique([parts[0] for parts in inner], return_inverse=True)
    labelled = len(folders) > 1 and all(len(parts) > 1 for parts in inner)
    return Dataset(
        name=name,
        pixels=pixels,
        levels=255,
        image_shape=(pixels.shape[3], *pixels.shape[1:3]),
        labels=labels.astype(np.int64) if labelled else None,
        label_names=dict(enumerate(folders.tolist())) if labelled else {},
    )


def _remark(failures: list[str], count: int) -> str:
    """How many images are missing, and the first of them by name; "" when none is."""
    if not failures:
        return ""
    more = ", …" if len(failures) > _NAMED else ""
    named = ", ".join(failures[:_NAMED])
    return f"{len(failures):,} of {count:,} images cannot be read: {named}{more}"


def by_hand(name: str, origin: str) -> Path:
    """ROOT/`name`, where the user has put images that cannot be fetched; DataError where not."""
    folder = root() / name
    if folder.is_dir() and next(image_files(folder), None) is not None:
        return folder
    raise DataError(
        f"{name} cannot be fetched: {origin}; put the folder of images into {folder}, run "
        f"`betavae data prepare {name}`, or name the folder where it is"
    )


def _accepts(path: Path) -> bool:
    return path.is_dir() and next(image_files(path), None) is not None


ENTRIES = (Format(f"folders of images ({', '.join(ENDINGS)})", _accepts, from_folder),)
