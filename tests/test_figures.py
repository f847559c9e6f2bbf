"""Pictures hold what they were given: order, labels, greys, errors; and saved files are whole."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from figure_reading import curves, drawn_texts, images_of, noise, traversal, words
from matplotlib.figure import Figure

from betavae_core import figures
from betavae_core.errors import UsageError
from betavae_core.figures import saving


def test_inputs_stand_above_their_reconstructions() -> None:
    originals, outputs = noise(13, 28, 28), 1 - noise(13, 28, 28)
    figure = figures.reconstructions(originals, outputs, title="t")
    shown = images_of(figure)
    expected = [*originals[:10], *outputs[:10], *originals[10:], *outputs[10:]]
    assert len(shown) == len(expected)
    for image, pixels in zip(shown, expected, strict=True):
        np.testing.assert_array_equal(image.get_array(), pixels)
    assert words(figure).count("input") == words(figure).count("reconstruction") == 2


def test_beyond_forty_pairs_the_title_says_how_many_are_shown() -> None:
    figure = figures.reconstructions(noise(41, 8, 8), noise(41, 8, 8), title="t")
    assert len(images_of(figure)) == 80
    assert words(figure)[0] == "t (the first 40 of 41)"


def test_traversal_rows_are_sorted_by_kl() -> None:
    cells = noise(4, 3, 28, 28)
    figure = figures.traversals(
        cells, [0.02, 2.41, 0.3, 17.0], [0.98, 0.09, 0.6, 0.0001], [-3, 0, 3], title="t"
    )
    for image, pixels in zip(
        images_of(figure), cells[[3, 1, 2, 0]].reshape(-1, 28, 28), strict=True
    ):
        np.testing.assert_array_equal(image.get_array(), pixels)
    margin = [text for text in words(figure) if text not in ("latent", "KL (nats)", "σ")]
    assert margin == [
        "t", "−3", "0", "3",
        "z₃", "17.00", "<0.001",
        "z₁", "2.41", "0.090",
        "z₂", "0.30", "0.60",
        "z₀", "0.02", "0.98",
    ]  # fmt: skip


def test_equal_kl_keeps_the_order_of_the_latents() -> None:
    figure = figures.traversals(noise(3, 2, 8, 8), np.zeros(3), np.ones(3), [-1, 1], title="t")
    assert [w for w in words(figure) if w.startswith("z")] == ["z₀", "z₁", "z₂"]


def test_inactive_latents_are_labelled_in_lighter_text() -> None:
    kl = [0.1, 0.0999]
    figure = figures.traversals(noise(2, 2, 8, 8), kl, [0.9, 0.9], [-1, 1], title="t")
    greys = {t.get_text(): float(str(t.get_color())) for t in drawn_texts(figure)}
    assert greys["z₁"] > greys["z₀"] + 0.4


def test_of_64_latents_the_32_with_the_highest_kl_are_shown() -> None:
    figure = figures.traversals(
        noise(64, 2, 8, 8), np.arange(64.0), np.ones(64), [-1, 1], title="t"
    )
    names = [w for w in words(figure) if w.startswith("z")]
    assert (len(names), names[0], names[-1]) == (32, "z₆₃", "z₃₂")
    assert "the 32 of 64 latents with the highest KL" in " ".join(words(figure)[:2])


def test_crowded_values_keep_both_ends_and_the_middle() -> None:
    shown = [w for w in words(traversal(5, 41, 28, 28)) if w in ("−3", "0", "3")]
    assert shown == ["−3", "0", "3"]


def test_grey_is_never_rescaled() -> None:
    dim = np.full((2, 28, 28), 0.4)
    dim[0, 0, 0] = 0.5
    figure = figures.reconstructions(dim, dim, title="t")
    assert {image.get_clim() for image in images_of(figure)} == {(0, 1)}
    figure.canvas.draw()
    page = np.asarray(figure.canvas.buffer_rgba())  # type: ignore[attr-defined]
    box = images_of(figure)[1].get_window_extent()
    middle = page[len(page) - int((box.y0 + box.y1) / 2), int((box.x0 + box.x1) / 2)]
    assert middle[:3].tolist() == [102, 102, 102]  # 0.4 of 255


def test_bytes_and_floats_show_the_same_picture(tmp_path: Path) -> None:
    pixels = (255 * noise(3, 28, 28)).astype(np.uint8)
    saved = [
        figures.save(figures.contact_sheet(images, title="t"), tmp_path / f"{n}.png").read_bytes()
        for n, images in enumerate((pixels, pixels / 255, pixels[..., None]))
    ]
    assert saved[0] == saved[1] == saved[2]


def test_kl_lines_hold_the_numbers_and_their_names_the_last_one() -> None:
    kl = np.array([[0.0, 0.0, 0.05], [1.0, 3.25, 0.05]])
    figure = figures.kl_per_latent([0, 100], kl, title="t", capacity=[0.0, 5.0])
    assert {"total 4.30", "C 5.00", "z₁ 3.25", "z₀ 1.00", "1 inactive"} <= set(words(figure))
    total, capacity = figure.axes[1].lines[:2]
    np.testing.assert_array_equal(total.get_ydata(), kl.sum(axis=1))
    np.testing.assert_array_equal(capacity.get_ydata(), [0, 5])
    assert total.get_linestyle() == "-" != capacity.get_linestyle()
    drawn = [line.get_ydata() for line in figure.axes[2].lines[:3]]
    np.testing.assert_array_equal(drawn, kl.T[[2, 0, 1]])


def test_of_64_active_latents_twenty_are_named_and_the_rest_counted() -> None:
    named = words(curves(10, 64, 64))
    assert sum(w.startswith("z") for w in named) == 20
    assert "44 more active" in named


def test_training_shows_the_four_numbers_in_nats() -> None:
    figure = figures.training([0, 10], [500, 100], [0, 20], [500, 180], title="t")
    assert {"recon_nll (nats)", "kl (nats)", "neg_elbo = recon_nll + kl (nats)", "loss (nats)"} <= {
        *words(figure)
    }
    ends = [axes.texts[0].get_text() for axes in figure.axes[1:]]
    assert ends == ["100.0", "20.00", "120.0", "180.0"]


def test_the_running_mean_starts_at_the_first_value_and_keeps_a_line_a_line() -> None:
    line = np.linspace(3, 7, 400)
    figure = figures.training(np.arange(400), line, line, line, title="t")
    raw, mean = figure.axes[1].lines[:2]
    np.testing.assert_array_equal(raw.get_ydata(), line)
    np.testing.assert_allclose(np.asarray(mean.get_ydata())[:-5], line[:-5], rtol=1e-12)


def test_captions_are_wrapped_and_long_ones_end_in_an_ellipsis() -> None:
    figure = figures.contact_sheet(noise(2, 8, 8), title="", captions=["$7$", "word " * 200])
    assert words(figure)[0] == "$7$"
    assert words(figure)[-1].endswith("…")
    assert len(words(figure)) == 1 + 6


def test_beyond_120_images_the_title_says_how_many_are_shown() -> None:
    figure = figures.contact_sheet(noise(121, 8, 8), title="t")
    assert len(images_of(figure)) == 120
    assert words(figure) == ["t (the first 120 of 121)"]


BAD: dict[str, tuple[str, Callable[[], Figure]]] = {
    "no images": ("images must be", lambda: figures.contact_sheet(noise(0, 8, 8), title="t")),
    "five dimensions": (
        "originals must be",
        lambda: figures.reconstructions(noise(2, 8, 8, 3, 1), noise(2, 8, 8, 3, 1), title="t"),
    ),
    "two channels": ("images must be", lambda: figures.contact_sheet(noise(2, 8, 8, 2), title="t")),
    "unequal shapes": (
        "one shape",
        lambda: figures.reconstructions(noise(2, 8, 8), noise(3, 8, 8), title="t"),
    ),
    "above 1": (
        r"must lie in \[0, 1\]",
        lambda: figures.contact_sheet(2 + noise(2, 8, 8), title="t"),
    ),
    "below 0": (
        r"must lie in \[0, 1\]",
        lambda: figures.contact_sheet(noise(2, 8, 8) - 0.5, title="t"),
    ),
    "NaN": (
        r"must lie in \[0, 1\]",
        lambda: figures.contact_sheet(noise(2, 8, 8) * np.nan, title="t"),
    ),
    "integers": (
        "uint8 or floats",
        lambda: figures.contact_sheet(np.ones((2, 8, 8), int), title="t"),
    ),
    "captions": (
        "captions must be",
        lambda: figures.contact_sheet(noise(2, 8, 8), title="t", captions=["a"]),
    ),
    "kl of another length": (
        "kl must have the shape",
        lambda: figures.traversals(noise(3, 2, 8, 8), [1, 2], [1, 2, 3], [0, 1], title="t"),
    ),
    "values of another length": (
        "values must have the shape",
        lambda: figures.traversals(noise(2, 2, 8, 8), [1, 2], [1, 2], [0], title="t"),
    ),
    "NaN in kl": (
        "kl must be finite",
        lambda: figures.traversals(noise(2, 2, 8, 8), [1, np.nan], [1, 2], [0, 1], title="t"),
    ),
    "a flat kl": (r"kl must be \(T, D\)", lambda: figures.kl_per_latent([0, 1], [1, 2], title="t")),
    "no steps": ("steps must", lambda: figures.kl_per_latent([], np.ones((0, 2)), title="t")),
    "steps that turn back": (
        "steps must",
        lambda: figures.kl_per_latent([1, 0], np.ones((2, 2)), title="t"),
    ),
    "a short loss": (
        "loss must have",
        lambda: figures.training([0, 1], [1, 1], [1, 1], [1], title="t"),
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_shape_is_named(case: str) -> None:
    message, draw = BAD[case]
    with pytest.raises(UsageError, match=message):
        draw()


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_a_figure_drawn_and_saved_twice_gives_the_same_bytes(kind: str, tmp_path: Path) -> None:
    paths = [figures.save(traversal(3, 5, 28, 28), tmp_path / f"{n}.{kind}") for n in range(2)]
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_a_saved_figure_holds_no_date_and_no_name_of_software(kind: str, tmp_path: Path) -> None:
    content = figures.save(traversal(1, 1, 8, 8), tmp_path / f"a.{kind}").read_bytes()
    marks = (b"tIME", b"Software", b"CreationDate", b"Producer", b"dc:date", b"dc:creator")
    assert not any(mark in content for mark in marks)


def test_the_readers_own_settings_change_nothing(tmp_path: Path) -> None:
    plain = figures.save(curves(20, 5, 3), tmp_path / "plain.png").read_bytes()
    with mpl.rc_context({"font.size": 20, "axes.grid": True, "savefig.facecolor": "red"}):
        before = dict(mpl.rcParams)
        other = figures.save(curves(20, 5, 3), tmp_path / "other.png").read_bytes()
        assert dict(mpl.rcParams) == before
    assert other == plain


def test_saving_is_200_dpi_makes_the_folder_and_leaves_only_the_file(tmp_path: Path) -> None:
    figure = traversal(2, 3, 8, 8)
    path = figures.save(figure, tmp_path / "figures" / "traversals.png")
    assert [p.name for p in path.parent.iterdir()] == ["traversals.png"]
    width, height = (int.from_bytes(path.read_bytes()[n : n + 4]) for n in (16, 20))
    assert (width, height) == tuple(np.round(figure.get_size_inches() * 200))


def test_a_failed_save_keeps_the_old_file_and_leaves_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(saving.os, "fsync", full)
    with pytest.raises(UsageError, match="cannot be written: no space"):
        figures.save(traversal(1, 1, 8, 8), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_unknown_suffix_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"must end in \.png, \.pdf or \.svg, got 'a\.bmp'"):
        figures.save(traversal(1, 1, 8, 8), tmp_path / "a.bmp")


def test_pictures_need_neither_pyplot_nor_torch() -> None:
    program = (
        "import sys, numpy as np; from betavae_core import figures as f;"
        "f.contact_sheet(np.ones((2, 8, 8)), title='t');"
        "print(*{'torch', 'matplotlib.pyplot'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")
