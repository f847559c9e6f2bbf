"""EMNIST's own layout comes out the right way up, from a folder, a file or the archive."""

from __future__ import annotations

import gzip
import hashlib
import io
import zipfile
from pathlib import Path
from string import ascii_lowercase

import numpy as np
import pytest
from data_cases import LETTERS, idx, letters, pictures, remote, served

from betavae_core.data import DataError, emnist, load, prepare, select_classes
from betavae_core.data.idx import read_idx

TRAIN = f"{LETTERS}train-images-idx3-ubyte.gz"
LETTER_L = np.zeros((28, 28), np.uint8)
LETTER_L[4:24, 6] = LETTER_L[23, 6:20] = 255  # a stroke down at the left, one along the bottom


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BETAVAE_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "letters"
    place.mkdir()
    for name, content in letters().items():
        (place / name).write_bytes(content)
    return place


def test_a_folder_of_its_files_is_turned_upright(folder: Path) -> None:
    dataset = load(folder)
    assert (len(dataset), dataset.test_from, dataset.image_shape) == (78, 52, (1, 28, 28))
    np.testing.assert_array_equal(dataset.images[:52], pictures(52, 0))
    np.testing.assert_array_equal(dataset.images[52:], pictures(26, 1))
    assert not np.array_equal(read_idx(folder / TRAIN)[0], dataset.images[0])  # the file as it is


def test_an_l_stands_on_its_foot(tmp_path: Path) -> None:
    # The stored file has the stroke along the top and the foot at the right.
    stored = LETTER_L.T
    assert stored[6, 4:24].all()
    (tmp_path / f"{LETTERS}test-images-idx3-ubyte").write_bytes(idx(stored[None]))
    np.testing.assert_array_equal(load(tmp_path).images[0], LETTER_L)


def test_one_file_is_turned_upright_too(folder: Path) -> None:
    np.testing.assert_array_equal(load(folder / TRAIN).images, pictures(52, 0))


def test_images_that_are_not_square_exchange_their_sides(tmp_path: Path) -> None:
    tall = pictures(3, shape=(5, 7))
    (tmp_path / "emnist-digits-train-images-idx3-ubyte").write_bytes(idx(tall))
    dataset = load(tmp_path)
    assert dataset.image_shape == (1, 7, 5)
    np.testing.assert_array_equal(dataset.images, tall.transpose(0, 2, 1))


def test_other_idx_files_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(pictures(3)))
    np.testing.assert_array_equal(load(tmp_path).images, pictures(3))


def test_labels_have_the_names_of_their_letters(folder: Path) -> None:
    dataset = load(folder)
    assert dataset.labels is not None
    assert dataset.labels[:4].tolist() == [1, 2, 3, 4]
    assert "".join(dataset.label_names[label] for label in range(1, 27)) == ascii_lowercase


@pytest.mark.parametrize(
    ("part", "label", "character"),
    [("byclass", 35, "Z"), ("byclass", 36, "a"), ("balanced", 46, "t"), ("bymerge", 36, "a")],
)
def test_the_other_sets_have_theirs(tmp_path: Path, part: str, label: int, character: str) -> None:
    (tmp_path / f"emnist-{part}-test-images-idx3-ubyte").write_bytes(idx(pictures(1)))
    (tmp_path / f"emnist-{part}-test-labels-idx1-ubyte").write_bytes(idx(np.array([label])))
    assert load(tmp_path).label_names[label] == character


@pytest.mark.parametrize(("classes", "kept"), [("A-D", [1, 2, 3, 4]), ("a,z", [1, 26])])
def test_letters_are_chosen_by_name(folder: Path, classes: str, kept: list[int]) -> None:
    chosen = select_classes(load(folder), classes)
    assert np.unique(chosen.labels).tolist() == kept  # type: ignore[arg-type]
    assert (len(chosen), chosen.test_from) == (3 * len(kept), 2 * len(kept))


def test_of_several_sets_the_letters_are_read_and_a_warning_says_so(folder: Path) -> None:
    (folder / "emnist-mnist-train-images-idx3-ubyte.gz").write_bytes(
        gzip.compress(idx(pictures(2)))
    )
    with pytest.warns(UserWarning, match=r"several sets of EMNIST \(letters, mnist\)"):
        assert len(load(folder)) == 78


def test_several_sets_without_letters_are_refused(tmp_path: Path) -> None:
    for part in ("mnist", "digits"):
        (tmp_path / f"emnist-{part}-test-images-idx3-ubyte").write_bytes(idx(pictures(1)))
    with pytest.raises(DataError, match=r"several sets of EMNIST \(digits, mnist\)"):
        load(tmp_path)


def archive(files: dict[str, bytes]) -> bytes:
    """The archive as it is published: all in the folder gzip/."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as members:
        for name, content in files.items():
            members.writestr(f"gzip/{name}", content)
    return file.getvalue()


def test_the_letters_are_taken_out_of_the_archive_and_the_rest_is_dropped(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = letters()
    content = archive(files | {"emnist-byclass-train-images-idx3-ubyte.gz": b"not wanted"})
    with served({"gzip.zip": content}) as (address, asked):
        monkeypatch.setattr(emnist, "ARCHIVE", remote("gzip.zip", content, f"{address}/x/gzip.zip"))
        assert prepare("emnist-letters", lambda *_: None) == cache / "emnist-letters"
        assert len(asked) == 1
    there = {file.name for file in (cache / "emnist-letters").iterdir()}
    assert there == files.keys() | {f"{name}.sha256" for name in files}
    dataset = load("emnist-letters")  # the server is gone
    assert (dataset.name, len(dataset)) == ("emnist-letters", 78)
    np.testing.assert_array_equal(dataset.images[:52], pictures(52, 0))


def test_an_archive_without_the_letters_is_named(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = archive({"other": b""})
    with served({"gzip.zip": content}) as (address, _):
        monkeypatch.setattr(emnist, "ARCHIVE", remote("gzip.zip", content, f"{address}/x/gzip.zip"))
        with pytest.raises(
            DataError, match=r"gzip\.zip: cannot be read \(.*letters-train"
        ) as caught:
            load("emnist-letters")
    assert "\n" not in str(caught.value)


def test_a_damaged_letter_file_is_noticed_by_the_digest_beside_it(cache: Path) -> None:
    place = cache / "emnist-letters"
    place.mkdir(parents=True)
    for name, content in letters().items():
        (place / name).write_bytes(content)
        (place / f"{name}.sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
    load("emnist-letters")
    plain = gzip.decompress(letters()[TRAIN])
    (place / TRAIN).write_bytes(gzip.compress(plain[:-1] + b"\0"))  # a whole file, but another
    with pytest.raises(DataError, match=r"train-images.*its SHA-256 is not the one in"):
        load("emnist-letters")
