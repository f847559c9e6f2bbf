"""Sample pictures for the tests, and what can be read off a picture."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.text import Text

from betavae_core import figures


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape)


def traversal(latents: int, columns: int, *image: int, title: str = "t", **more: Any) -> Figure:
    kl = np.random.default_rng(1).exponential(1.0, latents)
    values = np.linspace(-3, 3, columns)
    cells = noise(latents, columns, *image)
    return figures.traversals(cells, kl, np.exp(-kl), values, title=title, **more)


def curves(steps: int, latents: int, active: int, **more: Any) -> Figure:
    final = np.where(np.arange(latents) < active, np.linspace(4, 1, latents), 0.0)
    rise = np.linspace(0, 1, steps)[:, None] if steps > 1 else np.ones((1, 1))
    return figures.kl_per_latent(np.arange(steps) * 500, rise * final, title="t", **more)


def images_of(figure: Figure) -> list[AxesImage]:
    """From the top row down, each row from the left."""
    found = [image for axes in figure.axes for image in axes.images]
    return sorted(found, key=lambda image: (image.get_extent()[3], image.get_extent()[0]))


def drawn_texts(figure: Figure) -> Iterator[Text]:
    """Every text that can be seen: the ticks beyond an axis' range are not drawn."""
    figure.canvas.draw()
    for axes in figure.axes:
        yield from (text for text in axes.texts if text.get_text())
        yield from _axis_texts(axes)


def _axis_texts(axes: Axes) -> Iterator[Text]:
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if low <= tick.get_loc() <= high and tick.label1.get_visible():
                yield tick.label1
        if axis.label.get_text():
            yield axis.label


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in drawn_texts(figure)]
