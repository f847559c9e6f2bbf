"""A data set in a folder: the pixels as a memory-mapped .npy, and beside them what is known.

    pixels.npy  factors.npy  labels.npy  dataset.json

`dataset.json` holds the rest of the data set, a remark, and the SHA-256 of every file, itself
included. All are compared when the folder is opened, so what was damaged is never read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from betavae_core.data.dataset import Dataset
from betavae_core.data.files import digest_of, reading
from betavae_core.errors import DataError

_FACTS = "dataset.json"
_ROWS = 4096  # rows changed at a time
_HEADER = 128  # bytes of the header of pixels.npy, whatever the shape
_REMEDY = "delete the folder, it is made again"


class PixelWriter:
    """Rows of pixels appended to the .npy file `path`, however many they turn out to be."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._file.write(bytes(_HEADER))
        self._path, self._rows, self._row = path, 0, ()

    def append(self, rows: NDArray[np.uint8]) -> None:
        """Write `rows` (n, …) uint8, all of one shape."""
        if self._rows and rows.shape[1:] != self._row:
            raise DataError(f"images must have one shape, got {self._row} and {rows.shape[1:]}")
        self._row, self._rows = rows.shape[1:], self._rows + len(rows)
        self._file.write(np.ascontiguousarray(rows, np.uint8).data)

    def rewrite(self, change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]) -> None:
        """Replace all rows by what `change` makes of them, some at a time."""
        rows = self.finish()
        self._path.unlink()  # the mapping stays
        self.__init__(self._path)  # type: ignore[misc]
        for start in range(0, len(rows), _ROWS):
            self.append(change(rows[start : start + _ROWS]))

    def finish(self) -> NDArray[np.uint8]:
        """All rows (N, …), mapped into memory; the writer takes no more."""
        if not self._rows:
            raise DataError("images must not be empty, got none")
        self._file.seek(0)
        self._file.write(_header((self._rows, *self._row)))
        self._file.close()
        return _mapped(self._path)

    def __enter__(self) -> PixelWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self._file.close()


def write(folder: Path, dataset: Dataset, remark: str) -> None:
    """Write everything but `pixels.npy`, which a PixelWriter has written."""
    for name in ("factors", "labels"):
        if (array := getattr(dataset, name)) is not None:
            np.save(folder / f"{name}.npy", array)
    facts = {
        "name": dataset.name,
        "levels": dataset.levels,
        "image_shape": list(dataset.image_shape),
        "packed": dataset.packed,
        "factor_names": list(dataset.factor_names),
        "factor_values": {k: np.asarray(v).tolist() for k, v in dataset.factor_values.items()},
        "label_names": [[int(label), name] for label, name in dataset.label_names.items()],
        "test_from": dataset.test_from,
        "remark": remark,
        "files": {file.name: digest_of(file) for file in sorted(folder.glob("*.npy"))},
    }
    text = json.dumps(facts | {"sha256": _digest(facts)}, indent=1)
    (folder / _FACTS).write_text(text, encoding="utf-8")


def read(folder: Path) -> tuple[Dataset, str]:
    """The data set in `folder`, its pixels mapped, and the remark. DataError when damaged."""
    with reading(folder, _REMEDY):
        facts = _read_facts(folder)
        arrays = {name.removesuffix(".npy"): _mapped(folder / name) for name in facts["files"]}
        dataset = Dataset(
            name=facts["name"],
            levels=facts["levels"],
            image_shape=tuple(facts["image_shape"]),
            packed=facts["packed"],
            factor_names=tuple(facts["factor_names"]),
            factor_values={k: np.array(v) for k, v in facts["factor_values"].items()},
            label_names=dict(map(tuple, facts["label_names"])),
            test_from=facts["test_from"],
            **arrays,
        )
        return dataset, facts["remark"]


def _read_facts(folder: Path) -> dict[str, Any]:
    """What `dataset.json` says, when it and every file are as they were written."""
    facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    damaged = [] if facts.pop("sha256") == _digest(facts) else [_FACTS]
    damaged += [
        name for name, sha256 in facts["files"].items() if digest_of(folder / name) != sha256
    ]
    if damaged:
        raise DataError(f"{damaged[0]} is damaged: its SHA-256 is not the recorded one; {_REMEDY}")
    return facts


def _digest(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _mapped(path: Path) -> NDArray[Any]:
    return np.asarray(np.lib.format.open_memmap(path, mode="r"))


def _header(shape: tuple[int, ...]) -> bytes:
    """A .npy header of _HEADER bytes whatever the shape, so that it can be written last."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    length = (_HEADER - 10).to_bytes(2, "little")
    return b"\x93NUMPY\x01\x00" + length + text.ljust(_HEADER - 11).encode() + b"\n"
