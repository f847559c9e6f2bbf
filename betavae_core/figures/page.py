"""The style of every picture, and a page to lay one out on: inches from the top left corner.

Matplotlib places things in fractions of a figure whose size must be known first. A `Page` turns
that round: say where images, words and panels go in inches below the title, and how large the
whole is. Positions fall on the pixels of a saved PNG, so that images stay crisp.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import cache, wraps
from typing import Any, Literal, ParamSpec, TypeVar

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import text_to_path
from numpy.typing import NDArray

DPI = 200
MARGIN = 0.08  # inches of white around everything
TEXT_WIDTH = 6.5 - 2 * MARGIN  # inches: the widest content
TEXT_HEIGHT = 8.8  # inches: the tallest that still prints on one page
NARROWEST = 3.4  # inches: room for a title above a small picture

TITLE, LABEL, SMALL = 8.5, 7.0, 6.5  # points
LINE = 0.125  # inches from one line of LABEL or SMALL text to the next
TITLE_LINE = 0.155

INK, QUIET, FRAME = "0.1", "0.62", "0.7"  # greys: what is said, what is secondary, frames

ACTIVE_NATS = 0.1  # a latent with less KL carries nothing and is shown in QUIET

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture on every machine
    "font.size": LABEL,
    "text.color": INK,
    "axes.edgecolor": FRAME,
    "axes.linewidth": 0.6,
    "axes.labelsize": LABEL,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.color": FRAME,
    "ytick.color": FRAME,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.solid_capstyle": "round",
    "svg.hashsalt": "betavae-core",  # else the ids in an SVG are random
}

P = ParamSpec("P")
R = TypeVar("R")


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """Run `function` in this style, whatever matplotlib settings the caller has."""

    @wraps(function)
    def in_style(*args: P.args, **kwargs: P.kwargs) -> R:
        with style.context(["default", STYLE]):
            return function(*args, **kwargs)

    return in_style


def on_pixel(inches: float) -> float:
    """The nearest length that is a whole number of pixels of a saved PNG."""
    return round(inches * DPI) / DPI


@cache
def text_width(text: str, points: float = LABEL) -> float:
    """The width of `text` in inches, 2 % over: letters on a pixel grid run wider than outlines."""
    font = FontProperties(family=STYLE["font.family"], size=points)
    return 1.02 * text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] / 72


def wrap(text: str, inches: float, points: float) -> list[str]:
    """`text` in lines at most `inches` wide, broken at spaces, within a word if it is too long."""
    lines: list[str] = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if line and text_width(longer, points) > inches:
                lines.append(line)
                longer = word
            while len(longer) > 1 and text_width(longer, points) > inches:
                head = _longest_head(longer, inches, points)
                lines.append(longer[:head])
                longer = longer[head:]
            line = longer
        if line:
            lines.append(line)
    return lines


def _longest_head(word: str, inches: float, points: float) -> int:
    heads = range(1, len(word))
    return max(1, bisect_right(heads, inches, key=lambda n: text_width(word[:n], points)))


class Page:
    """A figure of `width` by `height` inches of content below its wrapped title.

    The origin is the top left corner of the content, x to the right and y down.
    """

    def __init__(self, width: float, height: float, title: str) -> None:
        width = max(width, NARROWEST)
        lines = wrap(title, width, TITLE)
        head = MARGIN + TITLE_LINE * len(lines) + (0.07 if lines else 0)
        self.left, self.top = on_pixel(MARGIN), on_pixel(head)
        self.width = on_pixel(width + 2 * MARGIN)
        self.height = on_pixel(head + height + MARGIN)
        self.figure = Figure(figsize=(self.width, self.height), dpi=DPI, facecolor="white")
        self.figure.suppressComposite = True  # keep images apart, and sharp, in PDF and SVG
        FigureCanvasAgg(self.figure)
        self._ink = self.figure.add_axes((0, 0, 1, 1), xticks=[], yticks=[], frame_on=False)
        self._ink.set_xlim(-self.left, self.width - self.left)
        self._ink.set_ylim(self.height - self.top, -self.top)
        self._ink.set_autoscale_on(False)
        for n, line in enumerate(lines):
            self.text(0, MARGIN - self.top + n * TITLE_LINE, line, size=TITLE, va="top")

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        size: float = LABEL,
        color: str = INK,
        ha: Literal["left", "center", "right"] = "left",
        va: Literal["top", "center", "bottom"] = "center",
    ) -> None:
        """Words at (x, y). No markup: a dollar sign is a dollar sign."""
        # Centred on the digits and capitals: the words of one row then share a baseline.
        anchor = "center_baseline" if va == "center" else va
        self._ink.text(
            x, y, words, size=size, color=color, ha=ha, va=anchor, parse_math=False, clip_on=False
        )

    def image(
        self, pixels: NDArray[np.float64], x: float, y: float, size: tuple[float, float]
    ) -> None:
        """An image (H, W) or (H, W, 3) in a thin frame: 0 is black and 1 is white, always."""
        x, y, (width, height) = on_pixel(x), on_pixel(y), size
        self._ink.imshow(
            pixels,
            cmap="gray",
            vmin=0,
            vmax=1,
            extent=(x, x + width, y + height, y),
            aspect="auto",
        )
        frame = Rectangle((x, y), width, height, fill=False, edgecolor=FRAME, linewidth=0.4)
        self._ink.add_patch(frame)

    def line(self, x: float, end: float, y: float, **line: Any) -> None:
        """A level line from x to `end`."""
        self._ink.plot([x, end], [y, y], clip_on=False, **line)

    def panel(self, x: float, y: float, width: float, height: float) -> Axes:
        """Axes for curves whose frame has its top left corner at (x, y)."""
        left = (x + self.left) / self.width
        bottom = 1 - (y + self.top + height) / self.height
        return self.figure.add_axes((left, bottom, width / self.width, height / self.height))


def fitted(shape: Sequence[int], width: float, height: float) -> tuple[float, float]:
    """The size in inches of an image of `shape` (H, W, …), as large as fits in width by height.

    Enlarged images take a whole number of printed pixels for each of their own: no pixel of the
    data looks larger than its neighbour.
    """
    rows, columns = shape[:2]
    scale = min(width / columns, height / rows) * DPI
    if scale >= 1.9:
        scale = np.floor(scale + 0.1)
    return max(1, round(columns * scale)) / DPI, max(1, round(rows * scale)) / DPI


def latent_name(index: int) -> str:
    """The name of a latent by its column in the codes, from z₀."""
    return "z" + str(index).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def number(value: float) -> str:
    """A number of nats for a label: two decimals, fewer when it is large."""
    value = float(round(value, 2)) + 0.0  # + 0.0: never "−0.00"
    size = abs(value)
    form = ".2f" if size < 100 else ",.1f" if size < 1e4 else ",.0f" if size < 1e6 else ".3g"
    return f"{value:{form}}".replace("-", "−")


def sigma_label(sigma: float) -> str:
    """A posterior standard deviation for a label: two digits that count, nothing below 0.001."""
    if sigma < 0.0005:
        return "<0.001"
    return f"{sigma:.2f}" if sigma >= 0.1 else f"{sigma:.3f}"


def plain(values: NDArray[np.float64]) -> list[str]:
    """Values of a latent or a factor for labels: three digits that count, and a true minus."""
    return [f"{value + 0.0:.3g}".replace("-", "−") for value in values]


def shortened(text: str, inches: float, points: float = LABEL) -> str:
    """`text`, or as much of its head as fits in `inches` with an ellipsis."""
    if text_width(text, points) <= inches:
        return text
    return text[: _longest_head(text, inches - text_width("…", points), points)] + "…"
