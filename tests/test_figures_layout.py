"""Pictures are legible: no text overlaps or is cut off, and all pixels are of one size."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from figure_reading import curves, drawn_texts, images_of, noise, traversal
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from betavae_core import figures
from betavae_core.figures.curves import spread
from betavae_core.figures.page import TEXT_HEIGHT, fitted, number, text_width, wrap

LONG = "shapes2d, test split: a title that goes on " * 4 + "and/a/path/with/no/space" * 9


def boxes(figure: Figure) -> dict[str, Bbox]:
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    texts = [text for text in drawn_texts(figure) if text.get_text()]
    return {f"{n}: {t.get_text()}": t.get_window_extent(renderer) for n, t in enumerate(texts)}


def assert_legible(figure: Figure) -> None:
    """No text overlaps another or an image, and each lies inside the figure."""
    named = boxes(figure)
    page = figure.bbox
    for name, box in named.items():
        inside = page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
        assert inside, f"{name} leaves the figure: {box}"
    pictures = {f"image {n}": i.get_window_extent() for n, i in enumerate(images_of(figure))}
    pairs = itertools.chain(
        itertools.combinations(named.items(), 2), itertools.product(named.items(), pictures.items())
    )
    for (one, a), (other, b) in pairs:
        width = min(a.x1, b.x1) - max(a.x0, b.x0)
        height = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert not (width > 0.5 and height > 0.5), f"{one} overlaps {other}"


LAYOUTS: dict[str, Callable[[], Figure]] = {
    "one pair": lambda: figures.reconstructions(noise(1, 28, 28), noise(1, 28, 28), title="t"),
    "colour pairs": lambda: figures.reconstructions(
        noise(13, 64, 64, 3), noise(13, 64, 64, 3), title=LONG
    ),
    "one latent": lambda: traversal(1, 11, 28, 28),
    "one latent, one value": lambda: traversal(1, 1, 28, 28, title=LONG),
    "ten latents": lambda: traversal(10, 11, 28, 28, base=noise(28, 28)),
    "twenty latents": lambda: traversal(20, 10, 28, 28, title=LONG),
    "32 latents, 64 x 64": lambda: traversal(32, 11, 64, 64),
    "64 latents, 8 x 8": lambda: traversal(64, 10, 8, 8, title=LONG),
    "128 x 128 in colour": lambda: traversal(6, 7, 128, 128, 3, base=noise(128, 128, 3)),
    "40 values": lambda: traversal(5, 40, 28, 28),
    "wide images": lambda: traversal(5, 8, 8, 64),
    "one step": lambda: curves(1, 10, 5),
    "two steps": lambda: curves(2, 10, 5),
    "2000 steps": lambda: curves(2000, 10, 5, capacity=np.minimum(np.arange(2000) / 900, 1) * 25),
    "total on its capacity": lambda: curves(50, 10, 1, capacity=np.linspace(0, 4, 50)),
    "all asleep": lambda: curves(100, 10, 0),
    "one latent awake": lambda: curves(100, 1, 1),
    "64 awake": lambda: curves(100, 64, 64),
    "training": lambda: figures.training(
        np.arange(300), 1e2 + noise(300), noise(300), -1e7 * noise(300), title=LONG
    ),
    "training of one step": lambda: figures.training([0], [543.2], [0], [543.2], title="t"),
    "sheet": lambda: figures.contact_sheet(noise(30, 28, 28), title=LONG),
    "labelled sheet": lambda: figures.contact_sheet(
        noise(30, 28, 28), title="t", captions=["shape heart\nscale 0.7\norientation 3.14"] * 30
    ),
    "sheet of long words": lambda: figures.contact_sheet(
        noise(5, 64, 64, 3), title="t", captions=["_".join(["name"] * 60)] * 5
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_overlaps_and_nothing_is_cut_off(layout: str) -> None:
    figure = LAYOUTS[layout]()
    assert_legible(figure)
    assert figure.get_figwidth() <= 6.55
    assert figure.get_figheight() <= TEXT_HEIGHT + 1.5  # a title of many lines is on top


def test_the_layout_check_sees_an_overlap_and_a_cut() -> None:
    figure = LAYOUTS["one latent"]()
    figure.text(0.05, 0.3, "z₀ and more")
    figure.axes[0].text(0, 0.5, "over the first label")
    with pytest.raises(AssertionError, match="overlaps"):
        assert_legible(figure)
    figure = LAYOUTS["one latent"]()
    figure.axes[0].text(-1, 0.5, "cut")
    with pytest.raises(AssertionError, match="leaves the figure"):
        assert_legible(figure)


@pytest.mark.parametrize("count", [1, 3, 12])
def test_spread_moves_names_apart_as_little_as_it_must(count: int) -> None:
    rng = np.random.default_rng(count)
    for _ in range(20):
        targets = np.sort(rng.random(count)) * 2
        places = spread(targets, 0.125, 0.0, 2.0)
        assert places[0] >= -1e-12
        assert places[-1] <= 2 + 1e-12
        assert (np.diff(places) >= 0.125 - 1e-12).all()
        for _ in range(50):  # no other allowed placement is nearer
            other = spread(np.sort(places + 0.05 * rng.normal(size=count)), 0.125, 0.0, 2.0)
            assert ((places - targets) ** 2).sum() <= ((other - targets) ** 2).sum() + 1e-12


@pytest.mark.parametrize("size", [8, 14, 28, 32, 64])
def test_enlarged_images_take_whole_printed_pixels(size: int) -> None:
    for room in np.linspace(0.2, 0.8, 13):
        width, height = fitted((size, size), room, 1.0)
        assert width == height <= 1.06 * room
        scale = width * 200 / size
        assert scale == pytest.approx(round(scale)) or scale < 1.9


@pytest.mark.parametrize("text", ["", "one", LONG, "x" * 500, "two words"])
def test_wrapped_lines_fit_and_lose_nothing(text: str) -> None:
    lines = wrap(text, 2.0, 8.5)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(text_width(line, 8.5) <= 2.0 for line in lines)


@pytest.mark.parametrize(
    ("value", "text"),
    [(2.414, "2.41"), (-0.0001, "0.00"), (-3.5, "−3.50"), (123.45, "123.5"), (12345.6, "12,346"),
     (3.2e7, "3.2e+07")],
)  # fmt: skip
def test_numbers_are_short_and_true(value: float, text: str) -> None:
    assert number(value) == text
