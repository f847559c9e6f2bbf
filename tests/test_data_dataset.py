"""What an array of pixels means, what is refused, and how a data set hands out its images."""

from __future__ import annotations

import numpy as np
import pytest

from betavae_core.data import DataError, Dataset, from_array


def grey(n: int = 5, height: int = 4, width: int = 6, top: int = 255) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, top + 1, (n, height, width), dtype=np.uint8)
    pixels[0, 0, 0] = top
    return pixels


def test_three_layouts_of_one_set_of_images_are_one_data_set() -> None:
    colour = np.random.default_rng(1).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    last, first = from_array(colour), from_array(colour.transpose(0, 3, 1, 2))
    assert last.image_shape == first.image_shape == (3, 4, 6)
    assert last.digest() == first.digest()
    np.testing.assert_array_equal(first.images, colour)

    plain = grey()
    for layout in (plain, plain[..., None], plain[:, None]):
        dataset = from_array(layout)
        assert dataset.image_shape == (1, 4, 6)
        assert dataset.pixels.shape == (5, 4, 6, 1)
        np.testing.assert_array_equal(dataset.images, plain)


@pytest.mark.parametrize(
    "shape", [(), (4,), (4, 4), (5, 4, 6, 2), (5, 2, 4, 6), (5, 4, 6, 4), (2, 3, 4, 6, 1)]
)
def test_any_other_layout_is_refused_by_its_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="images must have shape") as caught:
        from_array(np.zeros(shape, np.uint8))
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize("shape", [(0, 4, 6), (5, 0, 6), (5, 4, 0), (0, 4, 6, 3)])
def test_empty_images_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="must not be empty"):
        from_array(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    "dtype", [bool, np.uint8, np.int8, np.int64, np.uint64, np.float16, np.float32, np.float64]
)
def test_images_of_zero_and_one_have_one_level_in_any_dtype(dtype: type) -> None:
    binary = grey(top=1)
    dataset = from_array(binary.astype(dtype))
    assert (dataset.levels, dataset.pixels.dtype) == (1, np.uint8)
    np.testing.assert_array_equal(dataset.images, binary)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64, ">u4"])
def test_integers_are_bytes(dtype: type | str) -> None:
    dataset = from_array(grey().astype(dtype))
    assert dataset.levels == 255
    np.testing.assert_array_equal(dataset.images, grey())


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble, ">f4"])
def test_floats_are_rounded_to_255_levels(dtype: type | str) -> None:
    every_byte = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    dataset = from_array((every_byte / 255).astype(dtype))
    assert dataset.levels == 255
    np.testing.assert_array_equal(dataset.images, every_byte)
    assert from_array(np.full((1, 2, 2), 0.3)).images.max() == 76  # 76.5 rounds to even


def test_images_of_several_blocks_are_converted_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("betavae_core.data.arrays._BLOCK", 48)
    floats = (grey(7) / 255).astype(np.float32)
    np.testing.assert_array_equal(from_array(floats).images, grey(7))
    floats[-1, -1, -1] = np.nan
    with pytest.raises(DataError, match="NaN"):
        from_array(floats)


@pytest.mark.parametrize(
    ("value", "found"),
    [(np.nan, "found NaN"), (np.inf, "infinite"), (-np.inf, "infinite"), (200.0, "divide by 255")],
)
def test_floats_outside_the_unit_interval_are_refused(value: float, found: str) -> None:
    images = np.full((3, 4, 4), 0.5)
    images[2, 1, 1] = value
    with pytest.raises(DataError, match=found):
        from_array(images)


@pytest.mark.parametrize("value", [-1e-9, np.nextafter(1.0, 2.0)])
def test_the_unit_interval_has_sharp_ends(value: float) -> None:
    from_array(np.array([[[0.0, 0.5, 1.0]]]))
    with pytest.raises(DataError, match=r"must lie in \[0, 1\]"):
        from_array(np.array([[[value, 0.5]]]))


@pytest.mark.parametrize("value", [-1, 256, 10**12])
def test_integers_outside_a_byte_are_refused(value: int) -> None:
    with pytest.raises(DataError, match=rf"0 … 255, found .*{value}"):
        from_array(np.array([[[0, value]]]))


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 3, 3), complex),
        np.zeros((2, 3, 3), "U4"),
        np.zeros((2, 3, 3), "M8[s]"),
        np.zeros((2, 3, 3), object),
        np.zeros((2, 3, 3), "u1,f4"),
        [[[1, 2], [3]]],
    ],
)
def test_anything_but_numbers_is_refused(images: object) -> None:
    with pytest.raises(DataError) as caught:
        from_array(images)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_packed_data_set_is_its_unpacked_twin(channels: int) -> None:
    bits = np.random.default_rng(2).integers(0, 2, (9, 5, 3, channels), dtype=np.uint8)
    packed = Dataset(
        name="bits",
        pixels=np.packbits(bits.reshape(9, -1), axis=1),
        levels=1,
        image_shape=(channels, 5, 3),
        packed=True,
    )
    plain = from_array(bits)
    np.testing.assert_array_equal(packed.images, plain.images)
    assert packed.images is packed.images
    assert packed.digest() == plain.digest()
    assert packed.nbytes == 9 * -(-15 * channels // 8)
    assert plain.nbytes == 9 * 15 * channels
    picked = [8, 0, 0, 3]
    np.testing.assert_array_equal(packed.take(picked), plain.images[picked])
    np.testing.assert_array_equal(plain.take(np.array(picked)), plain.images[picked])
    assert packed.take([]).shape == (0, *plain.images.shape[1:])


def test_the_first_pixel_is_the_highest_bit() -> None:
    pixels = np.array([[0b10000000, 0b00000001]], np.uint8)
    images = Dataset("b", pixels, 1, (1, 4, 4), packed=True).images
    assert np.argwhere(images[0]).tolist() == [[0, 0], [3, 3]]


def test_the_digest_depends_on_pixels_shape_and_levels_alone() -> None:
    pixels = grey(2, 4, 6, top=16)[..., None]
    base = Dataset("a", pixels, 16, (1, 4, 6))
    changed = pixels.copy()
    changed[1, 3, 5] ^= 1
    others = [
        Dataset("a", changed, 17, (1, 4, 6)),
        Dataset("a", changed, 255, (1, 4, 6)),
        Dataset("a", pixels, 255, (1, 4, 6)),
        Dataset("a", pixels.reshape(2, 6, 4, 1), 16, (1, 6, 4)),
        Dataset("a", pixels.reshape(4, 2, 6, 1), 16, (1, 2, 6)),
    ]
    assert len({base.digest(), *(other.digest() for other in others)}) == 6
    assert Dataset("b", pixels, 16, (1, 4, 6), labels=np.arange(2)).digest() == base.digest()


def test_the_digest_does_not_depend_on_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = from_array(grey(7)).digest()
    monkeypatch.setattr("betavae_core.data.dataset._DIGEST_BYTES", 50)
    assert from_array(grey(7)).digest() == whole


def test_labels_and_factors_go_with_the_images() -> None:
    factors = np.arange(10).reshape(5, 2)
    dataset = from_array(grey(), labels=[3, 1, 4, 1, 5], factors=factors)
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [3, 1, 4, 1, 5]
    assert dataset.factor_names == ("factor_0", "factor_1")
    assert from_array(grey(), factors=factors, factor_names=["x", "y"]).factor_names == ("x", "y")
    assert len(dataset) == 5


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"labels": [0, 1]}, r"labels must be \(5,\) integers"),
        ({"labels": [0.5] * 5}, r"labels must be \(5,\) integers"),
        ({"labels": np.zeros((5, 2), int)}, r"labels must be \(5,\) integers"),
        ({"labels": [None] * 5}, "labels must be numbers, got Python objects"),
        ({"factors": np.zeros((4, 2))}, r"factors must be \(5, K\) numbers"),
        ({"factors": np.zeros(5)}, r"factors must be \(5, K\) numbers"),
        ({"factors": np.full((5, 2), np.nan)}, "factors must be finite"),
        ({"factors": np.zeros((5, 2)), "factor_names": ["x"]}, "2 factors need as many names"),
        ({"factor_names": ["x"]}, "factor names without factors"),
    ],
)
def test_labels_and_factors_that_do_not_fit_are_refused(extra: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        from_array(grey(), **extra)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"levels": 0}, "levels must be 1 to 255, got 0"),
        ({"levels": 256}, "levels must be 1 to 255, got 256"),
        ({"levels": 16}, "at most levels = 16, found 255"),
        ({"image_shape": (1, 6, 4)}, r"pixels must be \(N, 6, 4, 1\) uint8"),
        ({"image_shape": (2, 4, 6)}, "1 or 3 channels, got 2"),
        ({"pixels": np.zeros((5, 4, 6, 1))}, "got .* float64"),
        ({"pixels": np.zeros((0, 4, 6, 1), np.uint8)}, "must hold images"),
        ({"packed": True}, r"pixels must be \(N, 3\) uint8"),
        (
            {"packed": True, "pixels": np.zeros((5, 3), np.uint8), "levels": 255},
            "levels must be 1 when packed",
        ),
        ({"test_from": 0}, "images on both sides"),
        ({"test_from": 5}, "images on both sides"),
    ],
)
def test_a_data_set_that_contradicts_itself_is_refused(change: dict, message: str) -> None:
    fields = {"name": "a", "pixels": grey()[..., None], "levels": 255, "image_shape": (1, 4, 6)}
    Dataset(**fields)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message):
        Dataset(**fields | change)
