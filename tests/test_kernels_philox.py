"""The kernels' noise is the oracle's: the same integers, and normals within 4e-6."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from kernel_cases import NORMAL_ERROR

from betavae_core.kernels.launch import launch
from betavae_core.kernels.philox import draw, normal_pair
from betavae_core.reference import philox

SEEDS = (0, 1, 0xFFFFFFFF, 2**32, 0x0123456789ABCDEF, 2**63 - 1, -1, -(2**63))


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
        words, _ = draw(torch.tensor([seed, step]), 13, 30, first, stream)
        exact = philox.bits(seed, step, first + np.arange(13), 30, stream)
        np.testing.assert_array_equal(words.numpy().astype(np.uint64), exact)


def test_a_tile_of_normals_is_that_of_the_oracle() -> None:
    _, normals = draw(torch.tensor([7, 3]), 512, 128, 1000, 2)
    exact = philox.normal(7, 3, 1000 + np.arange(512), 128, stream=2)
    assert np.abs(normals.numpy() - exact).max() < NORMAL_ERROR


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
    key = torch.tensor([7, 3])
    _, before = draw(key, 16, 8, 0, 0)
    key += torch.tensor([0, 1])
    _, after = draw(key, 16, 8, 0, 0)
    assert not torch.isclose(before, after).any()
    assert np.abs(after.numpy() - philox.normal(7, 4, np.arange(16), 8)).max() < NORMAL_ERROR
