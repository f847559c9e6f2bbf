"""Traversals: one latent a row, its value a column, the most informative latent on top."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from betavae_core.figures.inputs import finite, unit_images
from betavae_core.figures.page import (
    ACTIVE_NATS,
    INK,
    LINE,
    QUIET,
    SMALL,
    TEXT_HEIGHT,
    TEXT_WIDTH,
    Page,
    fitted,
    latent_name,
    number,
    plain,
    sigma_label,
    styled,
)
from betavae_core.figures.tiles import GAP, LARGEST, draw_row, label_columns

MOST = 32  # rows
KL_RIGHT, SIGMA_LEFT, IMAGES_LEFT = 0.88, 1.03, 1.42  # inches: the columns of the left margin
HEADER = 0.17


@styled
def traversals(
    images: Any, kl: Any, sigma: Any, values: Any, *, title: str, base: Any = None
) -> Figure:
    """Decoded images as one latent at a time takes `values`, the others held.

    images  (D, n, H, W) or (D, n, H, W, C), floats in [0, 1] or uint8: row d varies latent d
    kl      (D,) mean KL of each latent in nats; rows are sorted by it, the largest first
    sigma   (D,) mean posterior standard deviation of each latent
    values  (n,) the values of the latent, printed above the columns
    base    (H, W[, C]), optional: the image whose code is varied, shown on top

    Latents with less than 0.1 nats are labelled in grey. Of more than 32 latents the 32 with the
    highest KL are shown, and the title says so. Raises UsageError when shapes disagree.
    """
    cells = unit_images("images", images, "D, n")
    latents, columns = cells.shape[:2]
    kl, sigma = finite("kl", kl, (latents,)), finite("sigma", sigma, (latents,))
    values = finite("values", values, (columns,))
    order = np.argsort(-kl, kind="stable")[:MOST]
    if latents > MOST:
        title = f"{title} (the {MOST} of {latents} latents with the highest KL)"

    room = min((TEXT_WIDTH - IMAGES_LEFT) / columns - GAP, LARGEST)
    rows = len(order) + (base is not None)
    tallest = min((TEXT_HEIGHT - HEADER) / rows - GAP, LARGEST)
    size = fitted(cells.shape[2:], room, tallest)
    across, down = size[0] + GAP, max(size[1] + GAP, LINE)
    above = 0.0 if base is None else down + 0.06
    page = Page(IMAGES_LEFT + columns * across - GAP, above + HEADER + len(order) * down, title)
    if base is not None:
        page.text(0, size[1] / 2, "input")
        page.image(unit_images("base", [base], "n")[0], IMAGES_LEFT, 0, size)
    _header(page, above + HEADER / 2 - 0.02)
    label_columns(page, plain(values), IMAGES_LEFT, above + HEADER / 2 - 0.02, size)
    for row, latent in enumerate(order):
        y = above + HEADER + row * down
        _margin(page, y + size[1] / 2, int(latent), kl[latent], sigma[latent])
        draw_row(page, cells[latent], IMAGES_LEFT, y, size)
    return page.figure


def _header(page: Page, y: float) -> None:
    """The names of the margin's columns."""
    page.text(0, y, "latent", size=SMALL)
    page.text(KL_RIGHT, y, "KL (nats)", size=SMALL, ha="right")
    page.text(SIGMA_LEFT, y, "σ", size=SMALL)


def _margin(page: Page, y: float, latent: int, kl: float, sigma: float) -> None:
    color = INK if kl >= ACTIVE_NATS else QUIET
    page.text(0, y, latent_name(latent), color=color)
    page.text(KL_RIGHT, y, number(kl), color=color, ha="right")
    page.text(SIGMA_LEFT, y, sigma_label(sigma), color=color)
