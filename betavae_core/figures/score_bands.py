"""Scores with the band over protocols, a row each, and the published figure beside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from betavae_core.errors import UsageError
from betavae_core.figures.inputs import finite
from betavae_core.figures.page import INK, QUIET, SMALL, TEXT_WIDTH, Page, styled, text_width

ROW, BELOW, KEY = 0.24, 0.36, 0.22  # inches: a row, the axis, the line of the legend
GAP = 0.1
OURS: dict[str, Any] = {"marker": "o", "color": INK, "markersize": 5.0, "linestyle": "none"}
PUBLISHED: dict[str, Any] = {
    "marker": "D",
    "color": INK,
    "markerfacecolor": "white",
    "markersize": 5.0,
    "linestyle": "none",
}
BAND: dict[str, Any] = {"color": QUIET, "linewidth": 4.0}


@styled
def score_bands(
    names: Sequence[str], ours: Any, bands: Any, published: Any, *, title: str, xlabel: str
) -> Figure:
    """One row a name, from the top: a bar from bands[i, 0] to bands[i, 1] and two marks.

    ours       (R,) filled circles
    bands      (R, 2) the least and the greatest over protocols
    published  (R,) open diamonds; NaN draws none

    Raises UsageError when shapes disagree.
    """
    count = len(names)
    if not count:
        raise UsageError("names must be of at least one row, got none")
    ours, bands = finite("ours", ours, (count,)), finite("bands", bands, (count, 2))
    marks: NDArray[np.float64] = np.asarray(published, np.float64)
    if marks.shape != (count,):
        raise UsageError(f"published must be ({count},), got {marks.shape}")
    left = max(text_width(name) for name in names) + GAP
    page = Page(TEXT_WIDTH, KEY + count * ROW + BELOW, title)
    axes = page.panel(left, KEY, TEXT_WIDTH - left, count * ROW)
    rows = np.arange(count)
    axes.hlines(rows, *bands.T, **BAND)
    axes.plot(marks, rows, **PUBLISHED)
    axes.plot(ours, rows, **OURS)
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_yticks(rows, names)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(xlabel)
    _draw_key(page, left)
    return page.figure


def _draw_key(page: Page, x: float) -> None:
    """What the marks are, in a line above the axes."""
    y = KEY / 2 - 0.03
    for words, look in (("ours", OURS), ("published", PUBLISHED), ("band over protocols", BAND)):
        width = 0.2 if look is BAND else 0.0
        page.line(x + 0.06, x + 0.06 + width, y, solid_capstyle="butt", **look)
        page.text(x + 0.16 + width, y, words, size=SMALL)
        x += 0.4 + width + text_width(words, SMALL)
