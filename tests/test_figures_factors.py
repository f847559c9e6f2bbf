"""Pictures of matrices and factors: every cell, map and curve says its number."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from figure_reading import images_of, lightness, luminance, matrix, noise, words

from betavae_core import figures
from betavae_core.errors import UsageError
from betavae_core.figures.palette import ink_on, shade


def test_a_matrix_writes_each_number_in_its_cell() -> None:
    figure = matrix([[0.5, 1.25], [np.nan, -3.0]])
    cells = {t.get_position(): t.get_text() for t in figure.axes[1].texts}
    assert cells == {(0, 0): "0.50", (1, 0): "1.25", (0, 1): "–", (1, 1): "−3.00"}
    assert {"β", "z", "score", "r0", "r1", "c0", "c1"} <= set(words(figure))


def test_shades_grow_lighter_with_the_value_and_the_ink_is_read_on_each() -> None:
    colors = shade(np.linspace(0, 1, 101), 0, 1)
    greys = [lightness(color) for color in colors]
    assert (np.diff(greys) > 0).all()
    for color in colors:
        light, dark = sorted([luminance(color), float(ink_on(color))], reverse=True)
        assert (light + 0.05) / (dark + 0.05) > 4.5  # WCAG 2.1, level AA


def test_the_limits_of_a_matrix_can_be_set() -> None:
    drawn = matrix([[0.5]], limits=(0, 1)).axes[1].images[0].get_array()
    np.testing.assert_array_equal(drawn, shade(np.array([[0.5]]), 0, 1))


def test_narrow_columns_have_no_numbers_and_upright_names() -> None:
    figure = matrix(noise(3, 40))
    assert not figure.axes[1].texts
    assert {label.get_rotation() for label in figure.axes[1].get_xticklabels()} == {90}


def test_factor_rows_are_sorted_by_kl_and_hold_the_means() -> None:
    maps, means = 4 * noise(3, 4, 4) - 2, 2 * noise(3, 2, 5)
    maps[0, 0, 0] = np.nan
    curves = {"scale": (np.arange(5), means), "hue": (np.arange(5), -means[:, :1])}
    figure = figures.factors(maps, curves, [0.01, 3, 1], title="t", names=("square", "heart"))
    limit = max(np.nanmax(np.abs(maps)), means.max())
    for image, latent in zip(images_of(figure), (1, 2, 0), strict=True):
        np.testing.assert_array_equal(image.get_array(), shade(maps[latent], -limit, limit))
    assert images_of(figure)[2].get_array()[0, 0].tolist() == [1, 1, 1]
    panels = [axes for axes in figure.axes[1:] if len(axes.lines) > 1]
    for n, latent in enumerate((1, 2, 0)):
        both = panels[2 * n].lines[1:]  # the first line is zero
        np.testing.assert_array_equal([line.get_ydata() for line in both], means[latent])
        [alone] = panels[2 * n + 1].lines[1:]
        np.testing.assert_array_equal(alone.get_ydata(), -means[latent, 0])
    named = [w for w in words(figure) if w in ("z₀", "z₁", "z₂", "square", "heart", "scale", "hue")]
    assert named == ["square", "heart", "scale", "hue", "z₁", "z₂", "z₀"]


def test_a_latent_that_says_nothing_is_flat_in_its_map() -> None:
    figure = figures.factors(1e-3 * noise(2, 8, 8), {}, [0, 0], title="t")
    for image in images_of(figure):
        assert np.ptp(np.asarray(image.get_array())) < 1
        assert np.ptp(np.asarray(image.get_array()).reshape(-1, 3), axis=0).max() < 0.01


@pytest.mark.parametrize(("latents", "rows"), [(8, 8), (32, 16)])
def test_low_rows_name_their_values_in_every_other_row(latents: int, rows: int) -> None:
    curves = {"scale": (np.arange(5), 4 * noise(latents, 1, 5) - 2)}
    figure = figures.factors(None, curves, np.zeros(latents), title="t")
    assert words(figure).count("−2") == rows


def test_mean_codes_are_means_over_the_images_that_share_the_values() -> None:
    rng = np.random.default_rng(0)
    codes, y, x = rng.normal(size=(500, 3)), rng.integers(4, size=500), rng.choice([-1.5, 2], 500)
    (ys, xs), means = figures.mean_codes(codes, y, x)
    assert (ys.tolist(), xs.tolist(), means.shape) == ([0, 1, 2, 3], [-1.5, 2], (3, 4, 2))
    for (i, b), (j, a) in itertools.product(enumerate(ys), enumerate(xs)):
        expected = codes[(y == b) & (x == a)].mean(axis=0)
        np.testing.assert_allclose(means[:, i, j], expected, rtol=1e-12)


def test_mean_codes_are_nan_where_there_is_no_image() -> None:
    _, means = figures.mean_codes([[1.0], [2.0]], [0, 1], [5, 6])
    np.testing.assert_array_equal(means, [[[1, np.nan], [np.nan, 2]]])


BAD: dict[str, tuple[str, Callable[[], object]]] = {
    "a matrix without names": (
        r"values must be one a row and column, \(2, 1\)",
        lambda: figures.heatmap([[1]], "ab", "c", title="t", labels=("", ""), unit=""),
    ),
    "a matrix of nothing": ("not all NaN", lambda: matrix([[np.nan]])),
    "an infinite cell": ("must be finite", lambda: matrix([[np.inf, 1]])),
    "limits that turn back": ("limits must", lambda: matrix([[1, 2]], limits=(1, 0))),
    "a matrix too large": ("at most 40 rows and columns", lambda: matrix(noise(41, 1))),
    "maps of other latents": (
        r"maps must be \(3, ny, nx\)",
        lambda: figures.factors(noise(2, 4, 4), {}, [1, 2, 3], title="t"),
    ),
    "no factors": ("got neither", lambda: figures.factors(None, {}, [1], title="t")),
    "factors of no latent": (
        "at least one latent",
        lambda: figures.factors(None, {"scale": ([0], noise(0, 1, 1))}, [], title="t"),
    ),
    "values that turn back": (
        "the values of 'scale' must be at least one and increase",
        lambda: figures.factors(None, {"scale": ([1, 0], noise(1, 1, 2))}, [1], title="t"),
    ),
    "curves of more classes than names": (
        r"'scale' must be \(D, S, n\) = \(2, 1, 3\), got \(2, 2, 3\)",
        lambda: figures.factors(None, {"scale": ([0, 1, 2], noise(2, 2, 3))}, [1, 2], title="t"),
    ),
    "factors of other images": (
        r"codes must be \(N, D\) and factors \(N,\)",
        lambda: figures.mean_codes(noise(5, 2), [1, 2]),
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_shape_is_named(case: str) -> None:
    message, draw = BAD[case]
    with pytest.raises(UsageError, match=message):
        draw()
