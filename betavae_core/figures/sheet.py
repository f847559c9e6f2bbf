"""A contact sheet: images of a data set in rows, each with a small caption."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from betavae_core.errors import UsageError
from betavae_core.figures.inputs import unit_images
from betavae_core.figures.page import (
    LINE,
    SMALL,
    TEXT_WIDTH,
    Page,
    fitted,
    styled,
    text_width,
    wrap,
)

MOST = 120  # images
COLUMNS = (12, 10, 9, 8, 7, 6, 5, 4)  # tried in turn until every caption fits below its image
CAPTION_LINES = 6
GAP = 0.06  # inches between images
LARGEST = 0.8  # inches


@styled
def contact_sheet(images: Any, *, title: str, captions: Sequence[str] | None = None) -> Figure:
    """A grid of `images` (n, H, W[, C]), uint8 (255 is white) or floats in [0, 1].

    `captions` are n short texts, wrapped below their images (a line break stays one); where one
    needs more than six lines it ends in an ellipsis. Beyond 120 images the first 120 are shown,
    and the title says so. Raises UsageError for bad shapes or another number of captions.
    """
    cells = unit_images("images", images, "n")
    words = [""] * len(cells) if captions is None else [str(caption) for caption in captions]
    if len(words) != len(cells):
        raise UsageError(f"captions must be one an image: {len(cells)}, got {len(words)}")
    if len(cells) > MOST:
        title = f"{title} (the first {MOST} of {len(cells)})"
    cells, words = cells[:MOST], words[:MOST]

    columns, captioned = _columns(words)
    across = TEXT_WIDTH / columns
    size = fitted(cells.shape[1:], min(across - GAP, LARGEST), LARGEST)
    lines = max(len(caption) for caption in captioned)
    down = size[1] + lines * LINE + (2 * GAP if lines else GAP)
    across = across if lines else size[0] + GAP
    rows = -(-len(cells) // columns)
    page = Page(min(len(cells), columns) * across - GAP, rows * down - GAP, title)
    for n, (cell, caption) in enumerate(zip(cells, captioned, strict=True)):
        x, y = n % columns * across, n // columns * down
        page.image(cell, x, y, size)
        for row, line in enumerate(caption):
            page.text(x, y + size[1] + (row + 0.55) * LINE, line, size=SMALL)
    return page.figure


def _columns(words: Sequence[str]) -> tuple[int, list[list[str]]]:
    """The number of columns, and every caption in lines.

    The most columns that hold every line of every caption; else the most that hold every word.
    """
    lines = max(_width(line) for caption in words for line in (caption.splitlines() or [""]))
    word = max(_width(word) for word in [*" ".join(words).split(), ""])
    tries = [(n, lines) for n in COLUMNS if n >= 6] + [(n, word) for n in COLUMNS]
    for columns, widest in tries:
        width = TEXT_WIDTH / columns - GAP
        captioned = [wrap(caption, width, SMALL) for caption in words]
        if widest <= width and all(len(caption) <= CAPTION_LINES for caption in captioned):
            return columns, captioned
    return columns, [_shortened(caption) for caption in captioned]


def _width(text: str) -> float:
    return text_width(text, SMALL)


def _shortened(lines: list[str]) -> list[str]:
    if len(lines) <= CAPTION_LINES:
        return lines
    return [*lines[: CAPTION_LINES - 1], lines[CAPTION_LINES - 1][:-1] + "…"]
