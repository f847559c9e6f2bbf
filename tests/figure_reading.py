"""Sample pictures for the tests, and what can be read off a picture."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.text import Text
from matplotlib.transforms import Bbox

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


def panel(name: str, latents: int, columns: int, *image: int, **more: Any) -> figures.Panel:
    kl = np.random.default_rng(len(name)).exponential(1.0, latents)
    cells, values = noise(latents, columns, *image), np.linspace(-3, 3, columns)
    return figures.Panel(name, cells, kl, np.exp(-kl), values, **more)


def clusters(count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (count, 2) about a centre for each class, and their labels."""
    rng = np.random.default_rng(2)
    labels = np.arange(count) % classes
    return 3 * rng.normal(size=(classes, 2))[labels] + rng.normal(size=(count, 2)) / 2, labels


def matrix(values: Any, **more: Any) -> Figure:
    rows, columns = np.shape(values)
    names = [f"r{n}" for n in range(rows)], [f"c{n}" for n in range(columns)]
    return figures.heatmap(values, *names, title="t", labels=("β", "z"), unit="score", **more)


def images_of(figure: Figure) -> list[AxesImage]:
    """Images laid out on the page, from the top row down, each row from the left."""
    found = list(figure.axes[0].images)
    return sorted(found, key=lambda image: (image.get_extent()[3], image.get_extent()[0]))


def drawn_texts(figure: Figure) -> Iterator[Text]:
    """Every text that can be seen: the ticks beyond an axis' range are not drawn."""
    figure.canvas.draw()
    for axes in figure.axes:
        yield from (text for text in axes.texts if text.get_text())
        yield from _axis_texts(axes)


def _axis_texts(axes: Axes) -> Iterator[Text]:
    for axis in (axis for axis in (axes.xaxis, axes.yaxis) if axis.get_visible()):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if low <= tick.get_loc() <= high:
                yield from (t for t in (tick.label1, tick.label2) if t.get_visible())
        if axis.label.get_text():
            yield axis.label


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in drawn_texts(figure)]


def boxes(figure: Figure) -> dict[str, Bbox]:
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    texts = [text for text in drawn_texts(figure) if text.get_text()]
    return {f"{n}: {t.get_text()}": t.get_window_extent(renderer) for n, t in enumerate(texts)}


def assert_legible(figure: Figure) -> None:
    """No text or image overlaps another, and each text lies inside the figure."""
    named = boxes(figure)
    page = figure.bbox
    for name, box in named.items():
        inside = page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
        assert inside, f"{name} leaves the figure: {box}"
    pictures = {f"image {n}": i.get_window_extent() for n, i in enumerate(images_of(figure))}
    pairs = itertools.combinations([*named.items(), *pictures.items()], 2)
    for (one, a), (other, b) in pairs:
        width = min(a.x1, b.x1) - max(a.x0, b.x0)
        height = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert not (width > 0.5 and height > 0.5), f"{one} overlaps {other}"


def luminance(color: Any) -> float:
    """Relative luminance of an sRGB colour (WCAG 2.1)."""
    c = np.asarray(to_rgb(color))
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def lightness(color: Any) -> float:
    """CIE L*, from 0 to 100: even steps look even."""
    y = luminance(color)
    return 116 * y ** (1 / 3) - 16 if y > 0.008856 else 903.3 * y
