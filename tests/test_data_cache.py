"""Where data is kept, and that a conversion is whole, made once, and the data set that was made."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from betavae_core.data import DataError, Dataset
from betavae_core.data.cache import converted, root
from betavae_core.data.stored import PixelWriter

PIXELS = np.random.default_rng(0).integers(0, 256, (10, 3, 4, 1), dtype=np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BETAVAE_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


def everything(writer: PixelWriter) -> tuple[Dataset, str]:
    """A data set that has all that a data set can have."""
    writer.append(PIXELS[:7])
    writer.append(PIXELS[7:])
    dataset = Dataset(
        name="a/b ü",
        pixels=writer.finish(),
        levels=255,
        image_shape=(1, 3, 4),
        factors=np.arange(20).reshape(10, 2) / 3,
        factor_names=("x", "y"),
        factor_values={"x": np.array([0.1, 1 / 3]), "y": np.arange(3)},
        labels=np.arange(10) % 3,
        label_names={0: "nought", 1: "one", 2: "\udcff"},
        test_from=7,
    )
    return dataset, "a remark"


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    written, _ = everything(PixelWriter(tmp_path / "pixels.npy"))
    dataset, remark = converted("a/b ü", "key", everything)
    assert remark == "a remark"
    assert dataset.digest() == written.digest()
    for name in ("factors", "labels"):
        np.testing.assert_array_equal(getattr(dataset, name), getattr(written, name))
    for name in ("name", "image_shape", "factor_names", "label_names", "test_from", "packed"):
        assert getattr(dataset, name) == getattr(written, name)
    for name, values in written.factor_values.items():
        np.testing.assert_array_equal(dataset.factor_values[name], values)


def test_the_pixels_are_a_plain_npy_file(cache: Path) -> None:
    converted("a", "key", everything)
    (path,) = cache.rglob("pixels.npy")
    np.testing.assert_array_equal(np.load(path), PIXELS)


def test_the_pixels_are_mapped_and_cannot_be_written_to() -> None:
    dataset, _ = converted("a", "key", everything)
    assert isinstance(dataset.pixels.base, np.memmap)
    assert not dataset.pixels.flags.writeable


def test_it_is_made_once_for_a_key_and_anew_for_another() -> None:
    made = []

    def convert(writer: PixelWriter) -> tuple[Dataset, str]:
        made.append(1)
        return everything(writer)

    for key in ("one", "one", "two", "one"):
        converted("a", key, convert)
    assert len(made) == 2


def test_a_conversion_that_fails_leaves_nothing(cache: Path) -> None:
    def convert(writer: PixelWriter) -> tuple[Dataset, str]:
        writer.append(PIXELS)
        raise DataError("no more")

    with pytest.raises(DataError, match="no more"):
        converted("a", "key", convert)
    assert [*(cache / "converted").iterdir()] == []


def test_another_process_may_be_faster(cache: Path) -> None:
    def convert(writer: PixelWriter) -> tuple[Dataset, str]:
        converted("a", "key", everything)
        return everything(writer)

    assert len(converted("a", "key", convert)[0]) == 10
    assert len([*(cache / "converted").iterdir()]) == 1


def test_rows_may_be_changed_when_all_are_there(tmp_path: Path) -> None:
    with PixelWriter(tmp_path / "a.npy") as writer:
        writer.append(np.concatenate([PIXELS] * 3, axis=3))
        writer.rewrite(lambda rows: rows[..., :1])
        np.testing.assert_array_equal(writer.finish(), PIXELS)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [([], "must not be empty"), ([PIXELS, PIXELS[:, :2]], "must have one shape")],
)
def test_rows_of_no_or_two_shapes_are_refused(
    tmp_path: Path, blocks: list[np.ndarray], message: str
) -> None:
    def write() -> None:
        with PixelWriter(tmp_path / "a.npy") as writer:
            for block in blocks:
                writer.append(block)
            writer.finish()

    with pytest.raises(DataError, match=message):
        write()


def test_where_nothing_can_be_written_the_remedy_is_named(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.raises(DataError, match="set BETAVAE_DATA to a folder that can be written"):
        converted("a", "key", everything)


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"BETAVAE_DATA": "/data/x"}, "/data/x"),
        ("linux", {"BETAVAE_DATA": "~/x"}, "/home/me/x"),
        ("linux", {}, "/home/me/.cache/betavae"),
        ("linux", {"XDG_CACHE_HOME": "/c"}, "/c/betavae"),
        ("darwin", {}, "/home/me/Library/Caches/betavae"),
        ("win32", {}, "/home/me/AppData/Local/betavae"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/betavae"),
    ],
)
def test_the_folder_is_the_user_s_choice_or_the_platform_s(
    monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], expected: str
) -> None:
    for name in ("BETAVAE_DATA", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert root() == Path(expected)
