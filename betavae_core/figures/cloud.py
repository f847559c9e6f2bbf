"""Clouds of points on a plane, coloured by class: codes of two latents, or reduced to two axes.

A class is told by colour, by marker and, where there is room, by its name at its median, so the
picture reads without colour too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from numpy.typing import NDArray

from betavae_core.errors import UsageError
from betavae_core.figures.curves import round_ticks
from betavae_core.figures.inputs import finite
from betavae_core.figures.page import (
    INK,
    LINE,
    QUIET,
    SMALL,
    TEXT_WIDTH,
    TITLE,
    Page,
    shortened,
    styled,
    text_width,
)
from betavae_core.figures.palette import class_style

MOST_CLASSES = 26
SIDE = 4.4  # inches: the side of the square of points
LEFT, BELOW = 0.5, 0.36  # inches for the axes
LEGEND_GAP, KEY = 0.12, 0.16  # inches: before the legend, and for the marker in it
WIDEST_NAME = TEXT_WIDTH - SIDE - LEFT - LEGEND_GAP - KEY
FAR = 0.005  # the share of codes on either side that may lie far out
ROUNDS = 10  # the classes are drawn in turns, so that none covers the others
SHORT_NAME = 0.6  # inches: longer names stand in the legend only
PRIOR_RADII = (1, 2, 3)
PRIOR_KEY = "|z| = 1, 2, 3"
PRIOR_LINE: dict[str, Any] = {"color": QUIET, "linewidth": 0.6, "linestyle": (0, (3, 2))}
METHODS = {
    "pca": ("principal component 1", "principal component 2"),
    "tsne": ("t-SNE axis 1 (no unit)", "t-SNE axis 2 (no unit)"),
}


@styled
def scatter(
    codes: Any,
    labels: Any = None,
    names: Sequence[str] = (),
    *,
    title: str,
    axes: tuple[str, str] = ("z₀", "z₁"),
    prior: bool = False,
) -> Figure:
    """Codes of two latents as points, both axes on one scale.

    codes   (N, 2)
    labels  (N,), optional: the class of each code, integers, at most 26 different ones
    names   the name of label k is names[k]; without names a class goes by its number
    prior   draw the circles |z| = 1, 2, 3, within which 39, 86 and 99 % of N(0, I) lies, and
            reach to them at least, so that codes that have collapsed look it

    Where fewer than two in a hundred codes lie far outside the rest the picture is of the rest, and
    the title counts them; codes that are strung out are shown to their full range. Raises
    UsageError for other shapes, and for labels that have no name.
    """
    points = _points("codes", codes)
    return _cloud(points, *_classes(labels, names, len(points)), axes, title, prior=prior)


@styled
def embedding(
    points: Any, labels: Any = None, names: Sequence[str] = (), *, title: str, method: str
) -> Figure:
    """The points (N, 2) that `reduce` made of codes by `method`, drawn as in `scatter`."""
    if method not in METHODS:
        raise UsageError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    points = _points("points", points)
    classes = _classes(labels, names, len(points))
    return _cloud(points, *classes, METHODS[method], title, prior=False)


def _points(name: str, points: Any) -> NDArray[np.float64]:
    shape = np.shape(points)
    if len(shape) != 2 or shape[1] != 2 or shape[0] == 0:
        raise UsageError(f"{name} must be (N, 2) with N >= 1, got {shape}")
    return finite(name, points, shape)


def _classes(labels: Any, names: Sequence[str], count: int) -> tuple[NDArray[np.intp], list[str]]:
    """The class of each point, counted from 0, and the names of the classes that there are."""
    if labels is None:
        return np.zeros(count, np.intp), []
    labels = np.asarray(labels)
    if labels.shape != (count,) or labels.dtype.kind not in "biu":
        raise UsageError(f"labels must be ({count},) integers, got {labels.shape} {labels.dtype}")
    present, classes = np.unique(labels, return_inverse=True)
    if len(present) > MOST_CLASSES:
        raise UsageError(
            f"labels must be of at most {MOST_CLASSES} classes, got {len(present)}; "
            "leave some classes out, or the labels"
        )
    if len(names) and not 0 <= present[0] <= present[-1] < len(names):
        raise UsageError(f"labels must be below {len(names)}, the number of names, got {present}")
    return classes, [str(names[label]) if len(names) else str(label) for label in present]


def _cloud(
    points: NDArray[np.float64],
    classes: NDArray[np.intp],
    names: list[str],
    axis_names: tuple[str, str],
    title: str,
    *,
    prior: bool,
) -> Figure:
    (centre, half), outside = _window(points, PRIOR_RADII[-1] if prior else 0.0)
    if outside:
        title = f"{title} ({outside:,} of {len(points):,} codes lie outside)"
    legend = [shortened(name, WIDEST_NAME, SMALL) for name in names]
    keys = [*legend, PRIOR_KEY] if prior else legend
    beside = LEGEND_GAP + KEY + max(map(_width, keys)) if keys else 0.0
    page = Page(LEFT + SIDE + beside, SIDE + BELOW, title)
    axes = page.panel(LEFT, 0, SIDE, SIDE)
    axes.set(xlim=(centre[0] - half, centre[0] + half), ylim=(centre[1] - half, centre[1] + half))
    axes.set(xlabel=axis_names[0], ylabel=axis_names[1])
    for axis in (axes.xaxis, axes.yaxis):
        round_ticks(axis, 8)
    axes.yaxis.set_label_coords(-(LEFT - 0.07) / SIDE, 0.5)
    styles = class_style(len(names)) if names else [(INK, "o")]
    _draw_points(axes, points, classes, styles)
    _name_medians(axes, points, classes, legend)
    for row, (name, (color, marker)) in enumerate(zip(legend, styles, strict=False)):
        _draw_key(axes, row, name, marker=marker, color=color)
    if prior:
        for radius in PRIOR_RADII:
            axes.add_patch(Circle((0, 0), radius, fill=False, zorder=3, **PRIOR_LINE))
        _draw_key(axes, len(legend), PRIOR_KEY, **PRIOR_LINE)
    return page.figure


def _width(name: str) -> float:
    return text_width(name, SMALL)


def _window(
    points: NDArray[np.float64], radius: float
) -> tuple[tuple[NDArray[np.float64], float], int]:
    """The centre and half the side of the square to show, and how many points lie outside it.

    The middle 99 % of each axis, widened by half its width on both sides, holds all but outliers.
    The square holds the circle of `radius` about 0 too: codes that have collapsed then look it.
    """
    low, high = np.quantile(points, [FAR, 1 - FAR], axis=0)
    margin = 0.5 * (high - low)
    near = ((points >= low - margin) & (points <= high + margin)).all(axis=1)
    shown = points[near]
    low, high = np.minimum(shown.min(axis=0), -radius), np.maximum(shown.max(axis=0), radius)
    half = 0.52 * float((high - low).max()) or 1.0
    centre = (low + high) / 2
    outside = (np.abs(points - centre) > half).any(axis=1)
    return (centre, half), int(outside.sum())


def _draw_points(
    axes: Axes,
    points: NDArray[np.float64],
    classes: NDArray[np.intp],
    styles: list[tuple[str, str]],
) -> None:
    """In turns, a part of every class each: the last class would else cover the others."""
    area = float(np.clip(9 * (1000 / len(points)) ** 0.4, 2.5, 16))
    for turn in range(ROUNDS):
        for label, (color, marker) in enumerate(styles):
            x, y = points[classes == label][turn::ROUNDS].T
            axes.scatter(x, y, s=area, c=color, marker=marker, edgecolors="white", linewidths=0.2)


def _name_medians(
    axes: Axes, points: NDArray[np.float64], classes: NDArray[np.intp], names: list[str]
) -> None:
    """Short names at the median of their classes, unless one would touch another's."""
    scale = SIDE / np.ptp(axes.get_xlim())
    middles = [np.median(points[classes == n], axis=0) for n in range(len(names))]
    places = (np.reshape(middles, (-1, 2)) - [axes.get_xlim()[0], axes.get_ylim()[0]]) * scale
    sizes = np.array([[text_width(name, TITLE) / 2 + 0.06, 0.7 * LINE] for name in names])
    sizes = sizes.reshape(-1, 2)
    touching = (np.abs(places[:, None] - places) < sizes[:, None] + sizes).all(axis=2).sum(axis=1)
    inside = ((places > sizes) & (places < SIDE - sizes)).all(axis=1)
    short = sizes[:, 0] < SHORT_NAME / 2
    for n in np.flatnonzero((touching == 1) & inside & short):
        x, y = places[n] / SIDE
        words = axes.text(x, y, names[n], transform=axes.transAxes, zorder=4)
        words.set(size=TITLE, weight="bold", ha="center", va="center", parse_math=False)
        words.set_bbox({"boxstyle": "round,pad=0.12", "fc": "white", "alpha": 0.8, "lw": 0})


def _draw_key(axes: Axes, row: int, name: str, **look: Any) -> None:
    """A line of the legend: a marker or a dash, and what it stands for."""
    x, y = 1 + LEGEND_GAP / SIDE, 1 - (row + 0.5) * LINE / SIDE
    whole: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False}
    ends = [x - 0.02 / SIDE, x + 0.1 / SIDE] if "marker" not in look else [x + 0.04 / SIDE]
    axes.plot(ends, [y] * len(ends), markersize=4, markeredgewidth=0, **whole, **look)
    words = axes.text(x + KEY / SIDE, y, name, size=SMALL, va="center_baseline", **whole)
    words.set_parse_math(False)
