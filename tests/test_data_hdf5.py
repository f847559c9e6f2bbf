"""HDF5: the layout of 3D Shapes and others, converted once, and never read past what is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from data_cases import pictures, shapes3d, shapes3d_labels

from betavae_core.data import DataError, hdf5, load

NAMES = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BETAVAE_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


def written(path: Path, **arrays: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name.replace("__", "/")] = array
    return path


@pytest.mark.parametrize(
    "storage", [{}, {"chunks": (7, 64, 64, 3), "compression": "gzip"}, {"chunks": True}]
)
def test_the_layout_of_3d_shapes(tmp_path: Path, storage: dict) -> None:
    path = tmp_path / "3dshapes.h5"
    path.write_bytes(shapes3d(**storage))
    dataset = load(path)
    np.testing.assert_array_equal(dataset.images, pictures(24, 2, (64, 64, 3)))
    assert (dataset.name, dataset.levels, dataset.image_shape) == ("3dshapes", 255, (3, 64, 64))
    assert dataset.factor_names == NAMES
    assert dataset.factors is not None
    for k, name in enumerate(NAMES):
        values = np.asarray(dataset.factor_values[name])[dataset.factors[:, k].astype(int)]
        np.testing.assert_array_equal(values, shapes3d_labels()[:, k])


def test_blocks_that_are_smaller_than_the_array_are_put_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hdf5, "_BLOCK", 3 * 64 * 64 * 3)
    for name, storage in (("a", {}), ("b", {"chunks": (2, 64, 64, 3)})):
        (tmp_path / f"{name}.h5").write_bytes(shapes3d(**storage))
        images = load(tmp_path / f"{name}.h5").images
        np.testing.assert_array_equal(images, pictures(24, 2, (64, 64, 3)))
        assert f"converting {name}, images: 24 of 24" in capfd.readouterr().err


def test_a_file_is_converted_once_and_mapped_after_that(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.h5").write_bytes(shapes3d())
    first = load(tmp_path / "a.h5")
    monkeypatch.setattr(hdf5, "_convert", None)  # cannot be called
    again = load(tmp_path / "a.h5")
    assert again.digest() == first.digest()
    assert not again.pixels.flags.writeable
    assert len([*cache.rglob("pixels.npy")]) == 1


def test_another_file_of_the_same_name_is_converted_anew(tmp_path: Path) -> None:
    path = written(tmp_path / "a.h5", images=pictures(4, 0))
    load(path)
    written(path, images=pictures(5, 1))
    np.testing.assert_array_equal(load(path).images, pictures(5, 1))


@pytest.mark.parametrize(
    ("images", "expected", "levels"),
    [
        (pictures(3) // 128, pictures(3) // 128, 1),
        (pictures(3) > 127, pictures(3) > 127, 1),
        (pictures(3) / 255, pictures(3), 255),
        (pictures(3).astype(np.int32), pictures(3), 255),
        (pictures(3, shape=(3, 8, 9)), pictures(3, shape=(3, 8, 9)).transpose(0, 2, 3, 1), 255),
        (pictures(3, shape=(8, 9, 1)), pictures(3, shape=(8, 9, 1))[..., 0], 255),
    ],
)
def test_images_of_any_layout_and_type(
    tmp_path: Path, images: np.ndarray, expected: np.ndarray, levels: int
) -> None:
    dataset = load(written(tmp_path / "a.hdf5", whatever=images, other=np.zeros(3)))
    np.testing.assert_array_equal(dataset.images, expected)
    assert dataset.levels == levels


def test_labels_are_labels_and_columns_of_many_values_stay_values(tmp_path: Path) -> None:
    labelled = load(written(tmp_path / "a.h5", images=pictures(3), labels=np.array([4, 5, 4])))
    assert labelled.labels is not None
    assert labelled.labels.tolist() == [4, 5, 4]
    assert labelled.factors is None
    many = np.random.default_rng(0).normal(size=(300, 2))
    dataset = load(written(tmp_path / "b.h5", images=pictures(300, shape=(4, 4)), factors=many))
    np.testing.assert_array_equal(dataset.factors, many)
    assert dataset.factor_values == {}


def test_the_groups_of_dsprites_hdf5_are_found(tmp_path: Path) -> None:
    classes = np.array([[0, 1], [1, 0], [1, 1]])
    path = written(tmp_path / "a.h5", imgs=pictures(3) // 128, latents__classes=classes)
    dataset = load(path)
    assert dataset.factors is not None
    assert dataset.factors.tolist() == classes.tolist()


def chunked(path: Path, shape: tuple[int, ...], rows: int) -> None:
    with h5py.File(path, "w") as file:
        array = file.create_dataset("images", shape, np.uint8, chunks=(1, *shape[1:]))
        array[:rows] = 1


def virtual(path: Path) -> None:
    layout = h5py.VirtualLayout((3, 4, 4), np.uint8)
    layout[:] = h5py.VirtualSource(path.with_name("b.h5"), "images", (3, 4, 4))
    written(path.with_name("b.h5"), images=pictures(3, shape=(4, 4)))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("images", layout)


def external(path: Path) -> None:
    path.with_name("secret").write_bytes(bytes(48))
    with h5py.File(path, "w") as file:
        where = [(str(path.with_name("secret")), 0, 48)]
        file.create_dataset("images", (3, 4, 4), np.uint8, external=where)


def linked(path: Path) -> None:
    written(path.with_name("b.h5"), images=pictures(3))
    with h5py.File(path, "w") as file:
        file["images"] = h5py.ExternalLink("b.h5", "/images")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: path.write_bytes(b"no such thing"), "cannot be read"),
        (lambda path: path.write_bytes(shapes3d()[:-1]), "truncated"),
        (lambda path: written(path), "cannot tell which array holds the images.*there: none"),
        (lambda path: written(path, a=pictures(2), b=pictures(2)), "cannot tell .* a .*, b "),
        (lambda path: written(path, images=np.zeros((2, 3))), "images must have shape"),
        (lambda path: written(path, images=np.zeros((2, 2, 4, 5))), "images must have shape"),
        (lambda path: written(path, images=np.zeros((0, 4, 4))), "must not be empty"),
        (lambda path: written(path, images=np.zeros((0, 4, 4), np.uint8)), "must not be empty"),
        (lambda path: written(path, images=np.full((2, 3, 3), np.nan)), "NaN"),
        (lambda path: chunked(path, (9, 4, 4), 5), "declares .* truncated or damaged"),
        (lambda path: chunked(path, (2**40, 4, 4), 5), "declares .* truncated or damaged"),
        (virtual, "lies in other files"),
        (external, "lies in other files"),
        (linked, "there: none"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said_in_one_line(
    tmp_path: Path, write: Callable[[Path], object], message: str, cache: Path
) -> None:
    path = tmp_path / "a.h5"
    write(path)
    with pytest.raises(DataError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert [*cache.rglob("*.*")] == []  # nothing half done
