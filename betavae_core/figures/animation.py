"""Traversals that move: all latents on a page, from the lowest value to the highest and back."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from math import ceil, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from betavae_core.errors import UsageError
from betavae_core.figures.inputs import finite, unit_images
from betavae_core.figures.page import (
    ACTIVE_NATS,
    INK,
    QUIET,
    SMALL,
    TEXT_HEIGHT,
    Page,
    fitted,
    latent_name,
    number,
    plain,
    styled,
)
from betavae_core.figures.saving import replace
from betavae_core.figures.tiles import LARGEST

MOST = 32  # latents
ACROSS = 0.72  # inches from one latent to the next: its name and KL fit above
HEADER, CAPTION = 0.2, 0.15
GAP = 0.06
NEARLY = 7  # grey levels: so near to white or black a palette's colour becomes it, or it wins


@styled
def traversal_frames(images: Any, kl: Any, values: Any, *, title: str) -> list[Figure]:
    """The pages of an animation for `animate`: at each value, an image of every latent by KL.

    images  (D, n, H, W) or (D, n, H, W, C), floats in [0, 1] or uint8: row d varies latent d
    kl      (D,) mean KL of each latent in nats
    values  (n,) the values that a latent takes

    They go to the last value and back to the second: 2n − 2 pages, a loop without a jump. Of more
    than 32 latents the 32 with the highest KL are shown. Raises UsageError when shapes disagree.
    """
    cells = unit_images("images", images, "D, n")
    latents, steps = cells.shape[:2]
    kl, values = finite("kl", kl, (latents,)), finite("values", values, (steps,))
    order = np.argsort(-kl, kind="stable")[:MOST]
    if latents > MOST:
        title = f"{title} (the {MOST} of {latents} latents with the highest KL)"
    pages = [
        _frame(cells[order, step], order, kl, name, title)
        for step, name in enumerate(plain(values))
    ]
    return pages + pages[-2:0:-1]


def _frame(
    cells: NDArray[np.float64],
    order: NDArray[np.intp],
    kl: NDArray[np.float64],
    value: str,
    title: str,
) -> Figure:
    columns = min(max(ceil(sqrt(1.6 * len(order))), 4), len(order))
    rows = ceil(len(order) / columns)
    tallest = (TEXT_HEIGHT - HEADER) / rows - CAPTION - GAP
    size = fitted(cells.shape[1:], LARGEST, min(LARGEST, tallest))
    across, down = max(size[0] + GAP, ACROSS), CAPTION + size[1] + GAP
    page = Page(columns * across - GAP, HEADER + rows * down - GAP, title)
    page.text(0, HEADER / 2 - 0.02, f"one latent at a time at {value}; its KL in nats")
    for n, (cell, latent) in enumerate(zip(cells, order, strict=True)):
        x, y = n % columns * across, HEADER + n // columns * down
        color = INK if kl[latent] >= ACTIVE_NATS else QUIET
        words = f"{latent_name(int(latent))}  {number(kl[latent])}"
        page.text(x, y + CAPTION / 2 - 0.01, words, size=SMALL, color=color)
        page.image(cell, x, y + CAPTION, size)
    return page.figure


@styled
def animate(
    frames: Sequence[Figure], path: str | os.PathLike[str], *, milliseconds: int = 100
) -> Path:
    """Write `frames` as a GIF that repeats for ever, making its folder; returns the path.

    Grey pages keep all their greys; colours become the 256 that serve all pages best, so nothing
    flickers. Written whole or not at all; the same frames give the same bytes. Raises UsageError
    for no frames, frames of different sizes, and another suffix.
    """
    path = Path(path)
    if path.suffix.lower() != ".gif":
        raise UsageError(f"an animation's file must end in .gif, got {path.name!r}")
    drawn = {id(frame): _pixels(frame) for frame in frames}
    if len({pixels.shape for pixels in drawn.values()}) != 1:
        raise UsageError(f"frames must be of one size, and at least one, got {len(drawn)}")
    first, *others = _indexed([drawn[id(frame)] for frame in frames])
    content = io.BytesIO()
    first.save(content, "GIF", save_all=True, append_images=others, duration=milliseconds, loop=0)
    replace(path, content.getvalue())
    return path


def _pixels(frame: Figure) -> NDArray[np.uint8]:
    canvas: Any = frame.canvas
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _indexed(pages: list[NDArray[np.uint8]]) -> list[Image.Image]:
    """The pages with one palette for all."""
    if all((page == page[..., :1]).all() for page in pages):
        return [Image.fromarray(page[..., 0]) for page in pages]
    sample = Image.fromarray(np.concatenate([page[::3, ::3] for page in pages]))
    colors = np.reshape(sample.quantize(256).getpalette() or [], (-1, 3))
    colors[(colors >= 255 - NEARLY).all(axis=1)] = 255
    colors[(colors <= NEARLY).all(axis=1)] = 0
    palette = Image.new("P", (1, 1))
    palette.putpalette(colors.ravel().tolist())
    return [
        Image.fromarray(page).quantize(palette=palette, dither=Image.Dither.NONE) for page in pages
    ]
