"""No damaged file, by accident or malice, crashes, costs memory, runs code or misleads."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from data_cases import idx, picture_file
from memory import peak
from mutants import mutants
from promises import size, tried
from run_cases import snapshot

import betavae_core as bv
from betavae_core.data import Cut, from_folder, load
from betavae_core.data.files import record_digest
from betavae_core.data.progress import reporting
from betavae_core.errors import DataError, UsageError
from betavae_core.run_directory import read_config
from betavae_core.storage import read_weights, serialise

IMAGES = np.random.default_rng(0).integers(0, 256, (48, 128, 160), dtype=np.uint8)
NUMBER = 2000
SLACK = 2 << 20  # bytes that an allocator may keep or take beyond what is asked of it

# A compressed image cannot be told to lie before it is decoded: 512 pixels of three bytes a byte.
COULD_BE = {"JPEG": 3 * 512 * 46_000}

Read = Callable[[Path], object]


@pytest.fixture(autouse=True)
def _quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("BETAVAE_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr("betavae_core.data.rehearsal._LIMIT", 3.0)
    with reporting(lambda *_: None):
        yield


def saved(save: Callable[..., None], *arrays: Any, **named: Any) -> bytes:
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


def hdf5(**storage: Any) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as h5:
        h5.create_dataset("images", data=IMAGES, **storage)
    return file.getvalue()


def weights() -> bytes:
    tensors = {f"layer{k}.weight": torch.randn(256, 256) for k in range(4)}
    return serialise(tensors, {"image_shape": [1, 8, 8], "levels": 255})


def settings() -> bytes:
    return bv.Config(arch="mlp", classes="A-D", beta=4.0).write_toml().encode()


def read_unsigned(path: Path) -> object:
    """Weights whose recorded digest a forger has brought up to date."""
    return read_weights(path, hashlib.sha256(path.read_bytes()).hexdigest())


FILES: dict[str, tuple[str, Callable[[], bytes], Read]] = {
    "images-idx3-ubyte": ("idx", lambda: idx(IMAGES), load),
    "images-idx3-ubyte.gz": ("idx", lambda: gzip.compress(idx(IMAGES), 1), load),
    "images.npy": ("npy", lambda: saved(np.save, IMAGES), load),
    "stored.npz": ("npz", lambda: saved(np.savez, images=IMAGES), load),
    "deflated.npz": ("npz", lambda: saved(np.savez_compressed, images=IMAGES // 64), load),
    "plain.h5": ("h5", hdf5, load),
    "chunked.h5": ("h5", lambda: hdf5(chunks=(8, 32, 32), compression="gzip"), load),
    "weights.safetensors": ("safetensors", weights, read_unsigned),
    "config.toml": ("toml", settings, lambda path: read_config(path.parent)),
}
clock = count(1)


def rewrite(path: Path, data: bytes) -> None:
    """Replace a file by a younger one, so that no conversion of the old one is found."""
    path.write_bytes(data)
    os.utime(path, ns=(0, next(clock)))


def refusal(read: Read, path: Path) -> str | None:
    """What is said of a file that is not read; anything but an error of one line fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            read(path)
        except UsageError as error:
            said = str(error)
        else:
            return None
    assert str(path) in said or said.startswith("this run")
    assert len(said.splitlines()) == 1
    return said


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.promise(FILES[name][0])) for name in FILES]
)
def test_a_damaged_file_is_one_line_or_sound_and_costs_no_memory(tmp_path: Path, name: str) -> None:
    _, make, read = FILES[name]
    path, trap, data = tmp_path / name, tmp_path / "trap", make()
    rewrite(path, data)
    read(path)  # imports are not what is measured
    allowed = 2 * max(len(data), peak(lambda: read(path))) + SLACK
    refused = 0
    for mutant in mutants(data, size(60, NUMBER), trap, seed=len(name)):
        rewrite(path, mutant)
        said: list[str | None] = []
        act = partial(lambda said: said.append(refusal(read, path)), said)
        # What the allocator had given back counts anew: what a read must have, it has every time.
        assert any(peak(act) <= allowed for _ in range(3)), f"more than {allowed} bytes: {said}"
        refused += said[0] is not None
        tried()
    assert not trap.exists()
    assert refused > size(60, NUMBER) / 10


@pytest.mark.promise("images")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_a_damaged_image_is_left_out_or_sound_and_costs_no_memory(
    tmp_path: Path, kind: str
) -> None:
    folder, trap, batch = tmp_path / "pictures", tmp_path / "trap", 100
    data = picture_file(np.tile(IMAGES[0], (2, 2)), kind)
    everyone = list(mutants(data, size(20, NUMBER), trap, seed=len(kind)))
    fill(folder, [data] * batch, kind)
    from_folder(folder, Cut(size=8))
    honest = peak(lambda: from_folder(folder, Cut(size=8)))
    for start in range(0, len(everyone), batch):
        fill(folder, [data, *everyone[start : start + batch]], kind)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            taken = peak(lambda: from_folder(folder, Cut(size=8)))
        assert taken <= 2 * max(honest, len(data) * batch) + SLACK + COULD_BE.get(kind, 0)
        assert all(len(str(warning.message).splitlines()) == 1 for warning in said)
        tried(len(everyone[start : start + batch]))
    assert not trap.exists()


def fill(folder: Path, files: list[bytes], kind: str) -> None:
    """A folder that holds these files and no others."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for number, data in enumerate(files):
        (folder / f"{number:04}.{kind.lower()}").write_bytes(data)


CHECKPOINT = ("checkpoint/latest.json", "checkpoint/step-20.safetensors", "config.toml")


@pytest.mark.promise("checkpoint")
@pytest.mark.parametrize("name", CHECKPOINT)
def test_a_damaged_checkpoint_is_one_line_and_nothing_is_touched(
    tmp_path: Path, unfinished: Path, name: str
) -> None:
    file, trap = unfinished / name, tmp_path / "trap"
    whole, data = torch_weights(unfinished), file.read_bytes()
    for mutant in mutants(data, size(60, NUMBER), trap, seed=len(name)):
        file.write_bytes(mutant)
        before = snapshot(unfinished)
        if refusal(bv.load, unfinished) is None and name != "config.toml":
            assert_equal_weights(torch_weights(unfinished), whole)
        assert snapshot(unfinished) == before
        tried()
    assert not trap.exists()


def torch_weights(run: Path) -> dict[str, torch.Tensor]:
    return bv.load(run).model.state_dict()


def assert_equal_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert all(torch.equal(one[name], other[name]) for name in one | other)


@pytest.mark.promise("digest")
@pytest.mark.parametrize("name", ["images-idx3-ubyte", "images.npy", "stored.npz", "plain.h5"])
def test_where_a_digest_is_known_no_damaged_byte_is_read(tmp_path: Path, name: str) -> None:
    path, data = tmp_path / name, FILES[name][1]()
    path.write_bytes(data)
    record_digest(path)
    np.testing.assert_array_equal(np.asarray(load(path).images).reshape(IMAGES.shape), IMAGES)
    for mutant in mutants(data, size(20, 500), tmp_path / "trap", seed=len(name)):
        rewrite(path, mutant)
        assert refusal(load, path) is not None
        tried()


@pytest.mark.promise("npz")
def test_an_archive_that_swells_a_thousandfold_is_refused_in_little_memory(tmp_path: Path) -> None:
    honest, path = io.BytesIO(), tmp_path / "bomb.npz"
    np.save(honest, IMAGES)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", honest.getvalue() + bytes(512 << 20))
    taken = peak(lambda: refusal(load, path))
    assert refusal(load, path) is not None
    assert taken <= 2 * IMAGES.nbytes + SLACK
    tried()


@pytest.mark.promise("checkpoint")
@pytest.mark.parametrize("name", ["../elsewhere.safetensors", "a\nb", "/etc/passwd", "..", ""])
def test_a_checkpoint_that_names_a_file_of_another_folder_is_refused(
    tmp_path: Path, unfinished: Path, name: str
) -> None:
    latest = unfinished / "checkpoint" / "latest.json"
    shutil.copy(
        unfinished / "checkpoint" / "step-20.safetensors", unfinished / "elsewhere.safetensors"
    )
    latest.write_text(json.dumps(json.loads(latest.read_text()) | {"file": name}))
    assert refusal(bv.load, unfinished) is not None
    tried()


@pytest.mark.promise("images")
@pytest.mark.parametrize(
    "target",
    ["/dev/zero", "/dev/tty", "/etc/passwd", "/proc/self/mem", "nowhere", "loop.png", ".."],
)
def test_a_link_out_of_a_folder_of_images_is_not_followed(tmp_path: Path, target: str) -> None:
    folder = tmp_path / "pictures"
    fill(folder, [picture_file(IMAGES[0], "PNG")] * 4, "PNG")
    (folder / "loop.png").symlink_to(target)
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        said = refusal_of_folder(folder)
    assert said is None or "loop.png" in said
    tried()


def refusal_of_folder(folder: Path) -> str | None:
    """As `refusal`; a folder that is read has the four images that are its own."""
    try:
        assert len(from_folder(folder, Cut(size=8))) == 4
    except DataError as error:
        return str(error)
    return None


@pytest.mark.promise("images")
def test_a_pipe_and_an_odd_name_are_left_out_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    fill(folder, [picture_file(IMAGES[0], "PNG")] * 4, "PNG")
    (folder / "a\nb.png").write_bytes(b"no image")
    os.mkfifo(folder / "pipe.png")
    with pytest.warns(UserWarning, match="cannot be read") as said:
        assert len(from_folder(folder, Cut(size=8))) == 4
    assert all(len(str(warning.message).splitlines()) == 1 for warning in said)
    tried(2)
