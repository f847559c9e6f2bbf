"""Pictures of codes: every point is drawn, in colours that print grey; reductions to a plane."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from figure_reading import clusters, lightness, matrix, noise, panel, words
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from betavae_core import figures
from betavae_core.errors import UsageError
from betavae_core.figures.palette import class_style


def drawn_points(figure: Figure) -> dict[Any, np.ndarray]:
    """The points of each colour."""
    found: dict[Any, list[np.ndarray]] = {}
    for points in figure.axes[1].collections:
        assert isinstance(points, PathCollection)
        offsets = np.asarray(points.get_offsets())
        found.setdefault(tuple(points.get_facecolor()[0]), []).append(offsets)
    return {color: np.concatenate(parts) for color, parts in found.items()}


def test_every_code_is_drawn_once_in_the_colour_of_its_class() -> None:
    codes, labels = clusters(300, 3)
    shown = list(drawn_points(figures.scatter(codes, labels, title="t")).values())
    assert len(shown) == 3
    for label, points in enumerate(shown):
        expected = codes[labels == label]
        np.testing.assert_array_equal(
            points[np.lexsort(points.T)], expected[np.lexsort(expected.T)]
        )


def test_both_axes_of_a_scatter_have_one_scale() -> None:
    axes = figures.scatter(noise(100, 2) * [9, 1], title="t").axes[1]
    assert np.ptp(axes.get_xlim()) == pytest.approx(np.ptp(axes.get_ylim()))
    assert axes.bbox.width == pytest.approx(axes.bbox.height)


@pytest.mark.parametrize("count", range(2, 27))
def test_two_classes_differ_in_lightness_or_in_marker(count: int) -> None:
    styles = class_style(count)
    greys = [lightness(color) for color, _ in styles]
    assert greys == sorted(greys)
    assert greys[-1] < 80  # still seen on white
    for (a, b), (one, other) in zip(
        itertools.combinations(greys, 2), itertools.combinations(styles, 2), strict=True
    ):
        assert one[1] != other[1] or abs(a - b) > 10  # more than one step of Munsell's value


def test_strung_out_codes_are_shown_to_their_full_range() -> None:
    codes = 400 * noise(1000, 2) - 200
    figure = figures.scatter(codes, title="t")
    low, high = figure.axes[1].get_xlim()
    assert low < codes.min()
    assert high > codes.max()
    assert words(figure)[0] == "t"


def test_no_code_of_a_normal_cloud_is_far() -> None:
    codes = np.random.default_rng(0).normal(size=(2000, 2))
    assert words(figures.scatter(codes, title="t"))[0] == "t"


def test_a_few_codes_far_away_do_not_shrink_the_rest_and_are_counted() -> None:
    codes = np.concatenate([noise(1000, 2), [[500, 0], [0, -900]]])
    figure = figures.scatter(codes, title="t")
    assert np.ptp(figure.axes[1].get_xlim()) < 1.2
    assert words(figure)[0] == "t (2 of 1,002 codes lie outside)"


def test_the_prior_is_three_circles_and_the_picture_reaches_to_them() -> None:
    figure = figures.scatter(1e-3 * noise(50, 2), title="t", prior=True)
    axes = figure.axes[1]
    circles = [patch for patch in axes.patches if isinstance(patch, Circle)]
    assert [circle.get_radius() for circle in circles] == [1, 2, 3]
    assert np.abs([axes.get_xlim(), axes.get_ylim()]).min() > 3
    assert "|z| = 1, 2, 3" in words(figure)


def test_a_class_is_named_at_its_median_unless_the_names_would_touch() -> None:
    codes = [[1, 1], [6, 8], [6, 8.1], [0, 0], [10, 10]]
    figure = figures.scatter(codes, [0, 1, 2, 3, 3], "abcd", title="t")
    assert [words(figure).count(name) for name in "abcd"] == [2, 1, 1, 2]  # the legend's is one


def test_names_go_by_label_and_absent_classes_are_left_out() -> None:
    figure = figures.scatter(noise(4, 2), [3, 3, 1, 1], ["zero", "one", "two", "three"], title="t")
    assert [w for w in words(figure) if w in ("zero", "one", "two", "three")][-2:] == [
        "one",
        "three",
    ]
    assert not {"zero", "two"} & set(words(figure))


def test_an_embedding_names_its_axes_by_method() -> None:
    named = {m: words(figures.embedding(noise(9, 2), title="t", method=m)) for m in ("pca", "tsne")}
    assert {"principal component 1", "principal component 2"} <= set(named["pca"])
    assert {"t-SNE axis 1 (no unit)", "t-SNE axis 2 (no unit)"} <= set(named["tsne"])


def test_pca_finds_the_plane_that_codes_lie_in() -> None:
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(200, 2)) * [5, 1]
    frame = np.linalg.qr(rng.normal(size=(10, 2)))[0]
    points = figures.reduce(plane @ frame.T, "pca")
    distances = [np.linalg.norm(p[:, None] - p, axis=2) for p in (points, plane)]
    np.testing.assert_allclose(*distances, atol=1e-12)
    assert points[:, 0].std() > points[:, 1].std()


def test_tsne_keeps_clusters_apart_and_is_the_same_every_time() -> None:
    labels = np.arange(60) % 2
    codes = np.random.default_rng(0).normal(size=(60, 20)) + 20 * labels[:, None]
    points = figures.reduce(codes, "tsne")
    centres = np.array([points[labels == n].mean(axis=0) for n in (0, 1)])
    nearest = np.linalg.norm(points[:, None] - centres, axis=2).argmin(axis=1)
    np.testing.assert_array_equal(nearest, labels)
    np.testing.assert_array_equal(figures.reduce(codes, "tsne"), points)


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_codes_that_are_all_equal_stay_together(method: str) -> None:
    np.testing.assert_array_equal(figures.reduce(np.full((9, 3), 0.1), method), np.zeros((9, 2)))


def test_kl_over_capacity_names_its_axis_and_draws_the_target() -> None:
    x, kl = np.array([0.0, 0.2, 0.4]), np.array([[0, 0.1], [0.1, 0.1], [0.2, 0.1]])
    figure = figures.kl_over(x, kl, xlabel="capacity C (nats)", title="t", capacity=x)
    assert {"capacity C (nats)", "C 0.40", "z₀ 0.20", "0.2"} <= set(words(figure))
    np.testing.assert_array_equal(figure.axes[1].lines[1].get_xydata(), np.stack([x, x], 1))


DRAWN: dict[str, Callable[[], Figure]] = {
    "interpolation": lambda: figures.interpolation(noise(1, 2, 8, 8), title="t"),
    "samples": lambda: figures.samples(noise(3, 8, 8), title="t"),
    "manifold": lambda: figures.manifold(noise(2, 2, 8, 8), title="t"),
    "scatter": lambda: figures.scatter(*clusters(20, 2), title="t", prior=True),
    "embedding": lambda: figures.embedding(*clusters(20, 2), title="t", method="pca"),
    "kl_over": lambda: figures.kl_over([0, 1], noise(2, 2), xlabel="C (nats)", title="t"),
    "heatmap": lambda: matrix(noise(2, 2)),
    "factors": lambda: figures.factors(
        noise(2, 4, 4), {"scale": ([0, 1], noise(2, 1, 2))}, [1, 2], title="t"
    ),
    "side_by_side": lambda: figures.side_by_side([panel("a", 2, 2, 8, 8)], title="t"),
    "frame": lambda: figures.traversal_frames(noise(1, 1, 8, 8), [1], [0], title="t")[0],
}


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_bytes_are_the_same_whatever_the_readers_settings(
    name: str, kind: str, tmp_path: Path
) -> None:
    plain = figures.save(DRAWN[name](), tmp_path / f"plain.{kind}").read_bytes()
    with mpl.rc_context({"font.size": 20, "axes.grid": True, "scatter.marker": "x"}):
        other = figures.save(DRAWN[name](), tmp_path / f"other.{kind}").read_bytes()
    assert other == plain


BAD: dict[str, tuple[str, Callable[[], object]]] = {
    "codes of three latents": (
        r"codes must be \(N, 2\)",
        lambda: figures.scatter(noise(5, 3), title="t"),
    ),
    "no codes": ("with N >= 1", lambda: figures.scatter(noise(0, 2), title="t")),
    "codes of NaN": ("codes must be finite", lambda: figures.scatter([[0, np.nan]], title="t")),
    "labels of other codes": (
        r"labels must be \(5,\) integers",
        lambda: figures.scatter(noise(5, 2), [1, 2], title="t"),
    ),
    "labels between integers": (
        r"labels must be \(2,\) integers, got \(2,\) float64",
        lambda: figures.scatter(noise(2, 2), [0.5, 1], title="t"),
    ),
    "a class without a name": (
        "labels must be below 2",
        lambda: figures.scatter(noise(2, 2), [0, 2], "ab", title="t"),
    ),
    "27 classes": (
        "at most 26 classes, got 27",
        lambda: figures.scatter(noise(27, 2), np.arange(27), title="t"),
    ),
    "an unknown method": (
        "method must be one of pca, tsne, got 'umap'",
        lambda: figures.embedding(noise(5, 2), title="t", method="umap"),
    ),
    "an unknown reduction": (
        "method must be one of pca, tsne, got 'umap'",
        lambda: figures.reduce(noise(5, 3), "umap"),
    ),
    "three codes": (r"codes must be \(N, D\) with N >= 4", lambda: figures.reduce(noise(3, 5))),
    "codes of one latent": ("D >= 2", lambda: figures.reduce(noise(9, 1))),
    "a capacity that stays": (
        "x must be at least one and increase",
        lambda: figures.kl_over([0, 1, 1], noise(3, 2), xlabel="C", title="t"),
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_shape_is_named(case: str) -> None:
    message, draw = BAD[case]
    with pytest.raises(UsageError, match=message):
        draw()
