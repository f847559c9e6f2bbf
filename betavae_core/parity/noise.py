"""Philox and what is drawn from it: published vectors, integers, normals, the order of an epoch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from betavae_core.ops import philox
from betavae_core.ops.backend import HAS_TRITON
from betavae_core.parity.comparison import Comparison
from betavae_core.reference import philox as oracle

# Random123's known answers for philox4x32-10: counter, key, words.
_VECTORS = (
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
)
_SEED, _STEP, _FIRST, _B, _D = 0x0123456789ABCDEF, 7, 1000, 37, 11
_NORMAL = 4e-6  # absolute: float32 sine, cosine and logarithm at radii up to 5.8


def compare_philox(device: torch.device) -> Iterator[Comparison]:
    """The production path's draws, on PyTorch and on Triton where it is installed."""
    for number, (counter, (low, high), words) in enumerate(_VECTORS):
        seed = philox.make_key(low | high << 32, device=device)[0]
        place = tuple(torch.tensor(c, device=device) for c in counter)
        got = torch.stack(philox.philox4x32(place, seed))
        yield Comparison(f"philox.vector_{number}", torch.int64, got, np.array(words))
        mine = np.array([int(w) for w in oracle.philox4x32(counter, (low, high))])
        yield Comparison(f"philox.oracle_vector_{number}", torch.int64, torch.tensor(mine), words)
    key, samples = philox.make_key(_SEED, _STEP, device), torch.arange(_FIRST, _FIRST + _B)
    rows = samples.numpy()
    got = philox.bits(key, samples.to(device), _D, philox.NOISE)
    expected = oracle.bits(_SEED, _STEP, rows, _D, oracle.NOISE).astype(np.int64)
    yield Comparison("philox.words", torch.int64, got, expected)
    expected = oracle.normal(_SEED, _STEP, rows, _D)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, _NORMAL)):
        got = philox.normal(key, samples.to(device), _D, philox.NOISE, dtype)
        yield Comparison("philox.normal (absolute)", dtype, got, expected, tolerance, True)
    epochs = torch.arange(3, device=device)
    expected = np.stack([oracle.epoch_order(_SEED, epoch, 1009) for epoch in range(3)])
    got = philox.epoch_order(_SEED, epochs, 1009)
    yield Comparison("philox.epoch_order", torch.int64, got, expected)
    if HAS_TRITON:
        yield from _compare_triton(key)


def _compare_triton(key: torch.Tensor) -> Iterator[Comparison]:
    """The kernels' draws: compiled on a GPU, in Triton's interpreter on a CPU."""
    rows = np.arange(_FIRST, _FIRST + _B)
    words, normals = philox.draw_in_kernel(key, _B, _D, _FIRST, philox.NOISE)
    expected = oracle.bits(_SEED, _STEP, rows, _D, oracle.NOISE).astype(np.int64)
    yield Comparison("philox.triton.words", torch.int64, words, expected)
    expected = oracle.normal(_SEED, _STEP, rows, _D)
    name = "philox.triton.normal (absolute)"
    yield Comparison(name, torch.float32, normals, expected, _NORMAL, True)
