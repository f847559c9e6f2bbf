"""The 2D shapes equal the published set: every known count, the digest, the rules themselves."""

from __future__ import annotations

import hashlib
import math
import time

import numpy as np
import pytest

from betavae_core.data import Dataset, load, shapes2d

SHA256 = "3a228f4037ef3d42a42588e0e01f1078aa2df13cfa17584e88c95ed9fb5672da"
LIT = {"square": 53_612_886, "ellipse": 42_070_950, "heart": 32_645_028}
MEAN_LIT_BY_SCALE = {
    "square": (92.196, 132.735, 180.634, 235.956, 298.654, 368.734),
    "ellipse": (72.344, 104.142, 141.788, 185.185, 234.340, 289.324),
    "heart": (56.126, 80.831, 110.005, 143.701, 181.837, 224.497),
}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load("shapes2d")


@pytest.fixture(scope="module")
def lit(dataset: Dataset) -> np.ndarray:
    """(3 shapes, 6 scales) lit pixels, over all orientations and positions."""
    ones = np.array([i.bit_count() for i in range(1 << 16)], np.uint8)
    blocks = dataset.pixels.view(np.uint16).reshape(18, -1)
    return np.array([ones[block].sum(dtype=np.int64) for block in blocks]).reshape(3, 6)


def test_all_images_are_drawn_in_seconds() -> None:
    shapes2d.draw.cache_clear()
    start = time.perf_counter()
    pixels = shapes2d.draw()
    assert time.perf_counter() - start < 30
    assert pixels.shape == (737_280, 512)
    assert shapes2d.draw() is pixels


def test_the_images_have_the_published_digest(dataset: Dataset) -> None:
    assert hashlib.sha256(dataset.pixels.data).hexdigest() == SHA256


def test_lit_pixels_by_shape(lit: np.ndarray) -> None:
    assert dict(zip(LIT, lit.sum(axis=1).tolist(), strict=True)) == LIT
    assert lit.sum() == 128_328_864


def test_mean_lit_pixels_by_shape_and_scale(lit: np.ndarray) -> None:
    expected = np.array(list(MEAN_LIT_BY_SCALE.values()))
    np.testing.assert_allclose(lit / (40 * 32 * 32), expected, rtol=0, atol=0.0005)


def test_rows_and_columns_2_to_61_are_used(dataset: Dataset) -> None:
    rows = np.bitwise_or.reduce(dataset.pixels.view(np.uint64), axis=0)
    picture = np.unpackbits(rows.view(np.uint8)).reshape(64, 64)
    assert np.flatnonzero(picture.any(axis=1)).tolist() == list(range(2, 62))
    assert np.flatnonzero(picture.any(axis=0)).tolist() == list(range(2, 62))


def test_715706_images_are_different(dataset: Dataset) -> None:
    assert len({image.tobytes() for image in dataset.pixels}) == 715_706


def test_the_first_and_last_orientation_are_one_picture(dataset: Dataset) -> None:
    turned = dataset.pixels.reshape(18, 40, -1)
    np.testing.assert_array_equal(turned[:, 0], turned[:, 39])
    assert (turned[:, 0] != turned[:, 1]).any(axis=1).all()


def test_the_description_of_the_data_set(dataset: Dataset) -> None:
    assert dataset.name == "shapes2d"
    assert (len(dataset), dataset.image_shape, dataset.levels) == (737_280, (1, 64, 64), 1)
    assert dataset.packed
    assert dataset.nbytes == 737_280 * 512
    assert dataset.test_from is None
    assert dataset.labels is None
    assert {name: len(values) for name, values in dataset.factor_values.items()} == {
        "color": 1, "shape": 3, "scale": 6, "orientation": 40, "posX": 32, "posY": 32,
    }  # fmt: skip
    assert dataset.factor_names == tuple(dataset.factor_values)
    assert dataset.factor_values["shape"].tolist() == [1, 2, 3]
    assert dataset.factor_values["scale"].tolist() == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    assert dataset.factor_values["orientation"][[0, 39]].tolist() == [0, 2 * math.pi]
    assert dataset.factor_values["posY"][[0, 31]].tolist() == [0, 1]


def test_factors_count_up_with_the_last_fastest(dataset: Dataset) -> None:
    factors = dataset.factors
    assert factors is not None
    assert factors.shape == (737_280, 6)
    assert factors.dtype == np.uint8
    _, shape, scale, orientation, x, y = factors.astype(np.int64).T
    index = (((shape * 6 + scale) * 40 + orientation) * 32 + x) * 32 + y
    np.testing.assert_array_equal(index, np.arange(737_280))
    assert factors[:, 0].max() == 0


def outline(shape: float) -> list[tuple[float, float]]:
    """The vertices at scale 1, as the rules give them."""
    s = 0.3 * 64
    if shape == 1:
        return [(-s / 2, -s / 2), (s / 2, -s / 2), (s / 2, s / 2), (-s / 2, s / 2)]
    if shape == 2:
        ts = [2 * math.pi * k / 100 for k in range(100)]
        return [(s / 2 * 1.33 * math.cos(t), s / 2 / 1.33 * math.sin(t)) for t in ts]
    ts = [2 * math.pi * k / 150 for k in range(150)]
    up = [
        (13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) for t in ts
    ]
    across = [16 * math.sin(t) ** 3 / 32 for t in ts]
    return [(s * a, s * (-u / 29 - 0.075)) for a, u in zip(across, up, strict=True)]


def picture(shape: float, scale: float, a: float, pos_x: float, pos_y: float) -> np.ndarray:
    """One image by the rules, a pixel and an edge at a time."""
    corners = []
    for x, y in outline(shape):
        x, y = scale * x, scale * y
        x, y = x * math.cos(a) + y * math.sin(a), -x * math.sin(a) + y * math.cos(a)
        x, y = x + 16 + 32 * pos_x, y + 16 + 32 * pos_y
        corners.append((math.floor(256 * x + 0.5), math.floor(256 * y + 0.5)))
    image = np.zeros((64, 64), np.uint8)
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        (xl, yl), (xh, yh) = sorted(((x0, y0), (x1, y1)), key=lambda corner: corner[1])
        for row in range(64):
            centre = 256 * row + 128
            if yl < centre <= yh:
                for column in range(64):
                    beyond = (256 * column + 128 - xl) * (yh - yl) >= (xh - xl) * (centre - yl)
                    image[row, column] ^= beyond
    return image


@pytest.mark.parametrize("seed", range(12))
def test_an_image_is_what_the_rules_draw(dataset: Dataset, seed: int) -> None:
    assert dataset.factors is not None
    index = int(np.random.default_rng(seed).integers(737_280)) % 245_760 + 245_760 * (seed % 3)
    names = dataset.factor_names
    values = {
        name: float(dataset.factor_values[name][k])  # type: ignore[arg-type]
        for name, k in zip(names, dataset.factors[index], strict=True)
    }
    drawn = picture(
        values["shape"], values["scale"], values["orientation"], values["posX"], values["posY"]
    )
    np.testing.assert_array_equal(dataset.take([index])[0], drawn)
