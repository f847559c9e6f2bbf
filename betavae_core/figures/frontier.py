"""Reconstruction against disentanglement, every model of a sweep a point: which setting to take.

Better is up and left: a setting that has another one there is not worth its price.
A setting is told by colour and by marker, so the picture reads without colour too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from betavae_core.errors import UsageError
from betavae_core.figures.curves import round_ticks
from betavae_core.figures.inputs import finite
from betavae_core.figures.page import (
    DPI,
    INK,
    LINE,
    QUIET,
    SMALL,
    TEXT_WIDTH,
    Page,
    shortened,
    styled,
    text_width,
)
from betavae_core.figures.palette import class_style

Floats = NDArray[np.float64]
Look = dict[str, Any]

LEFT, BELOW, HEIGHT = 0.5, 0.36, 3.2  # inches for the axes
LEGEND_GAP, KEY, WIDEST_NAME = 0.14, 0.22, 1.4  # inches: before the legend, its marks, its words
DASH = 0.16
AROUND = 0.07  # of the range of the points: free on every side
XLABEL = "reconstruction: recon_nll (nats an image, lower is better)"
POINT: Look = {
    "linestyle": "none",
    "markersize": 4.0,
    "markeredgecolor": "white",
    "markeredgewidth": 0.3,
    "zorder": 3,
}
MEDIAN: Look = {"markersize": 6.5, "markerfacecolor": "white", "markeredgewidth": 1.1}
CIRCLE: Look = {"marker": "o", **MEDIAN, "markersize": 4.5, "color": "0.4"}
JOIN: Look = {"color": QUIET, "linewidth": 0.8, "zorder": 1}
RING: Look = {
    "marker": "o",
    "linestyle": "none",
    "markersize": 13.0,
    "markerfacecolor": "none",
    "markeredgecolor": INK,
    "markeredgewidth": 1.0,
    "zorder": 4,
}


@styled
def frontier(
    recon_nll: Any,
    score: Any,
    setting: Any,
    names: Sequence[str],
    *,
    ylabel: str,
    title: str,
    recommended: int | None = None,
) -> Figure:
    """Models as points, the medians of their settings joined in the order of `names`.

    recon_nll    (M,) nats an image
    score        (M,) what the models are ranked by, which `ylabel` names
    setting      (M,) the setting of each model, an index into `names`, each of which occurs
    recommended  the index of the model to ring, if there is one

    Raises UsageError when shapes disagree or there is no model.
    """
    points = _points(recon_nll, score)
    groups = _groups(points, setting, names)
    lone = len(points) == len(names)  # the median of one model is that model
    styles = class_style(len(names))
    looks: list[Look] = [{"marker": marker, "color": color} for color, marker in styles]
    legend = _legend(names, looks, lone=lone, ring=recommended is not None)
    axes = _axes(points, [name for name, _ in legend], ylabel, title)
    axes.plot(*np.array([np.median(group, axis=0) for group in groups]).T, **JOIN)
    for group, look in zip(groups, looks, strict=True):
        axes.plot(*group.T, **(POINT | look))
        if not lone:
            axes.plot(*np.median(group, axis=0), zorder=2, **(look | MEDIAN))
    if recommended is not None:
        axes.plot(*points[recommended], **RING)
    for row, (name, look) in enumerate(legend):
        _draw_key(axes, row, name, look)
    return cast(Figure, axes.figure)


def _legend(
    names: Sequence[str], looks: Sequence[Look], *, lone: bool, ring: bool
) -> list[tuple[str, Look]]:
    """What stands beside the axes: words, and how the mark before them looks."""
    shown = [shortened(name, WIDEST_NAME, SMALL) for name in names]
    legend = [(name, POINT | look) for name, look in zip(shown, looks, strict=True)]
    legend.append(("joined in this order", JOIN) if lone else ("median over seeds", JOIN | CIRCLE))
    return [*legend, ("recommended", RING | {"markersize": 8.0})] if ring else legend


def _points(recon_nll: Any, score: Any) -> Floats:
    """(M, 2), at least one."""
    count = np.size(recon_nll)
    if not count:
        raise UsageError("recon_nll must be of at least one model, got none")
    columns = finite("recon_nll", recon_nll, (count,)), finite("score", score, (count,))
    return np.stack(columns, axis=1)


def _groups(points: Floats, setting: Any, names: Sequence[str]) -> list[Floats]:
    """The points of each setting."""
    indices = np.asarray(setting)
    if indices.shape != (len(points),) or set(indices.tolist()) != set(range(len(names))):
        raise UsageError(
            f"setting must be ({len(points)},) indices of all {len(names)} names, got {setting}"
        )
    return [points[indices == n] for n in range(len(names))]


def _axes(points: Floats, legend: Sequence[str], ylabel: str, title: str) -> Axes:
    """Axes around the points, with room for the legend at the right."""
    beside = LEGEND_GAP + KEY + max(text_width(name, SMALL) for name in legend)
    width, height = TEXT_WIDTH - LEFT - beside, max(HEIGHT, LINE * len(legend))
    axes = Page(TEXT_WIDTH, height + BELOW, title).panel(LEFT, 0, width, height)
    low, high = points.min(0), points.max(0)
    margin = AROUND * np.where(high > low, high - low, np.maximum(np.abs(high), 1e-3))
    (left, bottom), (right, top) = low - margin, high + margin
    axes.set(xlim=(left, right), ylim=(bottom, top), xlabel=XLABEL, ylabel=ylabel)
    for axis in (axes.xaxis, axes.yaxis):
        round_ticks(axis, 7)
    axes.yaxis.set_label_coords(-(LEFT - 0.07) / width, 0.5)
    return axes


def _draw_key(axes: Axes, row: int, name: str, look: Look) -> None:
    """A line of the legend: a marker or a dash, and what it stands for."""
    width, height = axes.bbox.width / DPI, axes.bbox.height / DPI
    left, y = 1 + LEGEND_GAP / width, 1 - (row + 0.5) * LINE / height
    dash = left + np.array([0, DASH / 2, DASH]) / width  # a mark stands in its middle
    whole: Look = {"transform": axes.transAxes, "clip_on": False}
    axes.plot(dash, [y] * 3, markevery=[1], **whole, **look)
    words = axes.text(left + KEY / width, y, name, size=SMALL, va="center_baseline", **whole)
    words.set_parse_math(False)
