"""Pictures of what a decoder makes: each image in its place, and animations that loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from figure_reading import images_of, noise, panel, words
from matplotlib.figure import Figure
from PIL import Image

from betavae_core import figures
from betavae_core.errors import UsageError
from betavae_core.figures import saving
from betavae_core.figures.palette import shade


def assert_shows(figure: Figure, expected: list[np.ndarray]) -> None:
    """The figure holds these images and no others, row by row from the left."""
    shown = images_of(figure)
    assert len(shown) == len(expected)
    for image, pixels in zip(shown, expected, strict=True):
        np.testing.assert_array_equal(image.get_array(), pixels)


def test_interpolations_stand_between_their_originals() -> None:
    steps, ends = noise(2, 5, 28, 28), 1 - noise(2, 2, 28, 28)
    figure = figures.interpolation(steps, ends, title="t")
    assert_shows(figure, [i for r in range(2) for i in (ends[r, 0], *steps[r], ends[r, 1])])
    assert words(figure) == ["t", "t = 0", "0.25", "0.5", "0.75", "1", "input", "input"]


def test_originals_are_set_apart_from_the_steps() -> None:
    figure = figures.interpolation(noise(1, 3, 28, 28), noise(1, 2, 28, 28), title="t")
    edges = np.array([image.get_extent()[:2] for image in images_of(figure)])
    gaps = edges[1:, 0] - edges[:-1, 1]
    assert gaps[[0, -1]].min() > 2 * gaps[1:-1].max()


def test_beyond_twenty_rows_of_interpolation_the_title_says_so() -> None:
    figure = figures.interpolation(noise(21, 2, 8, 8), title="t")
    assert len(images_of(figure)) == 40
    assert words(figure)[0] == "t (the first 20 of 21)"


def test_a_hundred_samples_are_ten_by_ten() -> None:
    samples = noise(100, 28, 28)
    figure = figures.samples(samples, title="t")
    assert_shows(figure, list(samples))
    extents = [image.get_extent() for image in images_of(figure)]
    assert len({e[0] for e in extents}) == len({e[2] for e in extents}) == 10


def test_beyond_400_samples_the_title_says_so() -> None:
    figure = figures.samples(noise(401, 2, 2), title="t")
    assert len(images_of(figure)) == 400
    assert words(figure) == ["t (the first 400 of 401)"]


def test_the_manifold_has_z1_upwards_and_z0_to_the_right() -> None:
    cells = noise(3, 3, 4, 6)
    figure = figures.manifold(cells, title="t")
    [mosaic] = images_of(figure)
    pixels = np.asarray(mosaic.get_array())
    np.testing.assert_array_equal(pixels[-4:, :6], cells[0, 0])
    np.testing.assert_array_equal(pixels[-4:, -6:], cells[0, 2])
    np.testing.assert_array_equal(pixels[:4, :6], cells[2, 0])


def test_the_values_of_the_manifold_stand_at_the_middle_of_its_images() -> None:
    figure = figures.manifold(noise(5, 5, 28, 28), -2, 2, title="t")
    [mosaic], axes = images_of(figure), figure.axes[1]
    box = mosaic.get_window_extent()
    for n, value in enumerate((-2, -1, 0, 1, 2)):
        x, y = axes.transData.transform((value, value))
        assert x == pytest.approx(box.x0 + (n + 0.5) / 5 * box.width, abs=1)
        assert y == pytest.approx(box.y0 + (n + 0.5) / 5 * box.height, abs=1)
    assert {"−2", "−1", "0", "1", "2", "z₀", "z₁"} <= set(words(figure))


def test_models_stand_side_by_side_each_with_its_latents_by_kl() -> None:
    cells, originals = noise(2, 2, 8, 8), noise(3, 8, 8) / 2
    one = figures.Panel("β = 1", cells, [3.0, 0.05], [0.1, 0.99], [-3, 3])
    other = figures.Panel("β = 4", 1 - cells, [0.5, 2.0], [0.6, 0.2], [-3, 3])
    pairs = {"originals": originals, "reconstructions": 1 - originals}
    both = [figures.Panel(**{**vars(p), **pairs}) for p in (one, other)]
    figure = figures.side_by_side(both, title="t")
    rows = [originals[:2], originals[:2], 1 - originals[:2], 1 - originals[:2]]
    rows += [cells[0], 1 - cells[1], cells[1], 1 - cells[0]]
    assert_shows(figure, [image for row in rows for image in row])
    named = words(figure)
    assert named.index("3.00 nats") < named.index("0.05 nats") < named.index("β = 4")
    assert named[named.index("β = 4") :][-6:] == [
        "z₁", "2.00 nats", "σ 0.20",
        "z₀", "0.50 nats", "σ 0.60",
    ]  # fmt: skip


def test_maps_beside_traversals_share_one_scale() -> None:
    maps = np.array([np.full((4, 4), 0.5), np.full((4, 4), -2.0)])
    pair = [panel(name, 2, 1, 8, 8, maps=factor * maps) for name, factor in (("a", 1), ("b", 2))]
    figure = figures.side_by_side(pair, title="t")
    drawn = [image.get_array() for image in images_of(figure) if image.get_array().shape[0] == 4]
    expected = shade(np.array([-4.0, -2.0, 0.5, 1.0]), -4, 4)  # by value, dark to light
    colors = sorted((np.asarray(pixels)[0, 0] for pixels in drawn), key=lambda c: float(c[1]))
    np.testing.assert_array_equal(colors, expected)
    assert "mean code over position (x →, y ↓)" in words(figure)


def frames(latents: int = 3, *image: int) -> list[Figure]:
    cells = noise(latents, 4, *(image or (8, 8)))
    return figures.traversal_frames(cells, np.arange(latents), [-3, -1, 1, 3], title="t")


def test_an_animation_goes_there_and_back_without_a_jump() -> None:
    cells = noise(3, 4, 8, 8)
    pages = figures.traversal_frames(cells, [0, 2, 1], [-3, -1, 1, 3], title="t")
    assert len(pages) == 6
    for page, step in zip(pages, (0, 1, 2, 3, 2, 1), strict=True):
        assert_shows(page, list(cells[[1, 2, 0], step]))
    assert "one latent at a time at −1; its KL in nats" in words(pages[1])
    assert words(pages[0])[2:] == ["z₁  2.00", "z₂  1.00", "z₀  0.00"]


def test_a_grey_animation_keeps_every_grey_and_repeats_for_ever(tmp_path: Path) -> None:
    pages = frames()
    with Image.open(figures.animate(pages, tmp_path / "new" / "a.gif", milliseconds=80)) as gif:
        assert (gif.n_frames, gif.info["loop"], gif.info["duration"]) == (6, 0, 80)
        for n, page in enumerate(pages):
            gif.seek(n)
            page.canvas.draw()
            drawn = np.asarray(page.canvas.buffer_rgba())[..., :3]  # type: ignore[attr-defined]
            np.testing.assert_array_equal(np.asarray(gif.convert("RGB")), drawn)


def test_what_does_not_move_does_not_flicker_in_colour(tmp_path: Path) -> None:
    still = np.repeat(noise(1, 1, 24, 24, 3), 3, axis=1)  # more colours than a GIF has
    moving = noise(1, 3, 24, 24, 3)
    pages = figures.traversal_frames(np.concatenate([still, moving]), [2, 1], [-3, 0, 3], title="t")
    box = images_of(pages[0])[0].get_window_extent()
    with Image.open(figures.animate(pages, tmp_path / "a.gif")) as gif:
        shown = []
        for n in range(gif.n_frames):
            gif.seek(n)
            whole = np.asarray(gif.convert("RGB"))
            top = len(whole) - int(box.y1)
            assert whole[0, 0].tolist() == [255, 255, 255]  # the paper stays white
            shown.append(whole[top + 2 : top + 100, int(box.x0) + 2 : int(box.x1) - 2])
    assert len(shown) == 4
    assert all((pixels == shown[0]).all() for pixels in shown)


def test_an_animation_drawn_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    paths = [figures.animate(frames(2, 8, 8, 3), tmp_path / f"{n}.gif") for n in range(2)]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_failed_animation_keeps_the_old_file_and_leaves_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.gif"
    path.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(saving.os, "fsync", full)
    with pytest.raises(UsageError, match="cannot be written: no space"):
        figures.animate(frames(), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


BAD: dict[str, tuple[str, Callable[[], object]]] = {
    "rows of nothing": (
        r"images must be \(R, n, H, W",
        lambda: figures.interpolation(noise(2, 0, 8, 8), title="t"),
    ),
    "ends of other rows": (
        r"ends must be two images a row, \(2, 2, 8, 8\)",
        lambda: figures.interpolation(noise(2, 3, 8, 8), noise(3, 2, 8, 8), title="t"),
    ),
    "a flat sample": ("images must be", lambda: figures.samples(noise(8, 8), title="t")),
    "an oblong grid": (
        "as many rows as columns",
        lambda: figures.manifold(noise(3, 4, 8, 8), title="t"),
    ),
    "a range that turns back": (
        "low must be less than high",
        lambda: figures.manifold(noise(3, 3, 8, 8), 4, -4, title="t"),
    ),
    "no panels": ("panels must be 1 to 4, got 0", lambda: figures.side_by_side([], title="t")),
    "images of two sizes": (
        "images of one shape",
        lambda: figures.side_by_side([panel("a", 2, 2, 8, 8), panel("b", 2, 2, 9, 9)], title="t"),
    ),
    "originals alone": (
        "'a' must have both",
        lambda: figures.side_by_side([panel("a", 2, 2, 8, 8, originals=noise(2, 8, 8))], title="t"),
    ),
    "maps of other latents": (
        r"maps of 'a' must be \(2, ny, nx\)",
        lambda: figures.side_by_side([panel("a", 2, 2, 8, 8, maps=noise(3, 8, 8))], title="t"),
    ),
    "frames of other values": (
        "values must have the shape",
        lambda: figures.traversal_frames(noise(2, 3, 8, 8), [1, 2], [1, 2], title="t"),
    ),
    "no frames": ("at least one, got 0", lambda: figures.animate([], "a.gif")),
    "frames of two sizes": (
        "of one size",
        lambda: figures.animate([frames(1)[0], frames(5)[0]], "a.gif"),
    ),
    "a film": ("must end in .gif, got 'a.mp4'", lambda: figures.animate(frames(1), "a.mp4")),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_shape_is_named(case: str) -> None:
    message, draw = BAD[case]
    with pytest.raises(UsageError, match=message):
        draw()
