"""IDX files and folders of them: plain and gzipped, labels beside images, the official pair."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from betavae_core.data import DataError, load
from betavae_core.data.idx import read_idx

TRAIN, TEST = "train-images-idx3-ubyte", "t10k-images-idx3-ubyte"
MNIST = Path(__file__).resolve().parents[2] / "shared" / "data" / "mnist"


def pictures(n: int, seed: int = 0, side: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, side, side + 1), dtype=np.uint8)


def idx(array: np.ndarray) -> bytes:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write(path: Path, array: np.ndarray) -> Path:
    """`array` as IDX, gzipped when the name ends in .gz."""
    data = idx(array)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_set(folder: Path, part: str, n: int, seed: int, ending: str = "") -> np.ndarray:
    images = pictures(n, seed)
    write(folder / f"{part}-images-idx3-ubyte{ending}", images)
    write(folder / f"{part}-labels-idx1-ubyte{ending}", np.arange(n) % 10)
    return images


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_file_of_images_comes_back_with_its_labels(tmp_path: Path, ending: str) -> None:
    images = write_set(tmp_path, "train", 12, 0, ending)
    dataset = load(tmp_path / (TRAIN + ending))
    np.testing.assert_array_equal(dataset.images, images)
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [*range(10), 0, 1]
    assert (dataset.name, dataset.levels, dataset.test_from) == (TRAIN, 255, None)


def test_labels_may_be_plain_beside_gzipped_images_or_absent(tmp_path: Path) -> None:
    write(tmp_path / (TRAIN + ".gz"), pictures(3))
    assert load(tmp_path / (TRAIN + ".gz")).labels is None
    write(tmp_path / "train-labels-idx1-ubyte", np.array([7, 8, 9]))
    labels = load(tmp_path / (TRAIN + ".gz")).labels
    assert labels is not None
    assert labels.tolist() == [7, 8, 9]


def test_a_gzip_is_told_by_its_bytes_and_not_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.idx").write_bytes(gzip.compress(idx(pictures(3))))
    (tmp_path / "b.gz").write_bytes(idx(pictures(3)))
    (tmp_path / "images").write_bytes(idx(pictures(3)))
    for name in ("a.idx", "b.gz", "images"):
        np.testing.assert_array_equal(load(tmp_path / name).images, pictures(3))


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_both_files_of_a_folder_are_the_official_pair(tmp_path: Path, ending: str) -> None:
    train = write_set(tmp_path, "train", 12, 0, ending)
    test = write_set(tmp_path, "t10k", 4, 1, ending)
    (tmp_path / "README.txt").write_text("unrelated")
    (tmp_path / "pictures").mkdir()
    (tmp_path / ("._" + TRAIN)).write_bytes(b"left by another system")
    dataset = load(tmp_path)
    assert dataset.test_from == 12
    assert dataset.name == tmp_path.name
    np.testing.assert_array_equal(dataset.images, np.concatenate((train, test)))
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [*range(10), 0, 1, 0, 1, 2, 3]


@pytest.mark.parametrize("part", ["train", "t10k"])
def test_one_file_of_the_pair_is_a_data_set_without_a_split(tmp_path: Path, part: str) -> None:
    images = write_set(tmp_path, part, 6, 0)
    dataset = load(tmp_path)
    assert dataset.test_from is None
    np.testing.assert_array_equal(dataset.images, images)


def test_the_pair_of_other_sets_of_the_family_is_known_by_its_names(tmp_path: Path) -> None:
    write(tmp_path / "emnist-letters-train-images-idx3-ubyte.gz", pictures(5))
    write(tmp_path / "emnist-letters-test-images-idx3-ubyte.gz", pictures(3))
    assert load(tmp_path).test_from == 5


def test_a_plain_file_and_its_gzip_are_one_file(tmp_path: Path) -> None:
    write(tmp_path / TRAIN, pictures(5))
    write(tmp_path / (TRAIN + ".gz"), pictures(5))
    assert len(load(tmp_path)) == 5


def test_labels_of_one_half_are_no_labels(tmp_path: Path) -> None:
    write_set(tmp_path, "train", 4, 0)
    write(tmp_path / TEST, pictures(2))
    assert load(tmp_path).labels is None


def test_several_sets_in_a_folder_are_refused(tmp_path: Path) -> None:
    for name in ("letters", "digits"):
        write(tmp_path / f"{name}-train-images-idx3-ubyte", pictures(2))
    with pytest.raises(DataError, match=r"several sets of images .*digits.*letters.*name the file"):
        load(tmp_path)


def test_a_pair_of_two_sizes_is_refused(tmp_path: Path) -> None:
    write(tmp_path / TRAIN, pictures(4, side=5))
    write(tmp_path / TEST, pictures(4, side=6))
    with pytest.raises(DataError, match=r"must have one shape .*\(1, 5, 6\) and \(1, 6, 7\)"):
        load(tmp_path)


def test_labels_of_another_length_are_refused(tmp_path: Path) -> None:
    write(tmp_path / TRAIN, pictures(4))
    write(tmp_path / "train-labels-idx1-ubyte", np.arange(3))
    with pytest.raises(DataError, match=r"labels must be \(4,\) integers.*got \(3,\)"):
        load(tmp_path)


WHOLE = idx(pictures(4))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "ends inside its header"),
        (WHOLE[:3], "ends inside its header"),
        (WHOLE[:9], "ends inside its header"),
        (WHOLE[:-1], "truncated: its header declares 120 bytes of data and 119 are there"),
        (WHOLE + b"\0", "declares 120 bytes of data and more are there"),
        (b"PK\x03\x04" + WHOLE, "not an IDX file"),
        (b"\0\0\x08\0", "not an IDX file"),
        (b"\0\0\x0d\x03" + WHOLE[4:], "must be uint8 .* type 0x0d"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "more than the file can hold"),
        (idx(np.zeros((0, 4, 4))), "must not be empty"),
        (idx(np.zeros(7)), r"shape \(N, H, W\).*got \(7,\)"),
        (idx(np.zeros((2, 3, 4, 5, 1))), r"got \(2, 3, 4, 5, 1\)"),
    ],
)
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_damaged_file_is_named_with_its_cause(
    tmp_path: Path, data: bytes, message: str, ending: str
) -> None:
    path = tmp_path / (TRAIN + ending)
    path.write_bytes(gzip.compress(data) if ending else data)
    if ending and "more than" in message:
        message = "truncated|more than the file can hold"
    with pytest.raises(DataError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["truncated", "checksum", "tail"])
def test_a_damaged_gzip_is_named_with_its_cause(tmp_path: Path, damage: str) -> None:
    whole = bytearray(gzip.compress(WHOLE))
    if damage == "truncated":
        del whole[-20:]
    elif damage == "checksum":
        whole[-6] ^= 1
    else:
        whole += b"tail"
    path = tmp_path / (TRAIN + ".gz")
    path.write_bytes(whole)
    with pytest.raises(DataError, match="cannot be read") as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.skipif(not MNIST.is_dir(), reason=f"the real digits are not there ({MNIST})")
def test_the_real_digits() -> None:
    dataset = load(MNIST)
    assert len(dataset) == 10_000
    assert (dataset.image_shape, dataset.levels, dataset.name) == ((1, 28, 28), 255, "mnist")
    assert dataset.test_from is None  # the test half alone is no pair
    assert dataset.labels is not None
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(dataset.labels).tolist() == counts
    np.testing.assert_array_equal(read_idx(MNIST / (TEST + ".gz")), dataset.images)
