"""The official file of dSprites: its fields, packed, without its pickle, and what differs."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from betavae_core.data import DataError, dsprites, load, shapes2d
from betavae_core.data.dsprites import Difference, compare_with_drawn

CLASSES = (1, 3, 2, 2, 2, 2)
NAMES = ("color", "shape", "scale", "orientation", "posX", "posY")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BETAVAE_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


def fields() -> dict[str, np.ndarray]:
    """A small file in the official layout: 48 images of 6x7 pixels."""
    classes = np.indices(CLASSES).reshape(6, -1).T
    return {
        "imgs": np.random.default_rng(0).integers(0, 2, (48, 6, 7), dtype=np.uint8),
        "latents_classes": classes,
        "latents_values": 1 + classes / 4,
    }


def file(path: Path, **changes: np.ndarray) -> Path:
    np.savez_compressed(path, **fields() | changes)
    return path


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> NDArray[np.uint8]:
    """The small file's images as what is drawn; a test may change them."""
    drawn = np.packbits(fields()["imgs"].reshape(48, -1), axis=1)
    monkeypatch.setattr(shapes2d, "COUNT", 48)
    monkeypatch.setattr(dsprites, "_SHAPE", (1, 6, 7))
    monkeypatch.setattr(shapes2d, "draw", lambda: drawn)
    return drawn


def test_the_fields_become_packed_images_and_factors_with_values(tmp_path: Path) -> None:
    dataset = load(file(tmp_path / "a.npz"))
    assert (dataset.name, dataset.levels, dataset.packed) == ("dsprites", 1, True)
    assert dataset.image_shape == (1, 6, 7)
    np.testing.assert_array_equal(dataset.images, fields()["imgs"])
    np.testing.assert_array_equal(dataset.factors, fields()["latents_classes"])
    assert dataset.factor_names == NAMES
    assert dataset.factor_values["shape"].tolist() == [1, 1.25, 1.5]


def test_it_is_read_in_blocks_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dsprites, "_ROWS", 7)
    path = file(tmp_path / "a.npz")
    digest = load(path).digest()
    monkeypatch.setattr(dsprites, "_convert", None)  # cannot be called again
    assert load(path).digest() == digest


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.path,)


def test_the_pickled_metadata_is_skipped(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|O", "fortran_order": False, "shape": ()}
    )
    path = file(tmp_path / "a.npz")
    with zipfile.ZipFile(path, "a") as archive:
        trap = pickle.dumps(Trap(tmp_path / "sprung"))
        archive.writestr("metadata.npy", header.getvalue() + trap)
    assert len(load(path)) == 48
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"imgs": np.full((48, 6, 7), 2, np.uint8)}, "imgs must be 0 or 1, found 2"),
        ({"imgs": np.zeros((48, 6, 7))}, r"imgs must be \(N, H, W\) uint8, got .* float64"),
        ({"imgs": np.zeros((48, 42), np.uint8)}, r"imgs must be \(N, H, W\)"),
        ({"imgs": np.zeros((47, 6, 7), np.uint8)}, r"latents_classes must be \(47, K\)"),
        ({"imgs": np.zeros((0, 6, 7), np.uint8)}, r"imgs must be \(N, H, W\)"),
        ({"latents_classes": np.zeros((48, 6))}, r"latents_classes must be \(48, K\) integers"),
        ({"latents_classes": np.full((48, 6), -1)}, "latents_classes must be 0 "),
        ({"latents_classes": np.full((48, 6), 1)}, "classes must be 0 … 1, only 1 occur"),
        ({"latents_values": np.zeros((48, 5))}, r"latents_values must be \(48, 6\)"),
        ({"latents_values": np.full((48, 6), object())}, "latents_values: holds pickled"),
    ],
)
def test_fields_that_do_not_fit_are_named(tmp_path: Path, changes: dict, message: str) -> None:
    path = tmp_path / "a.npz"
    file(path, **changes)
    with pytest.raises(DataError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_another_number_of_factors_has_plain_names(tmp_path: Path) -> None:
    classes = np.arange(48)[:, None] % 4
    path = file(tmp_path / "a.npz", latents_classes=classes, latents_values=classes * 0.5)
    dataset = load(path)
    assert dataset.factor_names == ("factor_0",)
    assert dataset.factor_values["factor_0"].tolist() == [0, 0.5, 1, 1.5]


@pytest.mark.slow
def test_the_drawn_shapes_equal_themselves() -> None:
    assert compare_with_drawn(shapes2d.load()) == Difference(0, 0)


def test_the_difference_from_the_drawn_shapes_is_counted(
    small: NDArray[np.uint8], tmp_path: Path
) -> None:
    drawn = load(file(tmp_path / "a.npz"))
    assert compare_with_drawn(drawn) == Difference(0, 0)
    pixels = drawn.pixels.copy()
    pixels[5, 0] ^= 0b11
    pixels[5, 5] ^= 64
    pixels[-1, 4] ^= 1
    assert compare_with_drawn(replace(drawn, pixels=pixels)) == Difference(pixels=4, images=2)


def test_the_difference_is_a_sentence() -> None:
    assert str(Difference(0, 0)) == "equal to shapes2d, as drawn here, in every pixel"
    assert "1,004 pixels of 77 images" in str(Difference(1004, 77))


def test_only_the_whole_set_can_be_compared(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="only 737,280 images of 64x64 bits can be compared"):
        compare_with_drawn(load(file(tmp_path / "a.npz")))


def test_what_was_found_is_said_on_every_load(
    tmp_path: Path, small: NDArray[np.uint8], capfd: pytest.CaptureFixture[str]
) -> None:
    small[3, 0] ^= 128
    path = file(tmp_path / "a.npz")
    for _ in range(2):
        load(path)
        message = "a.npz: differs from shapes2d, as drawn here, in 1 pixels of 1 images"
        assert message in capfd.readouterr().err
