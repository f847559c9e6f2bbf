"""What the curves share: an increasing axis, round ticks, and lines named at their ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike, NDArray

from betavae_core.errors import UsageError
from betavae_core.figures.inputs import finite
from betavae_core.figures.page import DPI, LINE, SMALL

END_GAP = 0.16  # inches from the end of a line to its name


def increasing(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """`values` (T,) as floats: at least one, and increasing. Raises UsageError."""
    array = finite(name, values, (np.size(values),))
    if array.size == 0 or (np.diff(array) <= 0).any():
        raise UsageError(f"{name} must be at least one and increase, got another order or none")
    return array


def draw(axes: Axes, steps: NDArray[np.float64], curve: NDArray[np.float64], **line: Any) -> None:
    """One curve; a single point, which has no line, as a dot."""
    marker = "o" if len(steps) == 1 else ""
    axes.plot(steps, curve, marker=marker, markersize=3, clip_on=len(steps) > 1, **line)


def span(axes: Axes, steps: NDArray[np.float64], low: float, high: float) -> None:
    """The ranges of both axes, with plain round ticks; the lines end at the right edge."""
    alone = len(steps) == 1
    axes.set_xlim(steps[0] - 1 if alone else min(steps[0], 0.0), steps[-1])
    axes.set_ylim(low, high)
    round_ticks(axes.xaxis, 6, integer=bool((steps == np.round(steps)).all()))
    if alone:
        axes.xaxis.set_major_locator(FixedLocator([steps[0]]))
    round_ticks(axes.yaxis, 5)


def round_ticks(axis: Axis, most: int, *, integer: bool = False) -> None:
    """At most `most` intervals between round numbers, written plainly: 20k, −0.5."""
    axis.set_major_locator(MaxNLocator(most, integer=integer, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(_tick))


def _tick(value: float, _: int | None = None) -> str:
    for unit, sign in ((1e6, "M"), (1e3, "k")):
        if unit <= abs(value) < 1000 * unit:
            return f"{value / unit:.6g}{sign}".replace("-", "−")
    return f"{value:.6g}".replace("-", "−")


def name_ends(
    axes: Axes, ends: Sequence[float], names: Sequence[str], colors: Sequence[Any]
) -> None:
    """Name lines that end at heights `ends` on the right edge: names beside them, none overlapping.

    The names move apart as little as they must (least squares), and a thin line leads to each.
    """
    width, height = axes.bbox.width / DPI, axes.bbox.height / DPI
    low, high = axes.get_ylim()
    order = np.argsort(ends, kind="stable")
    targets = (np.clip(np.asarray(ends)[order], low, high) - low) / (high - low) * height
    places = spread(targets, LINE, 0.0, height)
    for n, target, place in zip(order, targets, places, strict=True):
        near, far = 1 + 0.02 / width, 1 + (END_GAP - 0.03) / width
        axes.plot(
            [near, far],
            [target / height, place / height],
            transform=axes.transAxes,
            color=colors[n],
            linewidth=0.4,
            clip_on=False,
        )
        x = 1 + END_GAP / width
        words = axes.text(x, place / height, names[n], transform=axes.transAxes, color=colors[n])
        words.set(size=SMALL, va="center_baseline", parse_math=False)


def spread(
    targets: NDArray[np.float64], gap: float, low: float, high: float
) -> NDArray[np.float64]:
    """Ascending `targets` moved at least `gap` apart, into [low, high], as little as possible.

    With the gaps taken out this is isotonic regression in the least-squares sense, which has the
    max-min formula of Robertson, Wright and Dykstra (1988), "Order Restricted Statistical
    Inference", theorem 1.4.4. Where the gaps need more than the room they overrun it below.
    """
    offsets = gap * np.arange(len(targets))
    slack = targets - offsets
    stops = range(1, len(targets) + 1)
    fitted = [
        max(min(slack[a:b].mean() for b in stops if b > i) for a in range(i + 1))
        for i in range(len(targets))
    ]
    top = high - offsets[-1]
    return np.clip(fitted, min(low, top), top) + offsets
