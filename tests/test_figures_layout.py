"""Pictures are legible: no text overlaps or is cut off, and all pixels are of one size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from figure_reading import assert_legible, clusters, curves, noise, panel, traversal
from matplotlib.figure import Figure

from betavae_core import figures
from betavae_core.figures.curves import spread
from betavae_core.figures.page import TEXT_HEIGHT, fitted, number, text_width, wrap

LONG = "shapes2d, test split: a title that goes on " * 4 + "and/a/path/with/no/space" * 9


LETTERS = "abcdefghijklmnopqrstuvwxyz"


def heat(rows: int, columns: int, *, name: str = "z", title: str = "t") -> Figure:
    return figures.heatmap(
        noise(rows, columns),
        [f"{name} {n}" for n in range(rows)],
        [f"{name} {n}" for n in range(columns)],
        title=title,
        labels=("β_norm", "number of latents"),
        unit="disentanglement score (accuracy)",
    )


def answers(latents: int, classes: int, factors: int, **more: Any) -> Figure:
    curves = {
        f"factor {n} (unit)": (np.linspace(0, 6, 40), 6 * noise(latents, classes, 40) - 3)
        for n in range(factors)
    }
    maps = more.get("maps", noise(latents, 32, 32))
    names = ("square", "ellipse", "heart") if classes > 1 else ()
    return figures.factors(maps, curves, 3 * noise(latents), title="t", names=names)


def frames(latents: int, *image: int) -> list[Figure]:
    cells = noise(latents, 3, *image)
    return figures.traversal_frames(cells, 9 * noise(latents), [-3, 0, 3], title=LONG)


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
    "interpolation, 16 steps": lambda: figures.interpolation(
        noise(8, 16, 28, 28), noise(8, 2, 28, 28), title=LONG
    ),
    "interpolation in colour": lambda: figures.interpolation(noise(20, 4, 64, 64, 3), title="t"),
    "one step of interpolation": lambda: figures.interpolation(
        noise(1, 1, 8, 8), noise(1, 2, 8, 8), title="t"
    ),
    "hundred samples": lambda: figures.samples(noise(100, 28, 28), title=LONG),
    "one sample": lambda: figures.samples(noise(1, 64, 64, 3), title="t"),
    "manifold": lambda: figures.manifold(noise(20, 20, 28, 28), title=LONG),
    "manifold of one": lambda: figures.manifold(noise(1, 1, 28, 28), -1e-3, 1e-3, title="t"),
    "manifold in colour": lambda: figures.manifold(noise(9, 9, 64, 64, 3), -200, 200, title="t"),
    "two classes": lambda: figures.scatter(*clusters(500, 2), "az", title=LONG, prior=True),
    "26 classes": lambda: figures.scatter(*clusters(2000, 26), LETTERS, title="t", prior=True),
    "26 classes in one place": lambda: figures.scatter(
        1e-9 * noise(260, 2), np.arange(260) % 26, LETTERS, title="t"
    ),
    "classes of long names": lambda: figures.scatter(*clusters(90, 3), [LONG] * 3, title="t"),
    "no classes": lambda: figures.scatter(1e5 * clusters(90, 3)[0], title="t"),
    "one code": lambda: figures.scatter([[0.1, -0.3]], [7], title="t"),
    "embedding": lambda: figures.embedding(*clusters(500, 10), title=LONG, method="tsne"),
    "against capacity": lambda: figures.kl_over(
        np.linspace(0, 25, 50), noise(50, 10), xlabel="capacity C (nats)", title="t"
    ),
    "matrix": lambda: heat(6, 9),
    "matrix of one": lambda: heat(1, 1, title=LONG),
    "matrix of many latents": lambda: heat(10, 32),
    "matrix of long names": lambda: heat(3, 4, name=LONG),
    "large matrix": lambda: heat(40, 40),
    "maps": lambda: figures.factors(noise(10, 32, 32), {}, noise(10), title=LONG),
    "one map": lambda: figures.factors(noise(1, 8, 8), {}, noise(1), title="t"),
    "factors": lambda: answers(10, 3, 2),
    "one factor of three shapes": lambda: answers(2, 3, 1, maps=None),
    "factors of 32 latents": lambda: answers(33, 1, 1),
    "factors of 12 latents, six curves": lambda: answers(12, 3, 6),
    "factors without position": lambda: answers(5, 3, 4, maps=None),
    "blobs": lambda: figures.side_by_side(
        [
            panel(
                name,
                6,
                7,
                64,
                64,
                originals=noise(9, 64, 64),
                reconstructions=noise(9, 64, 64),
                maps=noise(6, 16, 16),
            )
            for name in ("β = 1", "β = 150")
        ],
        title=LONG,
    ),
    "32 latents beside ten": lambda: figures.side_by_side(
        [panel("β-VAE", 32, 9, 64, 64, 3), panel("VAE", 10, 9, 64, 64, 3)], title="t"
    ),
    "four models of long names": lambda: figures.side_by_side(
        [panel(LONG, 2, 7, 28, 28) for _ in range(4)], title="t"
    ),
    "one model, one latent": lambda: figures.side_by_side([panel("", 1, 1, 8, 8)], title="t"),
    "frame": lambda: frames(10, 28, 28)[0],
    "frame of 32 latents": lambda: frames(33, 64, 64, 3)[1],
    "frame of one latent": lambda: frames(1, 64, 64)[0],
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
