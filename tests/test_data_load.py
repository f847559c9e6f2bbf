"""What `load` makes of a name or a path, and what it says when it can make nothing of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import betavae_core.data as room
from betavae_core.data import DataError, Dataset, load, sources
from betavae_core.errors import UsageError

FORMATS = ("IDX", ".npy", ".npz", ".h5", "folders of images")
NAMES = (
    "shapes2d",
    "blobs",
    "headlike",
    "digits",
    "mnist",
    "fashion-mnist",
    "emnist-letters",
    "dsprites",
    "shapes3d",
    "celeba",
    "chairs3d",
    "faces3d",
)


def complaint(source: str | os.PathLike[str]) -> str:
    with pytest.raises(DataError) as caught:
        load(source)
    message = str(caught.value)
    assert isinstance(caught.value, UsageError)
    assert len(message.splitlines()) == 1
    return message


def test_every_source_is_what_its_listing_says() -> None:
    for source in sources():
        assert source.note
        assert source.images > 0
        if source.prepare is not None:  # it must be fetched, or put there by hand
            continue
        dataset = load(source.name)
        assert isinstance(dataset, Dataset)
        assert dataset.name == source.name
        assert (len(dataset), dataset.image_shape) == (source.images, source.shape)
        assert dataset.nbytes == source.size


def test_the_sources_are_listed_without_their_files() -> None:
    assert tuple(source.name for source in sources()) == NAMES


def test_the_digits_have_sixteen_levels_and_their_labels() -> None:
    digits = load("digits")
    assert (digits.levels, digits.images.max()) == (16, 16)
    assert digits.images.shape == (1797, 8, 8)
    assert digits.labels is not None
    assert np.bincount(digits.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


@pytest.mark.parametrize("name", ["shapes4d", "", "no/such/file.npy", "x" * 300, "a\0b"])
def test_an_unknown_name_is_told_the_known_ones_and_that_it_is_no_path(name: str) -> None:
    message = complaint(name)
    if len(name) < 300:
        assert "nor is it the path of a file or folder" in message
        assert ", ".join(NAMES) in message


def test_a_name_wins_over_a_file_and_a_path_reaches_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert len(load("digits")) == 1797
    assert complaint("./digits") == "digits: is an empty folder; name a folder or file with images"


def test_paths_may_be_strings_paths_or_relative_to_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "a.npy", np.eye(3, dtype=bool)[None])
    monkeypatch.setenv("HOME", str(tmp_path))
    digests = {load(p).digest() for p in (tmp_path / "a.npy", str(tmp_path / "a.npy"), "~/a.npy")}
    assert len(digests) == 1


def test_an_empty_folder_is_named_as_empty(tmp_path: Path) -> None:
    assert "empty folder" in complaint(tmp_path)


def test_a_folder_without_images_is_told_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    message = complaint(tmp_path)
    assert message.startswith(f"{tmp_path}: is a folder that holds no images; looked for: ")
    assert all(name in message for name in FORMATS)


def test_a_file_of_no_known_kind_is_told_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    message = complaint(tmp_path / "notes.txt")
    assert "is of no kind that can be read" in message
    assert all(name in message for name in FORMATS)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((2, 2, 2)))
    path.chmod(0)
    assert "Permission denied" in complaint(path)


def test_an_error_of_the_system_is_named_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    for name in ("a.npy", "images-idx3-ubyte"):
        (tmp_path / name).write_bytes(b"\0\0")
    monkeypatch.setattr(Path, "open", fail)
    for name in ("a.npy", "images-idx3-ubyte"):
        message = complaint(tmp_path / name)
        assert message.startswith(f"{tmp_path / name}: cannot be read (Permission denied)")


def test_a_new_source_is_a_file_and_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checkers.py").write_text(
        "import numpy as np\n"
        "from betavae_core.data.arrays import from_array\n"
        "from betavae_core.data.sources import Source\n"
        "def load():\n"
        "    return from_array(np.indices((2, 4, 4)).sum(axis=0) % 2, name='checkers')\n"
        "ENTRIES = (Source('checkers', 2, (1, 4, 4), 32, 'a board', load),)\n"
    )
    monkeypatch.setattr(room, "__path__", [*room.__path__, str(tmp_path)])
    monkeypatch.setattr(room, "_FILES", (*room._FILES, "checkers"))
    assert load("checkers").name == "checkers"
    assert "checkers" in complaint("chequers")
    del sys.modules["betavae_core.data.checkers"], room.checkers


def test_loading_data_imports_no_torch(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 3)))
    code = (
        "import sys, betavae_core.data as data; data.sources(); data.load(sys.argv[1])\n"
        "heavy = {'torch', 'sklearn', 'matplotlib', 'h5py', 'PIL', 'pooch'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.npy")]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert out.strip() == "[]"


ROOT = Path(__file__).resolve().parents[1]
