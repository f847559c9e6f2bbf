"""Damaged and lying files: one clear DataError, no wrong data, no memory taken on trust."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import h5py
import numpy as np
import pytest
from data_cases import picture_file

from betavae_core.data import Cut, DataError, from_folder, load
from betavae_core.data.files import reading, record_digest
from betavae_core.data.progress import reporting

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 5, 7), dtype=np.uint8)
MUTANTS = 500
MEGABYTE = 1 << 20


def saved(save: Callable, *arrays: np.ndarray, **named: np.ndarray) -> bytes:
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


IDX = struct.pack(">HBB3I", 0, 8, 3, *IMAGES.shape) + IMAGES.tobytes()
BITS = IMAGES & 1


def hdf5(**storage: object) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as h5:
        h5.create_dataset("images", data=IMAGES, **storage)
        h5.create_dataset("labels", data=np.arange(16).reshape(8, 2) / 4)
    return file.getvalue()


FILES = {
    "images-idx3-ubyte": IDX,
    "images-idx3-ubyte.gz": gzip.compress(IDX),
    "images.npy": saved(np.save, IMAGES),
    "floats.npy": saved(np.save, IMAGES / 255),
    "stored.npz": saved(np.savez, images=IMAGES, labels=np.arange(8)),
    "deflated.npz": saved(np.savez_compressed, images=IMAGES, factors=np.ones((8, 2))),
    "dsprites.npz": saved(
        np.savez_compressed,
        imgs=BITS,
        latents_classes=np.arange(8)[:, None],
        latents_values=np.arange(8)[:, None] / 7,
    ),
    "plain.h5": hdf5(),
    "chunked.h5": hdf5(chunks=(2, 5, 7), compression="gzip"),
}
CHECKSUMMED = {"images-idx3-ubyte.gz", "stored.npz", "deflated.npz", "dsprites.npz"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BETAVAE_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """HDF5 hangs on a few of the mutants."""
    monkeypatch.setattr("betavae_core.data.rehearsal._LIMIT", 3.0)


@pytest.fixture(autouse=True)
def _silence() -> Iterator[None]:
    with reporting(lambda *_: None):
        yield


def truth(name: str) -> np.ndarray:
    return BITS if name.startswith("dsprites") else IMAGES


def rewrite(path: Path, data: bytes) -> None:
    """Replace a file by a younger one, so that no conversion of the old one is found."""
    path.write_bytes(data)
    rewrite.clock += 1  # type: ignore[attr-defined]
    os.utime(path, ns=(0, rewrite.clock))  # type: ignore[attr-defined]


rewrite.clock = 0  # type: ignore[attr-defined]


def mutants(data: bytes, seed: int) -> Iterator[bytes]:
    """Cuts, flipped bits, overwritten and repeated stretches; half of them near the start."""
    rng = np.random.default_rng(seed)
    for i in range(MUTANTS):
        mutant = bytearray(data)
        reach = min(len(data), 128) if i % 8 < 4 else len(data)
        at = int(rng.integers(reach))
        if i % 4 == 0:
            del mutant[at:]
        elif i % 4 == 1:
            mutant[at] ^= 1 << int(rng.integers(8))
        elif i % 4 == 2:
            mutant[at : at + 4] = rng.bytes(4)
        else:
            mutant[at:at] = mutant[at : at + int(rng.integers(1, 40))]
        yield bytes(mutant)


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_a_data_error_or_a_valid_data_set(tmp_path: Path, name: str) -> None:
    path, refusals = tmp_path / name, []
    count = MUTANTS // 2 if name.endswith(".h5") else MUTANTS  # two files of that format
    for mutant in islice(mutants(FILES[name], seed=len(name)), count):
        rewrite(path, mutant)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                dataset = load(path)
            except DataError as error:
                refusals.append(str(error))
            else:
                assert len(dataset) == len(dataset.images) > 0
    assert all(message.startswith(f"{path}: ") for message in refusals)
    assert all(len(message.splitlines()) == 1 for message in refusals)
    assert count / 4 < len(refusals) < count


@pytest.mark.parametrize("name", sorted(CHECKSUMMED))
def test_no_flipped_bit_of_a_checksummed_file_changes_a_pixel(tmp_path: Path, name: str) -> None:
    path, data = tmp_path / name, FILES[name]
    rng = np.random.default_rng(1)
    for _ in range(MUTANTS):
        mutant = bytearray(data)
        mutant[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        rewrite(path, mutant)
        try:
            images = load(path).images
        except DataError:
            continue
        np.testing.assert_array_equal(images, truth(name))


@pytest.mark.parametrize("name", FILES)
def test_where_the_digest_is_known_no_mutant_is_read(tmp_path: Path, name: str) -> None:
    path, data = tmp_path / name, FILES[name]
    path.write_bytes(data)
    record_digest(path)
    np.testing.assert_allclose(load(path).images, truth(name), atol=0)
    for mutant in mutants(data, seed=len(name)):
        if mutant == data:
            continue
        rewrite(path, mutant)
        with pytest.raises(DataError) as caught:
            load(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_a_damaged_image_is_left_out_and_counted_or_a_valid_one(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    whole = picture_file(np.tile(IMAGES[1], (8, 8)), kind)
    for k, mutant in enumerate(mutants(whole, seed=len(kind))):
        (folder / f"{k:03}.{kind.lower()}").write_bytes(mutant)
    with pytest.warns(UserWarning, match=f" of {MUTANTS} images cannot be read: ") as said:
        dataset = from_folder(folder, Cut(size=8))
    (message,) = (str(warning.message) for warning in said)
    left_out = int(message.removeprefix(f"{folder}: ").split()[0])
    assert "\n" not in message
    assert 0 < left_out < MUTANTS
    assert dataset.images.shape[:3] == (MUTANTS - left_out, 8, 8)


def test_no_damage_to_a_conversion_is_read(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "dsprites.npz"
    path.write_bytes(FILES[path.name])
    whole = load(path)
    images = whole.images.copy()  # the mapped file is about to change
    kept = {file: file.read_bytes() for file in cache.rglob("*.*") if file.is_file()}
    assert {file.name for file in kept} == {"pixels.npy", "factors.npy", "dataset.json"}
    for file, data in kept.items():
        for mutant in islice(mutants(data, seed=len(file.name)), MUTANTS // 3):
            if mutant == data:
                continue
            file.write_bytes(mutant)
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                again = load(path)  # converted again, which is said
            harmless = file.suffix == ".json" and file.read_bytes() == mutant  # more blanks, say
            assert harmless or str(said[0].message).startswith(f"{file.parent}: ")
            np.testing.assert_array_equal(again.images, images)
            np.testing.assert_array_equal(again.factors, whole.factors)
            assert again.factor_names == whole.factor_names


@pytest.mark.parametrize(
    ("error", "cause"),
    [(ValueError("a\n  b"), "a b"), (KeyError(), "KeyError"), (MemoryError(), "MemoryError")],
)
def test_whatever_a_decoder_raises_is_one_line_with_the_file(error: Exception, cause: str) -> None:
    path = Path("a.npz")
    with pytest.raises(DataError) as caught, reading(path, "mend it"):
        raise error
    assert str(caught.value) == f"a.npz: cannot be read ({cause}); mend it"


@contextmanager
def at_most(limit: int) -> Iterator[None]:
    """Fail when the block allocates more than `limit` bytes at once."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def refused(path: Path, data: bytes, message: str) -> None:
    path.write_bytes(data)
    load(path.with_name("warm.npy"))  # imports are not what is measured
    with at_most(8 * MEGABYTE), pytest.raises(DataError, match=message):
        load(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "warm.npy").write_bytes(FILES["images.npy"])
    return tmp_path


def npy(header: str, data: bytes, version: int = 1) -> bytes:
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes((version, 0)) + length + header.encode() + data


def header(shape: tuple[int, ...]) -> str:
    return f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n"


def zipped(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return file.getvalue()


TEN_TIB = (10_240, 32_768, 32_768)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_an_idx_header_that_claims_ten_tebibytes_costs_nothing(
    folder: Path, pack: Callable[[bytes], bytes]
) -> None:
    lie = struct.pack(">HBB3I", 0, 8, 3, *TEN_TIB) + b"little"
    refused(folder / "images-idx3-ubyte", pack(lie), "more than the file can hold")


def test_a_gzip_that_goes_on_past_its_header_is_not_read_to_its_end(folder: Path) -> None:
    bomb = gzip.compress(IDX + bytes(256 * MEGABYTE), 1)
    refused(folder / "images-idx3-ubyte.gz", bomb, "more are there")


def test_a_numpy_header_that_claims_ten_tebibytes_costs_nothing(folder: Path) -> None:
    lie = npy(header(TEN_TIB), b"little")
    refused(folder / "a.npy", lie, "6 are there")
    refused(folder / "a.npz", zipped(images=lie), "6 are there")


def test_a_zip_that_holds_more_than_its_header_says_is_not_read(folder: Path) -> None:
    bomb = npy(header(IMAGES.shape), IMAGES.tobytes() + bytes(256 * MEGABYTE))
    refused(folder / "a.npz", zipped(images=bomb), "truncated or damaged")


def test_a_zip_directory_that_claims_more_than_deflate_can_hold_is_refused(folder: Path) -> None:
    data = bytearray(zipped(images=npy(header(TEN_TIB[1:]), b"little")))
    directory = data.rindex(b"PK\x01\x02")
    data[directory + 24 : directory + 28] = struct.pack("<I", 1 << 30)  # uncompressed size
    refused(folder / "a.npz", bytes(data), "more than it can hold")


def test_a_header_longer_than_any_header_is_not_read(folder: Path) -> None:
    bomb = npy(header(IMAGES.shape) + " " * 64 * MEGABYTE, IMAGES.tobytes(), version=2)
    refused(folder / "a.npy", bomb, "must have at most 10000 bytes")
    refused(folder / "a.npz", zipped(images=bomb), "must have at most 10000 bytes")


@pytest.mark.parametrize("shape", [(-8, 5, -7), (8, -5, 7), (2**62, 4, 4), (2**70, 0, 5)])
def test_impossible_shapes_are_refused(folder: Path, shape: tuple[int, ...]) -> None:
    refused(folder / "a.npy", npy(header(shape), IMAGES.tobytes()), "a.npy: ")
