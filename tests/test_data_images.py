"""Folders of images: what is cut, what becomes grey, what is left out and said, what is refused."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from data_cases import picture_file, pictures
from PIL import Image

from betavae_core.data import Cut, DataError, Dataset, from_folder, images, load, prepare


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BETAVAE_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    return tmp_path / "pictures"


def put(path: Path, pixels: np.ndarray, kind: str = "PNG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture_file(pixels, kind))
    return path


def colour(seed: int = 0, height: int = 64, width: int = 64) -> np.ndarray:
    return pictures(1, seed, (height, width, 3))[0]


def test_images_of_the_right_size_come_back_as_they_are(folder: Path) -> None:
    for k in range(3):
        put(folder / f"{k}.png", colour(k))
    dataset = load(folder)
    np.testing.assert_array_equal(dataset.images, [colour(k) for k in range(3)])
    assert (dataset.name, dataset.levels, dataset.image_shape) == ("pictures", 255, (3, 64, 64))
    assert dataset.labels is None


def test_a_jpeg_is_read_and_its_grey_is_one_channel(folder: Path) -> None:
    flat = np.full((64, 64), 90, np.uint8)
    for k in range(3):
        put(folder / f"{k}.JPG", flat + 10 * k, "JPEG")
        put(folder / f"{k}.png", np.stack([flat] * 3, axis=2))  # grey, stored as colour
    dataset = load(folder)
    assert dataset.image_shape == (1, 64, 64)
    assert dataset.images[:, 0, 0].tolist() == [90, 90, 100, 90, 110, 90]


def test_one_colour_image_makes_all_colour_and_the_user_may_say_otherwise(folder: Path) -> None:
    put(folder / "a.png", pictures(1, shape=(64, 64))[0])
    put(folder / "b.png", colour())
    assert load(folder).image_shape == (3, 64, 64)
    assert from_folder(folder, Cut(channels=1)).image_shape == (1, 64, 64)
    put(folder / "b.png", pictures(1, shape=(64, 64))[0])
    assert load(folder).image_shape == (1, 64, 64)
    assert from_folder(folder, Cut(channels=3)).image_shape == (3, 64, 64)


@pytest.mark.parametrize(("height", "width"), [(64, 100), (100, 64), (64, 65)])
def test_the_square_is_cut_from_the_middle(folder: Path, height: int, width: int) -> None:
    pixels = colour(0, height, width)
    put(folder / "a.png", pixels)
    top, left = (height - 64) // 2, (width - 64) // 2
    np.testing.assert_array_equal(load(folder).images[0], pixels[top : top + 64, left : left + 64])


def test_a_crop_takes_so_many_pixels_and_a_size_makes_so_many_of_them(folder: Path) -> None:
    pixels = colour(0, 30, 40)
    put(folder / "a.png", pixels)
    cropped = from_folder(folder, Cut(size=10, crop=10)).images[0]
    np.testing.assert_array_equal(cropped, pixels[10:20, 15:25])
    assert from_folder(folder, Cut(size=16)).image_shape == (3, 16, 16)


def test_shrinking_averages_and_does_not_skip_pixels(folder: Path) -> None:
    board = np.indices((128, 128)).sum(axis=0) % 2 * 255
    put(folder / "a.png", board.astype(np.uint8))
    inner = load(folder).images[0][1:-1, 1:-1]
    assert inner.min() >= 120
    assert inner.max() <= 135


@pytest.mark.parametrize(
    "cut", [{"size": 0}, {"crop": 0}, {"size": -1}, {"channels": 2}, {"channels": 4}]
)
def test_an_impossible_cut_is_refused(cut: dict) -> None:
    with pytest.raises(DataError, match="must be"):
        Cut(**cut)


def test_celeba_is_cut_as_most_of_the_field_does(cache: Path) -> None:
    pixels = np.zeros((218, 178, 3), np.uint8)
    pixels[35:183, 15:163] = (200, 100, 50)  # the middle 148x148
    put(cache / "celeba" / "img_align_celeba" / "000001.png", pixels)
    dataset = load("celeba")
    assert (dataset.name, dataset.image_shape, dataset.labels) == ("celeba", (3, 64, 64), None)
    assert (dataset.images[0] == (200, 100, 50)).all()


def test_chairs_are_cut_in_grey_and_labelled_by_model(cache: Path) -> None:
    pixels = np.full((600, 600, 3), 255, np.uint8)
    pixels[100:500, 100:500] = 40
    for model in ("1a", "2b"):
        for view in range(3):
            name = f"image_{view:03}_p020_t{view:03}_r096.png"
            put(cache / "chairs3d" / "rendered_chairs" / model / "renders" / name, pixels)
    assert prepare("chairs3d", lambda *_: None) == cache / "chairs3d"
    dataset = load("chairs3d")
    assert (dataset.name, dataset.image_shape) == ("chairs3d", (1, 64, 64))
    assert (dataset.images == 40).all()
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert dataset.label_names == {0: "1a", 1: "2b"}


@pytest.mark.parametrize("name", ["celeba", "chairs3d", "faces3d"])
def test_what_must_be_put_there_by_hand_says_where(cache: Path, name: str) -> None:
    for call in (load, prepare):
        with pytest.raises(DataError, match=f"betavae data prepare {name}") as caught:
            call(name)
        assert str(cache / name) in str(caught.value)
        assert "\n" not in str(caught.value)
    put(cache / name / "a.png", colour())
    assert len(load(name)) == 1


def test_folders_are_labels_when_there_are_several(folder: Path) -> None:
    for name in ("cat/1.png", "cat/2.png", "dog/old/1.png"):
        put(folder / "all" / name, colour())
    dataset = load(folder)
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [0, 0, 1]
    assert dataset.label_names == {0: "cat", 1: "dog"}
    put(folder / "all" / "loose.png", colour())
    assert load(folder).labels is None


def test_hidden_and_other_files_are_passed_over(folder: Path) -> None:
    put(folder / "a.png", colour())
    put(folder / "._a.png", colour(1))
    put(folder / ".thumbnails" / "a.png", colour(2))
    (folder / "notes.txt").write_text("no image")
    np.testing.assert_array_equal(load(folder).images, [colour()])


def test_unreadable_images_are_counted_and_the_first_named(folder: Path) -> None:
    for k in range(9):
        put(folder / f"{k}.png", colour(k))
    for k in (1, 3, 4, 7):
        (folder / f"{k}.png").write_bytes(b"junk")
    for _ in range(2):  # on every load, not on the first alone
        with pytest.warns(
            UserWarning, match=r"4 of 9 images cannot be read: 1\.png \(.*4\.png"
        ) as w:
            dataset = load(folder)
        assert "7.png" not in str(w[0].message)
        np.testing.assert_array_equal(dataset.images, [colour(k) for k in (0, 2, 5, 6, 8)])


def test_a_folder_without_a_readable_image_is_refused(folder: Path) -> None:
    (folder / "a.png").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"1 of 1 images cannot be read: a\.png") as caught:
        load(folder)
    assert str(caught.value).startswith(f"{folder}: ")


def test_a_truncated_image_is_unreadable_and_not_half_grey(folder: Path) -> None:
    put(folder / "a.png", colour(0))
    for kind in ("PNG", "JPEG"):
        content = picture_file(colour(1), kind)
        (folder / f"b.{kind.lower()}").write_bytes(content[: len(content) // 2])
    with pytest.warns(UserWarning, match="2 of 3 images cannot be read"):
        assert len(load(folder)) == 1


def test_a_decompression_bomb_is_not_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_MOST_PIXELS", 10_000)
    put(folder / "a.png", colour())
    put(folder / "bomb.png", np.zeros((101, 100), np.uint8))
    with pytest.warns(UserWarning, match=r"bomb\.png \(100x101 pixels, more than 10,000\)"):
        assert len(load(folder)) == 1


def test_the_limit_is_below_that_at_which_pillow_warns() -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    assert images._MOST_PIXELS < Image.MAX_IMAGE_PIXELS


def test_links_out_of_the_folder_are_refused_and_links_inside_are_not(
    folder: Path, tmp_path: Path
) -> None:
    put(folder / "a.png", colour())
    (folder / "b.png").symlink_to(folder / "a.png")
    assert len(load(folder)) == 2
    outside = put(tmp_path / "outside" / "secret.png", colour(1))
    for link, target in ((folder / "c.png", outside), (folder / "d", outside.parent)):
        link.symlink_to(target)
        with pytest.raises(DataError, match=f"{link.name} is a link that leads out of the folder"):
            load(folder)
        link.unlink()


def saved(image: Image.Image, path: Path, **options: object) -> None:
    file = io.BytesIO()
    image.save(file, path.suffix[1:], **options)
    path.write_bytes(file.getvalue())


def test_sixteen_bits_keep_their_highest_eight(folder: Path) -> None:
    values = np.linspace(0, 65_535, 64 * 64).astype(np.uint16).reshape(64, 64)
    saved(Image.fromarray(values), folder / "a.png")
    np.testing.assert_array_equal(load(folder).images[0], values >> 8)


def test_what_is_transparent_is_white(folder: Path) -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:, :32] = (10, 20, 30, 255)
    put(folder / "a.png", pixels)
    image = load(folder).images[0]
    assert (image[:, :32] == (10, 20, 30)).all()
    assert (image[:, 32:] == 255).all()


def test_the_camera_s_note_turns_the_picture(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by half
    saved(Image.fromarray(colour()), folder / "a.png", exif=exif)
    np.testing.assert_array_equal(load(folder).images[0], colour()[::-1, ::-1])


def test_an_animation_is_its_first_frame(folder: Path) -> None:
    frames = [Image.new("L", (64, 64), shade) for shade in (10, 200)]
    saved(frames[0], folder / "a.gif", save_all=True, append_images=frames[1:])
    assert (load(folder).images == 10).all()


def same(one: Dataset, other: Dataset) -> bool:
    return one.digest() == other.digest()


def test_a_folder_is_decoded_once_until_something_changes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder / "a.png", colour(0))
    put(folder / "b.png", colour(1))
    first = load(folder)
    with monkeypatch.context() as patch:
        patch.setattr(images, "_decode_all", None)  # cannot be called
        assert same(load(folder), first)
    put(folder / "c.png", colour(2))
    assert len(load(folder)) == 3
    (folder / "c.png").unlink()
    put(folder / "b.png", colour(3))
    os.utime(folder / "b.png", (1, 1))
    assert not same(load(folder), first)


def test_the_order_does_not_depend_on_the_number_of_threads_or_the_block(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for k in range(11):
        put(folder / f"{k:02}.png", colour(k, 64 + k, 64))
    many = load(folder)
    monkeypatch.setattr(images, "_BLOCK", 3)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    os.utime(folder / "00.png", (1, 1))
    assert same(load(folder), many)
    assert "decoding pictures, images: 11 of 11" in capfd.readouterr().err


def test_reading_leaves_the_warnings_as_they_were(folder: Path) -> None:
    put(folder / "a.png", colour())
    before = warnings.filters[:]
    load(folder)
    assert warnings.filters[:] == before


@pytest.mark.parametrize("settings", [{}, {"progressive": True, "optimize": True}])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "PPM"])
def test_a_large_image_of_one_colour_is_not_taken_for_a_lie(
    tmp_path: Path, kind: str, settings: dict[str, bool]
) -> None:
    plain = Image.new("RGB", (3000, 2000), (9, 9, 9))
    plain.save(tmp_path / f"plain.{kind.lower()}", kind, **settings)
    assert len(from_folder(tmp_path, Cut(size=8))) == 1
