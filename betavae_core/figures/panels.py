"""Models side by side: for each its originals, reconstructions and traversals by descending KL.

The panel of Burgess et al. (2018), figure 2 (β = 1 beside β = 150), and, without originals, the
traversals of Higgins et al. (2017), β-VAE beside VAE.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from betavae_core.errors import UsageError
from betavae_core.figures.inputs import finite, unit_images
from betavae_core.figures.page import (
    ACTIVE_NATS,
    INK,
    LINE,
    QUIET,
    SMALL,
    TEXT_HEIGHT,
    TEXT_WIDTH,
    TITLE,
    TITLE_LINE,
    Page,
    fitted,
    latent_name,
    number,
    plain,
    sigma_label,
    styled,
    text_width,
    wrap,
)
from betavae_core.figures.position_maps import BELOW, draw_map, draw_scale, mean_maps, reach
from betavae_core.figures.tiles import GAP, LARGEST, draw_row, label_columns

MOST_PANELS, MOST_LATENTS = 4, 12
GUTTER = 0.22  # inches between panels
KL_RIGHT, IMAGES_LEFT = 0.7, 0.77  # inches: the left margin of a panel
BESIDE = 0.07  # inches between traversals and maps
LEAST_ROW = 2 * LINE + 0.02  # inches: KL and σ stand in two lines
SCALE, SCALE_WIDTH = BELOW, 2.0  # inches: the colour bar of the maps
HEADER = 0.17


@dataclass(frozen=True, eq=False)
class Panel:
    """What is shown of one model.

    name             such as "β = 150"
    images           (D, n, H, W[, C]) traversals: row d varies latent d
    kl, sigma        (D,) mean KL in nats and mean posterior standard deviation of each latent
    values           (n,) the values that a latent takes
    originals        (m, H, W[, C]), optional, with their
    reconstructions  (m, H, W[, C]): as many pairs as there are columns are shown
    maps             (D, ny, nx), optional: mean codes over position, beside the traversals
    """

    name: str
    images: Any
    kl: Any
    sigma: Any
    values: Any
    originals: Any = None
    reconstructions: Any = None
    maps: Any = None


@styled
def side_by_side(panels: Sequence[Panel], *, title: str) -> Figure:
    """One to four models beside each other, each with its latents by descending KL.

    All images have one size on the page, and all maps one scale. Latents with less than 0.1 nats
    are labelled in grey; of more than 12 the 12 with the highest KL are shown, and the title says
    so. Raises UsageError when shapes disagree.
    """
    if not 1 <= len(panels) <= MOST_PANELS:
        raise UsageError(f"panels must be 1 to {MOST_PANELS}, got {len(panels)}")
    checked = [_checked(panel) for panel in panels]
    shapes = {panel.images.shape[2:] for panel in checked}
    if len(shapes) != 1:
        raise UsageError(f"panels must have images of one shape, got {sorted(shapes)}")
    if max(len(panel.kl) for panel in checked) > MOST_LATENTS:
        title = f"{title} (the {MOST_LATENTS} latents with the highest KL)"
    layout = _layout(checked)
    scale = SCALE if layout.limit else 0.0
    width = len(checked) * (layout.width + GUTTER) - GUTTER
    page = Page(width, layout.bottom + scale, title)
    for n, panel in enumerate(checked):
        _draw_panel(page, panel, n * (layout.width + GUTTER), layout)
    if layout.limit:
        label = "mean code over position (x →, y ↓)"
        x = (width - SCALE_WIDTH) / 2
        draw_scale(page, layout.limit, x, layout.bottom, SCALE_WIDTH, label)
    return page.figure


def _checked(panel: Panel) -> Panel:
    """The panel, once its arrays are known to fit each other."""
    where = f"{panel.name!r}"
    cells = unit_images(f"images of {where}", panel.images, "D, n")
    latents, steps = cells.shape[:2]
    originals, reconstructions = panel.originals, panel.reconstructions
    if (originals is None) != (reconstructions is None):
        raise UsageError(f"{where} must have both originals and reconstructions, or neither")
    if originals is not None:
        originals = unit_images(f"originals of {where}", originals, "m")
        reconstructions = unit_images(f"reconstructions of {where}", reconstructions, "m")
        wanted = (len(originals), *cells.shape[2:])
        if not originals.shape == reconstructions.shape == wanted:
            raise UsageError(
                f"originals and reconstructions of {where} must be {wanted}, "
                f"got {originals.shape} and {reconstructions.shape}"
            )
    return Panel(
        name=panel.name,
        images=cells,
        kl=finite(f"kl of {where}", panel.kl, (latents,)),
        sigma=finite(f"sigma of {where}", panel.sigma, (latents,)),
        values=finite(f"values of {where}", panel.values, (steps,)),
        originals=originals,
        reconstructions=reconstructions,
        maps=None if panel.maps is None else mean_maps(f"maps of {where}", panel.maps, latents),
    )


class _Layout(NamedTuple):
    """Lengths in inches that all panels share; `limit` is the reach of the maps, 0 for none."""

    columns: int
    size: tuple[float, float]
    down: float
    pairs: float
    head: float
    width: float
    bottom: float
    limit: float


def _layout(panels: Sequence[Panel]) -> _Layout:
    maps = [panel.maps for panel in panels if panel.maps is not None]
    columns = max(panel.images.shape[1] for panel in panels)
    rows = min(max(len(panel.kl) for panel in panels), MOST_LATENTS)
    paired = any(panel.originals is not None for panel in panels)
    widest = (TEXT_WIDTH + GUTTER) / len(panels) - GUTTER
    names = max(len(wrap(panel.name, widest, TITLE)) for panel in panels)
    head = names * TITLE_LINE + 0.04

    aside = BESIDE if maps else 0.0
    room = (widest - IMAGES_LEFT - aside + GAP) / (columns + bool(maps)) - GAP
    scale = SCALE if maps else 0.0
    tallest = (TEXT_HEIGHT - head - HEADER - scale) / (rows + 2 * paired) - GAP
    size = fitted(panels[0].images.shape[2:], min(room, LARGEST), min(tallest, LARGEST))
    down = max(size[1] + GAP, LEAST_ROW)
    pairs = 2 * (size[1] + GAP) + 0.06 if paired else 0.0
    taken = IMAGES_LEFT + (columns + bool(maps)) * (size[0] + GAP) - GAP + aside
    lines = [line for panel in panels for line in wrap(panel.name, widest, TITLE)]
    width = max([taken, *(text_width(line, TITLE) for line in lines)])
    bottom = head + pairs + HEADER + rows * down - GAP
    return _Layout(columns, size, down, pairs, head, width, bottom, reach(*maps) if maps else 0.0)


def _draw_panel(page: Page, panel: Panel, x: float, layout: _Layout) -> None:
    """The panel whose left edge is at x."""
    for n, line in enumerate(wrap(panel.name, layout.width, TITLE)):
        page.text(x, (n + 0.5) * TITLE_LINE, line, size=TITLE)
    if panel.originals is not None:
        pairs = {"input": panel.originals, "output": panel.reconstructions}
        for row, (name, images) in enumerate(pairs.items()):
            y = layout.head + row * (layout.size[1] + GAP)
            page.text(x + KL_RIGHT, y + layout.size[1] / 2, name, ha="right")
            draw_row(page, images[: layout.columns], x + IMAGES_LEFT, y, layout.size)
    _draw_traversals(page, panel, x, layout)


def _draw_traversals(page: Page, panel: Panel, x: float, layout: _Layout) -> None:
    top, size = layout.head + layout.pairs + HEADER, layout.size
    inset = (layout.down - GAP - size[1]) / 2  # small images stand in the middle of their two lines
    label_columns(page, plain(panel.values), x + IMAGES_LEFT, top - HEADER / 2 - 0.02, size)
    for row, latent in enumerate(np.argsort(-panel.kl, kind="stable")[:MOST_LATENTS]):
        y = top + row * layout.down + inset
        _margin(page, x, y + size[1] / 2, int(latent), panel)
        draw_row(page, panel.images[latent], x + IMAGES_LEFT, y, size)
        if panel.maps is not None:
            map_at = x + IMAGES_LEFT + layout.columns * (size[0] + GAP) + BESIDE
            draw_map(page, panel.maps[latent], layout.limit, (map_at, y), size)


def _margin(page: Page, x: float, y: float, latent: int, panel: Panel) -> None:
    """The name of a latent, and in two lines its KL and its σ."""
    color = INK if panel.kl[latent] >= ACTIVE_NATS else QUIET
    page.text(x, y, latent_name(latent), color=color)
    words = (f"{number(panel.kl[latent])} nats", f"σ {sigma_label(panel.sigma[latent])}")
    for line, text in zip((-0.5, 0.5), words, strict=True):
        page.text(x + KL_RIGHT, y + line * LINE, text, size=SMALL, color=color, ha="right")
