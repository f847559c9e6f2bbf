"""Damage: what may have happened to the bytes of a file, by accident or by malice."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np

HEADER = 256  # bytes at either end of a file that are cut at every one of them
LIES = [struct.pack(form, n) for form in (">I", "<I") for n in (0, 1, 2**31 - 1, 2**32 - 1)] + [
    struct.pack(form, n) for form in ("<q", "<Q") for n in (2**40, 2**62)
]


class Hostile:
    """Unpickled, it leaves a file at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.path,)


def mutants(data: bytes, number: int, trap: Path, seed: int = 0) -> Iterator[bytes]:
    """`number` of them, none of them `data`: first every cut in a header, then all kinds in turn.

    One kind is a pickle, in place of the file or of a stretch of it, that would make `trap`.
    """
    rng = np.random.default_rng(seed)
    cuts = {*range(min(HEADER, len(data))), *(len(data) - 1 - k for k in range(HEADER))}
    chosen = sorted(cut for cut in cuts if 0 <= cut < len(data))[:: max(1, len(cuts) * 3 // number)]
    kinds = [_flip, _overwrite, _lie, _swap, _repeat, _cut, _poison]
    poison = pickle.dumps(Hostile(trap))
    made = [data[:cut] for cut in chosen]
    yield from made
    left = number - len(made)
    for k in count():
        if not left:
            return
        mutant = kinds[k % len(kinds)](bytearray(data), rng, poison)
        if mutant != data:
            left -= 1
            yield bytes(mutant)


def _place(data: bytearray, rng: np.random.Generator) -> int:
    """Half of the time near the start or the end, where the headers are."""
    near = min(HEADER, len(data))
    where = [int(rng.integers(near)), len(data) - 1 - int(rng.integers(near))]
    where += [int(rng.integers(len(data)))] * 2
    return where[int(rng.integers(4))]


def _flip(data: bytearray, rng: np.random.Generator, _: bytes) -> bytearray:
    data[_place(data, rng)] ^= 1 << int(rng.integers(8))
    return data


def _overwrite(data: bytearray, rng: np.random.Generator, _: bytes) -> bytearray:
    at = _place(data, rng)
    data[at : at + 4] = rng.bytes(4)
    return data


def _lie(data: bytearray, rng: np.random.Generator, _: bytes) -> bytearray:
    at, lie = _place(data, rng), LIES[int(rng.integers(len(LIES)))]
    data[at : at + len(lie)] = lie
    return data


def _swap(data: bytearray, rng: np.random.Generator, _: bytes) -> bytearray:
    at, width = _place(data, rng), int(rng.choice([1, 2, 4, 8]))
    one, other = data[at : at + width], data[at + width : at + 2 * width]
    data[at : at + 2 * width] = other + one
    return data


def _repeat(data: bytearray, rng: np.random.Generator, _: bytes) -> bytearray:
    at = _place(data, rng)
    data[at:at] = data[at : at + int(rng.integers(1, 40))]
    return data


def _cut(data: bytearray, rng: np.random.Generator, _: bytes) -> bytearray:
    del data[_place(data, rng) :]
    return data


def _poison(data: bytearray, rng: np.random.Generator, poison: bytes) -> bytearray:
    at = _place(data, rng)
    data[at : at + len(poison)] = poison
    return bytearray(poison) if rng.uniform() < 0.1 else data
