"""Damaged, lying and hostile files: one clear DataError, no code run, no memory taken on trust."""

from __future__ import annotations

import ast
import gzip
import io
import os
import pickle
import struct
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from betavae_core.data import DataError, load
from betavae_core.data.files import reading

ROOT = Path(__file__).resolve().parents[1]
IMAGES = np.random.default_rng(0).integers(0, 256, (8, 5, 7), dtype=np.uint8)
MUTANTS = 400
MEGABYTE = 1 << 20


def saved(save: Callable, *arrays: np.ndarray, **named: np.ndarray) -> bytes:
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


IDX = struct.pack(">HBB3I", 0, 8, 3, *IMAGES.shape) + IMAGES.tobytes()
FILES = {
    "images-idx3-ubyte": IDX,
    "images-idx3-ubyte.gz": gzip.compress(IDX),
    "images.npy": saved(np.save, IMAGES),
    "floats.npy": saved(np.save, IMAGES / 255),
    "stored.npz": saved(np.savez, images=IMAGES, labels=np.arange(8)),
    "deflated.npz": saved(np.savez_compressed, images=IMAGES, factors=np.ones((8, 2))),
}
CHECKSUMMED = {"images-idx3-ubyte.gz", "stored.npz", "deflated.npz"}


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
    for mutant in mutants(FILES[name], seed=len(name)):
        path.write_bytes(mutant)
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
    assert MUTANTS / 4 < len(refusals) < MUTANTS


@pytest.mark.parametrize("name", sorted(CHECKSUMMED))
def test_no_flipped_bit_of_a_checksummed_file_changes_a_pixel(tmp_path: Path, name: str) -> None:
    path, data = tmp_path / name, FILES[name]
    rng = np.random.default_rng(1)
    for _ in range(MUTANTS):
        mutant = bytearray(data)
        mutant[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        path.write_bytes(mutant)
        try:
            images = load(path).images
        except DataError:
            continue
        np.testing.assert_array_equal(images, IMAGES)


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


class Hostile:
    """Unpickling one of these makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Callable, tuple[str]]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "images-idx3-ubyte", "a.pkl"])
def test_pickled_objects_are_refused_and_never_run(tmp_path: Path, name: str) -> None:
    trap = tmp_path / "sprung"
    array = np.empty((2, 3, 3), object)
    array[...] = Hostile(trap)
    data = {
        "a.npy": lambda: saved(np.save, array),
        "a.npz": lambda: saved(np.savez, images=array, labels=array[:, 0, 0]),
    }.get(name, lambda: pickle.dumps(Hostile(trap)))()
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError) as caught:
        load(tmp_path / name)
    assert not trap.exists()
    if name.startswith("a.np"):
        assert "pickled Python objects, which are never loaded" in str(caught.value)
    pickle.loads(pickle.dumps(Hostile(trap)))
    assert trap.exists()  # the trap works


def called(node: ast.Call) -> str:
    return ast.unparse(node.func)


def unpickles(node: ast.Call) -> bool:
    """Whether a call may unpickle: by its name, or by what it is told."""
    arguments = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if called(node) == "torch.load":  # safetensors.torch.load holds no code
        return arguments.get("weights_only") != "True"
    if arguments.get("allow_pickle", "False") != "False":
        return True
    module, _, function = called(node).rpartition(".")
    return function in ("Unpickler", "read_pickle") or (
        module in ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve")
        and function in ("load", "loads", "open")
    )


@pytest.mark.parametrize(
    "bad",
    [
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "pickle.load(file)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "joblib.load(path)",
    ],
)
def test_the_search_for_unpickling_finds_it(bad: str) -> None:
    call = ast.parse(bad).body[0].value  # type: ignore[attr-defined]
    assert unpickles(call)


def test_no_path_of_the_repository_unpickles() -> None:
    folders = ("betavae_core", "kernels", "reference", "bench", "tests")
    files = [ROOT / "cli.py", *(f for folder in folders for f in (ROOT / folder).rglob("*.py"))]
    assert len(files) > 10
    found = [
        f"{file.relative_to(ROOT)}:{node.lineno}: {called(node)}"
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and unpickles(node)
    ]
    springing = f"tests/{Path(__file__).name}:"  # the trap above is sprung to show that it works
    assert [place for place in found if not place.startswith(springing)] == []
