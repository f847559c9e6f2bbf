"""Colours that survive a copying machine: their lightness carries what their hue says.

Values take viridis, which climbs evenly in lightness. Classes take steps of cubehelix, which turns
through the hues while it climbs (Green 2011, "A colour scheme for the display of astronomical
intensity images"), and neighbours on it have markers of different shapes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from betavae_core.figures.curves import round_ticks

MARKERS = ("o", "^", "s", "v", "D", "P", "X")
_DARKEST, _LIGHTEST = 0.12, 0.74  # of cubehelix: off black, and dark enough on white paper
_MISSING = (1.0, 1.0, 1.0)
EQUAL_CONTRAST = 0.179  # the luminance that black and white stand out from equally


def class_style(count: int) -> list[tuple[str, str]]:
    """A colour, from dark to light, and a marker for each of `count` classes."""
    colors = colormaps["cubehelix"](np.linspace(_DARKEST, _LIGHTEST, count))
    return [(to_hex(color), MARKERS[n % len(MARKERS)]) for n, color in enumerate(colors)]


def shade(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """The colours (…, 3) of `values` from `low` to `high`; NaN, which is unknown, is white."""
    colors = colormaps["viridis"](np.clip((values - low) / (high - low), 0, 1))[..., :3]
    colors[np.isnan(values)] = _MISSING
    return colors


def ink_on(color: NDArray[np.float64]) -> str:
    """Black or white, whichever has the higher contrast with `color`, at least 4.5 (WCAG 2.1)."""
    linear = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
    return "0.0" if float(linear @ [0.2126, 0.7152, 0.0722]) > EQUAL_CONTRAST else "1.0"


def color_bar(
    axes: Axes, low: float, high: float, label: str, *, most: int = 4, upright: bool = False
) -> None:
    """The scale of `shade`, filling `axes`: along the bottom, or `upright` at the right.

    It has at most `most` intervals between round numbers.
    """
    ramp: Any = np.linspace(0, 1, 256)[None, :]
    extent = (0.0, 1.0, low, high) if upright else (low, high, 0.0, 1.0)
    colors = shade(ramp.T[::-1] if upright else ramp, 0, 1)
    axes.imshow(colors, extent=extent, aspect="auto")
    value, across = (axes.yaxis, axes.xaxis) if upright else (axes.xaxis, axes.yaxis)
    across.set_visible(False)
    round_ticks(value, min(most, 4))
    value.set_label_text(label)
    if upright:
        axes.yaxis.tick_right()
    for spine in axes.spines.values():
        spine.set_visible(False)
