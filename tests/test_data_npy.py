""".npy and .npz files: which array holds the images, and what goes with them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from betavae_core.data import DataError, load

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 4, 5), dtype=np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, ">u2", np.float32, ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_npy_file_comes_back(tmp_path: Path, dtype: type | str, order: str) -> None:
    floats = np.dtype(dtype).kind == "f"
    images = (IMAGES / 255 if floats else IMAGES).astype(dtype, order=order)  # type: ignore[arg-type]
    np.save(tmp_path / "mine.npy", images)
    dataset = load(tmp_path / "mine.npy")
    np.testing.assert_array_equal(dataset.images, IMAGES)
    assert (dataset.name, dataset.levels, dataset.test_from) == ("mine", 255, None)
    assert dataset.pixels.flags.writeable
    assert dataset.pixels.flags.c_contiguous


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_every_version_of_the_header_is_read(tmp_path: Path, version: tuple[int, int]) -> None:
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array(file, IMAGES, version=version)
    np.testing.assert_array_equal(load(tmp_path / "a.npy").images, IMAGES)


def test_a_header_that_python_2_wrote_is_read_in_silence(tmp_path: Path) -> None:
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (6L, 4L, 5L), }\n"
    length = len(header).to_bytes(2, "little")
    data = b"\x93NUMPY\x01\x00" + length + header + IMAGES.tobytes()
    (tmp_path / "old.npy").write_bytes(data)
    np.testing.assert_array_equal(load(tmp_path / "old.npy").images, IMAGES)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("key", ["images", "imgs", "x", "arr_0", "whatever"])
def test_images_are_found_by_name_or_as_the_only_pictures(
    tmp_path: Path, save: Callable, key: str
) -> None:
    save(tmp_path / "a.npz", **{key: IMAGES, "note": np.zeros(6)})
    np.testing.assert_array_equal(load(tmp_path / "a.npz").images, IMAGES)


def test_a_known_name_wins_over_another_array_of_pictures(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", masks=IMAGES[::-1], imgs=IMAGES)
    np.testing.assert_array_equal(load(tmp_path / "a.npz").images, IMAGES)


@pytest.mark.parametrize("names", [("masks", "pictures"), ("table",), ()])
def test_when_the_images_cannot_be_told_the_arrays_are_listed(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    arrays = {name: np.zeros((6, 2)) if name == "table" else IMAGES for name in names}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match="cannot tell which array holds the images") as caught:
        load(tmp_path / "a.npz")
    assert all(f"{name} {array.shape}" in str(caught.value) for name, array in arrays.items())


@pytest.mark.parametrize(
    ("label_key", "factor_key"), [("labels", "factors"), ("y", "latents_classes")]
)
def test_labels_and_factors_go_with_the_images(
    tmp_path: Path, label_key: str, factor_key: str
) -> None:
    labels, factors = np.arange(6), np.arange(12).reshape(6, 2)
    np.savez(tmp_path / "a.npz", images=IMAGES, **{label_key: labels, factor_key: factors})
    dataset = load(tmp_path / "a.npz")
    np.testing.assert_array_equal(dataset.labels, labels)
    np.testing.assert_array_equal(dataset.factors, factors)
    assert dataset.factor_names == ("factor_0", "factor_1")


def test_labels_and_factors_of_another_length_or_kind_are_left(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "a.npz",
        images=IMAGES,
        labels=np.arange(5),
        y=np.full(6, "word"),
        factors=np.zeros((5, 2)),
        latents_classes=np.zeros(6),
    )
    dataset = load(tmp_path / "a.npz")
    assert dataset.labels is None
    assert dataset.factors is None


def test_the_layout_of_the_dsprites_file_is_read_past_its_pickled_metadata(tmp_path: Path) -> None:
    metadata = np.array({"title": "dSprites"}, dtype=object)
    factors = np.arange(36).reshape(6, 6)
    np.savez_compressed(
        tmp_path / "dsprites.npz", metadata=metadata, imgs=IMAGES & 1, latents_classes=factors
    )
    dataset = load(tmp_path / "dsprites.npz")
    assert dataset.levels == 1
    np.testing.assert_array_equal(dataset.factors, factors)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 3, 4, 5, 1)), r"got \(2, 3, 4, 5, 1\)"),
        (np.full((2, 3, 4), np.nan), "found NaN"),
        (np.zeros((0, 3, 4)), "must not be empty"),
        (np.full((2, 3, 4), "text"), "must hold numbers"),
        (np.zeros((2, 3, 4), "u1,f4"), "must hold numbers"),
        (np.zeros((2, 3, 4), complex), "must hold numbers"),
    ],
)
@pytest.mark.parametrize("save", [np.save, np.savez])
def test_an_array_that_holds_no_images_is_named_with_its_cause(
    tmp_path: Path, array: np.ndarray, message: str, save: Callable
) -> None:
    path = tmp_path / ("a.npy" if save is np.save else "a.npz")
    save(path, array)
    with pytest.raises(DataError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "A.NPZ"])
@pytest.mark.parametrize(
    "content", [b"", b"hello\nworld\n", b"PK\x03\x04 not really", b"\x93NUMPY"]
)
def test_text_where_numbers_should_be_is_named_with_the_remedy(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=r"write it|truncated") as caught:
        load(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert "\n" not in str(caught.value)


def test_other_ways_of_compression_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", IMAGES)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_BZIP2) as archive:
        archive.write(tmp_path / "images.npy", "images.npy")
    with pytest.raises(DataError, match="images is compressed in a way that NumPy does not write"):
        load(tmp_path / "a.npz")
