"""The factor plot: how the mean code of each latent answers to each factor of the images.

After figure 2 of Burgess et al. (2018) and the factor plots of Chen et al. (2018, "Isolating
sources of disentanglement", figures 5 and 6): a latent a row, position as a map, other factors as
curves. A disentangled latent moves in one column and is flat in the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from betavae_core.errors import UsageError
from betavae_core.figures.curves import increasing, round_ticks
from betavae_core.figures.inputs import finite
from betavae_core.figures.page import (
    ACTIVE_NATS,
    DPI,
    FRAME,
    INK,
    QUIET,
    SMALL,
    TEXT_HEIGHT,
    TEXT_WIDTH,
    Page,
    fitted,
    latent_name,
    number,
    shortened,
    styled,
    text_width,
)
from betavae_core.figures.palette import class_style
from betavae_core.figures.position_maps import (
    BELOW,
    draw_map,
    draw_scale,
    mean_maps,
    position_maps,
    reach,
)

MOST = 32  # latents
MOST_CURVES = 6  # factors
TALLEST = 0.72  # inches: a row
KL_RIGHT, MARGIN = 0.72, 0.88  # inches: the left margin
AXIS = 0.42  # inches for the vertical axis of the curves
GAP, DOWN = 0.12, 0.08  # inches between columns, and between rows
WIDEST = 1.5  # inches: a curve
NARROWEST_SCALE = 0.7  # inches
LOW = 0.42  # inches: lower rows have no room for the value 0, nor for values in every row
STROKE = 0.22  # inches
FEW = 10  # points of a curve that are also marked
HEADER, TICKS = 0.18, 0.2  # inches: above the rows, and for the values below the curves
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.2)), (0, (1.2, 1)), (0, (5, 1, 1, 1)))

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


@styled
def factors(
    maps: Any,
    curves: Mapping[str, tuple[Any, Any]],
    kl: Any,
    *,
    title: str,
    names: Sequence[str] = (),
) -> Figure:
    """The mean code of each latent over position and over other factors, by descending KL.

    maps    (D, ny, nx) mean codes over position, y downwards as in the images, NaN where unknown;
            or None where the images have no position
    curves  a factor's name, with its unit: its n values, ascending, and the mean codes (D, S, n),
            one curve for each of S classes; or none, and the maps stand side by side
    kl      (D,) mean KL of each latent in nats
    names   the S classes, such as the shapes, where curves are more than one

    `mean_codes` gives both. All rows share one scale. Of more than 32 latents the 32 with the
    highest KL are shown, and the title says so. Raises UsageError when shapes disagree.
    """
    kl = finite("kl", kl, (np.size(kl),))
    if not len(kl):
        raise UsageError("factors need at least one latent, got none")
    order = np.argsort(-kl, kind="stable")[:MOST]
    if len(kl) > MOST:
        title = f"{title} (the {MOST} of {len(kl)} latents with the highest KL)"
    known = None if maps is None else mean_maps("maps", maps, len(kl))
    checked = _curves(curves, len(kl), names)
    if checked:
        return _rows(known, checked, order, kl, title, names)
    if known is None:
        raise UsageError("factors need maps, curves or both, got neither")
    return position_maps(known, order, kl, title)


def _curves(
    curves: Mapping[str, tuple[Any, Any]], latents: int, names: Sequence[str]
) -> dict[str, Curve]:
    if len(curves) > MOST_CURVES:
        raise UsageError(f"curves must be of at most {MOST_CURVES} factors, got {len(curves)}")
    checked = {}
    for name, (values, means) in curves.items():
        at = increasing(f"the values of {name!r}", values)
        shape, count = np.shape(means), len(names) or 1
        if shape not in ((latents, 1, len(at)), (latents, count, len(at))):
            raise UsageError(
                f"the curves of {name!r} must be (D, S, n) = ({latents}, {count}, {len(at)}), "
                f"got {shape}"
            )
        checked[name] = (at, np.asarray(means, dtype=np.float64))
    return checked


def _rows(
    maps: NDArray[np.float64] | None,
    curves: dict[str, Curve],
    order: NDArray[np.intp],
    kl: NDArray[np.float64],
    title: str,
    names: Sequence[str],
) -> Figure:
    top = HEADER * (2 if names else 1)
    below = TICKS if maps is None else BELOW
    tall = min(TALLEST, (TEXT_HEIGHT - top - below) / len(order) - DOWN)
    size = (0.0, tall) if maps is None else fitted(maps.shape[1:], 1.5 * tall, tall)
    start = MARGIN + (0 if maps is None else size[0] + GAP) + AXIS
    room = (TEXT_WIDTH - start + GAP) / len(curves) - GAP
    width = min(room, WIDEST)
    limit = reach(*[means for _, means in curves.values()], *([] if maps is None else [maps]))

    bottom = top + len(order) * (tall + DOWN) - DOWN
    whole = start + len(curves) * (width + GAP) - GAP
    page = Page(whole, bottom + below, title)
    _key(page, whole, names)
    _header(page, top, start, width, list(curves))
    for row, latent in enumerate(order):
        y = top + row * (tall + DOWN)
        _margin(page, y + tall / 2, int(latent), kl[latent])
        if maps is not None:
            draw_map(page, maps[latent], limit, (MARGIN, y), size)
        for column, (at, means) in enumerate(curves.values()):
            axes = page.panel(start + column * (width + GAP), y, width, tall)
            _draw_curves(axes, at, means[latent], limit)
            named = column == 0 and row % (1 if tall > LOW else 2) == 0
            axes.tick_params(labelleft=named, labelbottom=row == len(order) - 1)
            if column == 0 and row == len(order) // 2:
                axes.set_ylabel("mean code")
                axes.yaxis.set_label_coords(-(AXIS - 0.1) / width, 0.5)
    if maps is not None:
        page.text(MARGIN, top - HEADER / 2, "position (x →, y ↓)")
        draw_scale(page, limit, MARGIN, bottom, max(size[0], NARROWEST_SCALE))
    return page.figure


def _key(page: Page, width: float, names: Sequence[str]) -> None:
    """The classes and their strokes, on the first line."""
    room = width / max(len(names), 1) - STROKE - 0.2
    x = 0.0
    for name, (color, dashes) in zip(names, _strokes(len(names)), strict=True):
        words = shortened(str(name), room, SMALL)
        page.line(x, x + STROKE, HEADER / 2 - 0.02, color=color, linestyle=dashes, linewidth=1.0)
        page.text(x + STROKE + 0.05, HEADER / 2 - 0.02, words, size=SMALL)
        x += STROKE + 0.2 + text_width(words, SMALL)


def _header(page: Page, top: float, start: float, width: float, factors: list[str]) -> None:
    """The names of the columns."""
    page.text(0, top - HEADER / 2, "latent", size=SMALL)
    page.text(KL_RIGHT, top - HEADER / 2, "KL (nats)", size=SMALL, ha="right")
    for column, factor in enumerate(factors):
        middle = start + column * (width + GAP) + width / 2
        page.text(middle, top - HEADER / 2, shortened(factor, width + GAP / 2), ha="center")


def _strokes(count: int) -> list[tuple[str, Any]]:
    """A colour and a dash for each curve; one alone is plain."""
    if count <= 1:
        return [(INK, "-")] * count
    return [(color, DASHES[n % len(DASHES)]) for n, (color, _) in enumerate(class_style(count))]


def _margin(page: Page, y: float, latent: int, kl: float) -> None:
    color = INK if kl >= ACTIVE_NATS else QUIET
    page.text(0, y, latent_name(latent), color=color)
    page.text(KL_RIGHT, y, number(kl), color=color, ha="right")


def _draw_curves(
    axes: Axes, at: NDArray[np.float64], means: NDArray[np.float64], limit: float
) -> None:
    axes.axhline(0, color=FRAME, linewidth=0.5)
    marker = "o" if len(at) <= FEW else ""
    for curve, (color, dashes) in zip(means, _strokes(len(means)), strict=True):
        axes.plot(
            at, curve, color=color, linestyle=dashes, linewidth=1.0, marker=marker, markersize=2
        )
    top = 1.15 * limit
    slack = 0.06 * float(np.ptp(at)) or 0.5
    axes.set(xlim=(at[0] - slack, at[-1] + slack), ylim=(-top, top))
    round_ticks(axes.xaxis, 3)
    round_ticks(axes.yaxis, 2)
    if axes.bbox.height / DPI < LOW:
        axes.set_yticks([tick for tick in axes.get_yticks() if tick and abs(tick) <= top])
