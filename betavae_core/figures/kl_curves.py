"""The KL of each latent over training, or over the capacity that it is given.

Which latents wake, when, and how much each carries: Burgess et al. (2018), figure 3.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from numpy.typing import NDArray

from betavae_core.errors import UsageError
from betavae_core.figures.curves import END_GAP, draw, increasing, name_ends, span
from betavae_core.figures.inputs import finite
from betavae_core.figures.page import (
    ACTIVE_NATS,
    INK,
    LINE,
    SMALL,
    TEXT_WIDTH,
    Page,
    latent_name,
    number,
    styled,
    text_width,
)

LEFT = 0.5  # inches for the vertical axis
TOTAL_HEIGHT, BETWEEN, BELOW = 0.95, 0.16, 0.36
MOST_NAMED = 20
ASLEEP = "0.8"
NAME_OF_REST = "0.5"


@styled
def kl_per_latent(steps: Any, kl: Any, *, title: str, capacity: Any = None) -> Figure:
    """KL over training in nats: the sum over latents above, each latent below.

    steps     (T,) training steps, increasing
    kl        (T, D) mean KL of each latent, batch mean
    capacity  (T,), optional: the target C of the capacity objective, dashed beside the sum

    Latents with at least 0.1 nats at the last step are named at the ends of their lines with that
    KL (the 20 largest); the others are light grey. Raises UsageError when shapes disagree.
    """
    steps = increasing("steps", steps)
    return _lines(steps, kl, capacity, "training step", title)


@styled
def kl_over(x: Any, kl: Any, *, xlabel: str, title: str, capacity: Any = None) -> Figure:
    """KL per latent over any `x` (T,) that increases, named by `xlabel` with its unit.

    Over the capacity C itself, give it as `x` and as `capacity`: the dashed diagonal is then the
    target. Of a schedule that ends, give the part up to its end, where C still increases.
    """
    return _lines(increasing("x", x), kl, capacity, xlabel, title)


def _lines(x: NDArray[np.float64], kl: Any, capacity: Any, xlabel: str, title: str) -> Figure:
    kl = _per_latent(kl, len(x))
    total = {"total": kl.sum(axis=1)}
    if capacity is not None:
        total["C"] = finite("capacity", capacity, x.shape)
    order = np.argsort(-kl[-1], kind="stable")
    active = order[kl[-1, order] >= ACTIVE_NATS]
    names, ends, colors = _names(kl[-1], active)

    widest = max(text_width(name, SMALL) for name in [*names, *_total_names(total)])
    width = TEXT_WIDTH - LEFT - END_GAP - widest - 0.05
    height = max(1.9, LINE * (len(names) + 1))
    page = Page(TEXT_WIDTH, TOTAL_HEIGHT + BETWEEN + height + BELOW, title)
    above = page.panel(LEFT, 0, width, TOTAL_HEIGHT)
    below = page.panel(LEFT, TOTAL_HEIGHT + BETWEEN, width, height)
    _draw_total(above, x, total)
    _draw_latents(below, x, kl, active)
    below.set_xlabel(xlabel)
    name_ends(below, ends, names, colors)
    for axes in (above, below):
        axes.yaxis.set_label_coords(-(LEFT - 0.07) / width, 0.5)
    return page.figure


def _per_latent(kl: Any, steps: int) -> NDArray[np.float64]:
    shape = np.shape(kl)
    if len(shape) != 2 or shape[1] == 0:
        raise UsageError(f"kl must be (T, D) with D >= 1, got {shape}")
    return finite("kl", kl, (steps, shape[1]))


def _draw_total(axes: Axes, x: NDArray[np.float64], total: dict[str, NDArray[np.float64]]) -> None:
    for name, curve in total.items():
        dashes = {"linestyle": (0, (3, 2)), "color": "0.45"} if name == "C" else {"color": INK}
        draw(axes, x, curve, linewidth=1.2, **dashes)
    span(axes, x, 0, max(1.04 * max(curve.max() for curve in total.values()), ACTIVE_NATS))
    axes.tick_params(labelbottom=False)
    axes.set_ylabel("KL (nats)")
    ends = [curve[-1] for curve in total.values()]
    name_ends(axes, ends, _total_names(total), [INK, "0.45"][: len(ends)])


def _draw_latents(
    axes: Axes, x: NDArray[np.float64], kl: NDArray[np.float64], active: NDArray[np.intp]
) -> None:
    """The inactive below the active, the most active on top."""
    for latent in np.setdiff1d(np.arange(kl.shape[1]), active):
        draw(axes, x, kl[:, latent], color=ASLEEP, linewidth=0.6)
    for latent, color in zip(active[::-1], _shades(len(active))[::-1], strict=True):
        draw(axes, x, kl[:, latent], color=color, linewidth=1.0)
    span(axes, x, 0, max(1.04 * kl.max(), ACTIVE_NATS))
    axes.set_ylabel("KL per latent (nats)")


def _total_names(total: dict[str, NDArray[np.float64]]) -> list[str]:
    return [f"{name} {number(curve[-1])}" for name, curve in total.items()]


def _shades(count: int) -> list[str]:
    """Colours from dark to light: told apart in print without colour by their order."""
    return [to_hex(color) for color in colormaps["viridis"](np.linspace(0.05, 0.7, count))]


def _names(
    last: NDArray[np.float64], active: NDArray[np.intp]
) -> tuple[list[str], list[float], list[str]]:
    """Names, heights and colours for the ends of the lines; the unnamed share one name."""
    named = active[:MOST_NAMED]
    names = [f"{latent_name(int(n))} {number(last[n])}" for n in named]
    ends, colors = [float(last[n]) for n in named], _shades(len(active))[: len(named)]
    rest = {"more active": len(active) - len(named), "inactive": len(last) - len(active)}
    heights = {"more active": last[active[MOST_NAMED:]], "inactive": np.zeros(1)}
    for kind, count in rest.items():
        if count:
            names.append(f"{count} {kind}")
            ends.append(float(heights[kind].mean()))
            colors.append(NAME_OF_REST)
    return names, ends, colors
