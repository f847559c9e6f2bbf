"""The kernels' noise is the oracle's: the same integers, and normals within 4e-6."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from kernel_cases import NORMAL_ERROR

from betavae_core.kernels.launch import launch
from betavae_core.kernels.philox import normal_pair, normal_tile, words
from betavae_core.reference import philox

SEEDS = (0, 1, 0xFFFFFFFF, 2**32, 0x0123456789ABCDEF, 2**63 - 1, -1, -(2**63))


@triton.jit
def words_kernel(key, out, first_sample, stream, ROWS: tl.constexpr, GROUPS: tl.constexpr):
    rows = tl.arange(0, ROWS).to(tl.int64)
    groups = tl.arange(0, GROUPS)
    samples = (first_sample + rows)[:, None]
    w0, w1, w2, w3 = words(tl.load(key), tl.load(key + 1), samples, groups[None, :], stream)
    at = out + rows[:, None] * (4 * GROUPS) + 4 * groups[None, :]
    tl.store(at, w0.to(tl.int64))
    tl.store(at + 1, w1.to(tl.int64))
    tl.store(at + 2, w2.to(tl.int64))
    tl.store(at + 3, w3.to(tl.int64))


@triton.jit
def normals_kernel(key, out, first_sample, stream, ROWS: tl.constexpr, GROUPS: tl.constexpr):
    rows = tl.arange(0, ROWS).to(tl.int64)
    groups = tl.arange(0, GROUPS)
    step = tl.load(key + 1)
    tile = normal_tile(tl.load(key), step, first_sample + rows, groups, stream, ROWS, GROUPS)
    tl.store(out + rows[:, None] * (4 * GROUPS) + tl.arange(0, 4 * GROUPS)[None, :], tile)


@triton.jit
def pairs_kernel(even, odd, cosine, sine, N: tl.constexpr):
    at = tl.program_id(0) * N + tl.arange(0, N)
    c, s = normal_pair(tl.load(even + at).to(tl.uint32), tl.load(odd + at).to(tl.uint32))
    tl.store(cosine + at, c)
    tl.store(sine + at, s)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_words_are_those_of_the_oracle(seed: int) -> None:
    rng = np.random.default_rng(abs(seed) % 2**32)
    for stream in range(5):
        step, first = int(rng.integers(2**33)), int(rng.integers(2**32 - 8, 2**32))
        out = torch.zeros(16, 32, dtype=torch.int64)
        launch(
            words_kernel, (1,), torch.tensor([seed, step]), out, first, stream, ROWS=16, GROUPS=8
        )
        exact = philox.bits(seed, step, first + np.arange(16), 32, stream)
        np.testing.assert_array_equal(out.numpy().astype(np.uint64), exact)


def test_a_tile_of_normals_is_that_of_the_oracle() -> None:
    out = torch.zeros(512, 128)
    launch(normals_kernel, (1,), torch.tensor([7, 3]), out, 1000, 2, ROWS=512, GROUPS=32)
    exact = philox.normal(7, 3, 1000 + np.arange(512), 128, stream=2)
    assert np.abs(out.numpy() - exact).max() < NORMAL_ERROR


def uniforms_of(word: torch.Tensor) -> np.ndarray:
    return (word.numpy() >> 8) / 2.0**24


@pytest.mark.parametrize("swept", ["radius", "angle"])
def test_every_sixteenth_uniform_and_both_ends_give_an_accurate_normal(swept: str) -> None:
    sweep = torch.cat([torch.arange(0, 2**32, 2**12), torch.arange(2**32 - 2**12, 2**32, 2**8)])
    sweep = torch.cat([sweep, torch.arange(0, (2**20 - 16) * 2**8, 2**8)])  # all the small ones
    largest = torch.full_like(sweep, 2**32 - 1)
    even, odd = (sweep, torch.zeros_like(sweep)) if swept == "radius" else (largest, sweep)
    cosine, sine = torch.zeros(len(sweep)), torch.zeros(len(sweep))
    launch(pairs_kernel, (2,), even, odd, cosine, sine, N=len(sweep) // 2)
    radius = np.sqrt(-2 * np.log1p(-uniforms_of(even)))
    angle = 2 * np.pi * uniforms_of(odd)
    assert np.abs(cosine.numpy() - radius * np.cos(angle)).max() < NORMAL_ERROR
    assert np.abs(sine.numpy() - radius * np.sin(angle)).max() < NORMAL_ERROR


def test_the_key_is_read_when_the_kernel_runs() -> None:
    """A captured graph replays the launch: what changes is the memory that the key points to."""
    key, out = torch.tensor([7, 3]), torch.zeros(2, 16, 8)
    launch(normals_kernel, (1,), key, out[0], 0, 0, ROWS=16, GROUPS=2)
    key += torch.tensor([0, 1])
    launch(normals_kernel, (1,), key, out[1], 0, 0, ROWS=16, GROUPS=2)
    assert not torch.isclose(out[0], out[1]).any()
    assert np.abs(out[1].numpy() - philox.normal(7, 4, np.arange(16), 8)).max() < NORMAL_ERROR
