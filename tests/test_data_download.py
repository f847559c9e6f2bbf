"""Downloads: the first mirror that works, only what the checksum says, whole or not at all."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from data_cases import idx, pictures, remote, served
from data_cases import shapes3d as shapes3d_file

from betavae_core.data import DataError, dsprites, fashion_mnist, load, mnist, prepare, shapes3d
from betavae_core.data.download import Remote, fetch
from betavae_core.data.progress import reporting, stderr_lines

CONTENT = pictures(1, shape=(300, 300)).tobytes()
NAME = "a.bin"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BETAVAE_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    with served({NAME: CONTENT}) as (address, asked):
        yield address, asked


def mirrors(address: str, *kinds: str) -> Remote:
    return remote(NAME, CONTENT, *(f"{address}/{kind}/{NAME}" for kind in kinds))


def test_a_file_is_fetched_once_and_has_its_digest_beside_it(
    cache: Path, server: tuple[str, list[str]]
) -> None:
    address, asked = server
    for _ in range(2):
        folder = fetch("thing", [mirrors(address, "good")])
    assert folder == cache / "thing"
    assert (folder / NAME).read_bytes() == CONTENT
    digest = mirrors(address).checksum.removeprefix("sha256:")
    assert (folder / f"{NAME}.sha256").read_text() == f"{digest}  {NAME}\n"
    assert asked == [f"/good/{NAME}"]


@pytest.mark.parametrize("bad", ["missing", "wrong", "broken", "endless"])
def test_the_second_mirror_is_asked_when_the_first_fails(
    cache: Path, server: tuple[str, list[str]], bad: str
) -> None:
    address, asked = server
    fetch("thing", [mirrors(address, bad, "good")])
    assert asked == [f"/{bad}/{NAME}", f"/good/{NAME}"]
    assert (cache / "thing" / NAME).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("bad", "cause"),
    [
        ("missing", "404"),
        ("wrong", "does not match the known hash"),
        ("broken", "IncompleteRead"),
        ("endless", "sends more than the 90,000 bytes of a.bin"),
    ],
)
def test_a_bad_download_leaves_nothing_and_says_where_the_file_could_be_put(
    cache: Path, server: tuple[str, list[str]], bad: str, cause: str
) -> None:
    with pytest.raises(DataError, match=cause) as caught:
        fetch("thing", [mirrors(server[0], bad)])
    message = str(caught.value)
    assert "\n" not in message
    assert f"/{bad}/{NAME}" in message
    assert f"put the file into {cache / 'thing'} by hand" in message
    assert "betavae data prepare thing" in message
    assert [*cache.rglob("*.*")] == []


def test_a_wrong_checksum_names_what_came_and_what_was_expected(
    server: tuple[str, list[str]],
) -> None:
    listed = Remote(NAME, len(CONTENT), "sha256:" + "0" * 64, (f"{server[0]}/good/{NAME}",))
    with pytest.raises(DataError, match="0" * 64) as caught:
        fetch("thing", [listed])
    assert mirrors(server[0]).checksum.removeprefix("sha256:") in str(caught.value)


def test_a_file_put_there_by_hand_is_not_fetched(cache: Path) -> None:
    (cache / "thing").mkdir(parents=True)
    (cache / "thing" / NAME).write_bytes(CONTENT)
    assert fetch("thing", [remote(NAME, CONTENT)]) == cache / "thing"


def test_a_file_damaged_on_disk_is_fetched_again(
    cache: Path, server: tuple[str, list[str]]
) -> None:
    fetch("thing", [mirrors(server[0], "good")])
    (cache / "thing" / NAME).write_bytes(CONTENT[::-1])
    fetch("thing", [mirrors(server[0], "good")])
    assert (cache / "thing" / NAME).read_bytes() == CONTENT
    assert len(server[1]) == 2


def test_progress_goes_to_the_listener_or_to_stderr(
    cache: Path, server: tuple[str, list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    heard: list[tuple[str, int, int]] = []
    with reporting(lambda *said: heard.append(said)):
        fetch("thing", [mirrors(server[0], "good")])
    assert heard[0] == (f"fetching {NAME} from {server[0]}/good/{NAME}", 0, 0)
    assert heard[-1] == (f"fetching {NAME}, bytes", len(CONTENT), len(CONTENT))
    assert capfd.readouterr() == ("", "")
    with reporting(stderr_lines()):
        fetch("other", [mirrors(server[0], "good")])
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == f"fetching {NAME}, bytes: 90,000 of 90,000"


def test_without_pooch_the_message_says_so(
    monkeypatch: pytest.MonkeyPatch, server: tuple[str, list[str]]
) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(DataError, match=r"pooch.*put the file into"):
        fetch("thing", [mirrors(server[0], "good")])


def family() -> dict[str, bytes]:
    """The four files of MNIST and its like, 5 training and 3 test images."""
    files = {}
    for part, n, seed in (("train", 5, 0), ("t10k", 3, 1)):
        files[f"{part}-images-idx3-ubyte.gz"] = gzip.compress(idx(pictures(n, seed)))
        files[f"{part}-labels-idx1-ubyte.gz"] = gzip.compress(idx(np.arange(n)))
    return files


@pytest.mark.parametrize("module", [mnist, fashion_mnist])
def test_mnist_and_fashion_mnist_are_fetched_and_read(
    cache: Path, monkeypatch: pytest.MonkeyPatch, module: object
) -> None:
    files, name = family(), module.ENTRIES[0].name  # type: ignore[attr-defined]
    with served(files) as (address, asked):
        listed = [remote(k, v, f"{address}/x/{k}") for k, v in files.items()]
        monkeypatch.setattr(module, "FILES", listed)
        assert prepare(name, lambda *_: None) == cache / name
        assert len(asked) == 4
    dataset = load(name)  # the server is gone
    assert (dataset.name, len(dataset), dataset.test_from) == (name, 8, 5)
    np.testing.assert_array_equal(dataset.images[5:], pictures(3, 1))
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    assert dataset.label_names.get(1) == ("Trouser" if module is fashion_mnist else None)


@pytest.mark.parametrize("module", [mnist, fashion_mnist])
def test_the_listed_files_are_those_of_the_family(module: object) -> None:
    listed = module.FILES  # type: ignore[attr-defined]
    assert {file.name for file in listed} == family().keys()
    assert all(len(file.urls) >= 2 for file in listed)
    assert len({file.checksum for file in listed}) == 4


def test_shapes3d_is_fetched_and_converted(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = shapes3d_file(chunks=(8, 64, 64, 3), compression="gzip")
    with served({"3dshapes.h5": content}) as (address, _):
        listed = (remote("3dshapes.h5", content, f"{address}/x/3dshapes.h5"),)
        monkeypatch.setattr(shapes3d, "FILES", listed)
        assert prepare("shapes3d", lambda *_: None) == cache / "shapes3d"
    dataset = load("shapes3d")
    assert (dataset.name, len(dataset), dataset.image_shape) == ("shapes3d", 24, (3, 64, 64))
    assert len([*(cache / "converted").iterdir()]) == 1


def test_a_source_that_cannot_be_fetched_says_how_to_prepare_it(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served({}) as (address, _):
        listed = (remote("dsprites.npz", b"", f"{address}/x/a", f"{address}/x/b"),)
        monkeypatch.setattr(dsprites, "FILES", listed)
        with pytest.raises(DataError, match="betavae data prepare dsprites") as caught:
            load("dsprites")
    assert "/x/a: 404" in str(caught.value)
    assert "/x/b: 404" in str(caught.value)
    assert str(cache / "dsprites") in str(caught.value)


def test_what_is_drawn_needs_no_preparation(cache: Path) -> None:
    assert prepare("blobs") is None
    assert not cache.exists()
