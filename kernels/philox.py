"""Noise inside a kernel: Philox4x32-10 and Box-Muller, as in `reference/philox.py`.

    key     = the low and high 32 bits of the seed
    counter = (step, sample, latent // 4, stream)        lane = latent % 4

One counter gives four words, and four words give four normals, so a tile of latents is drawn with
one counter for each four columns and then spread over the lanes. The layout keeps the four lanes of
a counter in one thread: the choice among them costs no instruction and no shared memory.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011);
Box, Muller (1958).
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from betavae_core.kernels.launch import launch


@triton.jit
def words(seed, step, samples, groups, stream):
    """The four uint32 words of counter (step, samples, groups, stream) under `seed` (int64).

    The counter's parts are integers of any width, taken modulo 2^32; `samples` and `groups` are
    tiles that broadcast against each other.
    """
    return tl.philox(
        seed,
        step.to(tl.uint32),
        samples.to(tl.uint32),
        groups.to(tl.uint32),
        stream.to(tl.uint32),
    )


@triton.jit
def uniform(word):
    """The upper 24 bits of a word over 2^24: in [0, 1), exact."""
    return (word >> 8).to(tl.float32) * 5.9604644775390625e-08


@triton.jit
def minus_twice_log(x):
    """-2 ln(x) for positive normal x = 2^n (1 + f), by -2f + f^2 times a polynomial (relative
    error 4.1e-9) for f between 1/sqrt(2) - 1 and sqrt(2) - 1: near x = 1 nothing cancels."""
    from_root = x.to(tl.int32, bitcast=True) - 0x3F3504F3  # 1/sqrt(2)
    n = (from_root >> 23).to(tl.float32)
    f = ((from_root & 0x007FFFFF) + 0x3F3504F3).to(tl.float32, bitcast=True) - 1.0
    p = -0.25809395161215226 + f * 0.15244226455831622
    p = 0.26485955657433070 + f * p
    p = -0.28363555690199760 + f * p
    p = 0.33218154687753565 + f * p
    p = -0.40003953220414157 + f * p
    p = 0.50003166714564210 + f * p
    p = -0.66666651289880790 + f * p
    p = 0.99999976678648830 + f * p
    return f * (f * p - 2.0) - n * 1.3862943611198906


@triton.jit
def sine_of_turn(t):
    """sin(2πt) for |t| <= 1/4 by an odd polynomial of degree 9 (minimax, relative error 5.4e-9)."""
    y = t * t
    p = -76.57499792924143 + y * 39.71095804463294
    p = 81.60223152080628 + y * p
    p = -41.34167748343624 + y * p
    return t * (6.2831852738160245 + y * p)


@triton.jit
def normal_pair(word_even, word_odd):
    """sqrt(-2 ln(1 - u)) · (cos 2πv, sin 2πv) of the uniforms u, v of two words.

    1 - u is exact, so the logarithm keeps its accuracy near u = 0. Both angles are folded to a
    quarter turn around a zero of the sine, exactly because v is a multiple of 2^-24:

        cos 2πv = sin 2π(|v - 1/2| - 1/4)        sin 2πv = sin 2π min(v, |v - 3/4| - 1/4)

    Over all 2^24 values of v both are within 2.0e-7 of their float64 values, and over all u the
    radius is within 4.7e-7, so a normal is within 1.7e-6; and nothing has the slow path for large
    arguments that makes `tl.cos` spill.
    """
    u = uniform(word_even)
    v = uniform(word_odd)
    radius = tl.sqrt(minus_twice_log(1.0 - u))
    cosine = sine_of_turn(tl.abs(v - 0.5) - 0.25)
    sine = sine_of_turn(tl.minimum(v, tl.abs(v - 0.75) - 0.25))
    return radius * cosine, radius * sine


@triton.jit
def normal_tile(seed, step, samples, groups, stream, ROWS: tl.constexpr, GROUPS: tl.constexpr):
    """(ROWS, 4·GROUPS) standard normals: row r, column 4g + lane is lane `lane` of (r, g)."""
    w0, w1, w2, w3 = words(seed, step, samples[:, None], groups[None, :], stream)
    n0, n1 = normal_pair(w0, w1)
    n2, n3 = normal_pair(w2, w3)
    lane = tl.arange(0, 4)[None, None, :]
    low = tl.where(lane == 0, n0[:, :, None], n1[:, :, None])
    high = tl.where(lane == 2, n2[:, :, None], n3[:, :, None])
    return tl.reshape(tl.where(lane < 2, low, high), (ROWS, 4 * GROUPS))


@triton.jit(do_not_specialize=["first_sample", "stream"])
def draw_kernel(
    key, words_out, normals_out, first_sample, stream, ROWS: tl.constexpr, GROUPS: tl.constexpr
):
    """words_out and normals_out (ROWS, 4·GROUPS): what a kernel draws for its tile, stored."""
    rows = tl.arange(0, ROWS).to(tl.int64)
    groups = tl.arange(0, GROUPS)
    seed = tl.load(key)
    step = tl.load(key + 1)
    samples = first_sample + rows
    w0, w1, w2, w3 = words(seed, step, samples[:, None], groups[None, :], stream)
    at = words_out + rows[:, None] * (4 * GROUPS) + 4 * groups[None, :]
    tl.store(at, w0.to(tl.int64))
    tl.store(at + 1, w1.to(tl.int64))
    tl.store(at + 2, w2.to(tl.int64))
    tl.store(at + 3, w3.to(tl.int64))
    normals = normal_tile(seed, step, samples, groups, stream, ROWS, GROUPS)
    cols = tl.arange(0, 4 * GROUPS)
    tl.store(normals_out + rows[:, None] * (4 * GROUPS) + cols[None, :], normals)


def draw(key: Tensor, B: int, D: int, first_sample: int, stream: int) -> tuple[Tensor, Tensor]:
    """The words (int64) and the normals (float32), (B, D) each, that kernels draw for a batch.

    No kernel needs them stored; this is for comparing them with the oracle's. B·D is at most a
    tile: keep it under a few thousand.
    """
    rows, groups = triton.next_power_of_2(B), triton.next_power_of_2(triton.cdiv(D, 4))
    words_out = torch.empty((rows, 4 * groups), dtype=torch.int64, device=key.device)
    normals_out = torch.empty((rows, 4 * groups), dtype=torch.float32, device=key.device)
    tile = {"ROWS": rows, "GROUPS": groups, "num_warps": 4}
    launch(draw_kernel, (1,), key, words_out, normals_out, first_sample, stream, **tile)
    return words_out[:B, :D], normals_out[:B, :D]
