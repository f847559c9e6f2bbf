"""Randomness as a pure function: Philox4x32-10 and everything drawn from it.

A draw has no state. It is a function of the seed and of four 32-bit counter words:

    key     = (seed & 0xFFFFFFFF, seed >> 32)
    counter = (step, sample, latent // 4, stream)        lane = latent % 4

`step` counts optimizer steps (or epochs, where the order of the data is drawn), `sample` is the
row in the *global* batch, and `stream` keeps the uses apart. One evaluation gives four 32-bit
words, one a lane.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011);
Box, Muller (1958); Hoang, Morris, Rogaway, "An enciphering scheme based on a card shuffle"
(CRYPTO 2012).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

NOISE, ORDER, SPLIT, EVALUATION, INITIALISATION = range(5)  # the streams

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)  # added to the key after each round
ROUNDS = 10
SHUFFLE_ROUNDS = 32
_MASK = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)

Words = tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]


def philox4x32(counter: tuple[ArrayLike, ...], key: tuple[int, int]) -> Words:
    """Four 32-bit words (as uint64 arrays) of Philox4x32-10 at `counter` under `key`.

    A round maps (c0, c1, c2, c3) to
        (hi(M1 c2) ^ c1 ^ k0,  lo(M1 c2),  hi(M0 c0) ^ c3 ^ k1,  lo(M0 c0)),
    where hi and lo are the halves of the 64-bit product.
    """
    words = (np.asarray(word).astype(np.uint64) & _MASK for word in counter)
    c0, c1, c2, c3 = np.broadcast_arrays(*words)
    m0, m1 = np.uint64(MULTIPLIERS[0]), np.uint64(MULTIPLIERS[1])
    for i in range(ROUNDS):
        k0, k1 = (np.uint64((k + i * w) & 0xFFFFFFFF) for k, w in zip(key, WEYL, strict=True))
        p0, p1 = m0 * c0, m1 * c2
        c0, c1, c2, c3 = (p1 >> _32) ^ c1 ^ k0, p1 & _MASK, (p0 >> _32) ^ c3 ^ k1, p0 & _MASK
    return c0, c1, c2, c3


def key_of(seed: int) -> tuple[int, int]:
    """The two key words of a seed (taken modulo 2^64): its low and its high 32 bits."""
    return seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF


def bits(seed: int, step: int, samples: ArrayLike, latents: int, stream: int) -> NDArray[np.uint64]:
    """(B, D) 32-bit words, one for each (sample, latent); `samples` is (B,)."""
    groups = np.arange(-(-latents // 4))
    rows = np.asarray(samples)[:, None]
    words = philox4x32((step, rows, groups, stream), key_of(seed))
    return np.stack(words, axis=-1).reshape(len(rows), 4 * len(groups))[:, :latents]


def uniform(
    seed: int, step: int, samples: ArrayLike, latents: int, stream: int
) -> NDArray[np.float64]:
    """(B, D) uniforms on [0, 1): the upper 24 bits of each word over 2^24, exact in float32 too."""
    return (bits(seed, step, samples, latents, stream) >> np.uint64(8)) / 2.0**24


def normal(
    seed: int, step: int, samples: ArrayLike, latents: int, stream: int = NOISE
) -> NDArray[np.float64]:
    """(B, D) standard normals by Box-Muller, lanes (0, 1) and (2, 3) a pair each:

        (n0, n1) = sqrt(-2 ln(1 - u0)) · (cos 2πu1, sin 2πu1)

    with u the 24-bit uniforms, so 1 - u lies in (0, 1] and |n| <= sqrt(48 ln 2) = 5.77.
    """
    u = uniform(seed, step, samples, 4 * -(-latents // 4), stream)
    u = u.reshape(len(u), u.shape[1] // 2, 2)
    radius, angle = np.sqrt(-2.0 * np.log1p(-u[..., 0])), 2.0 * np.pi * u[..., 1]
    pairs = np.stack((radius * np.cos(angle), radius * np.sin(angle)), axis=-1)
    return pairs.reshape(len(u), 2 * u.shape[1])[:, :latents]


def epoch_order(
    seed: int, epoch: int, n: int, positions: ArrayLike | None = None
) -> NDArray[np.int64]:
    """Where each position of an epoch looks in the data: a keyed bijection of [0, n).

    The swap-or-not shuffle, for round i = 0 … 31:

        K_i = (bits(seed, epoch, sample=i, latent=4) · n) >> 32         a random shift
        x'  = (K_i - x) mod n                                           its partner
        x  <- x' if bit i of bits(seed, epoch, max(x, x'), latent=0) else x

    Each round is its own inverse because x and x' share max(x, x'), so the whole is a bijection
    for any n, with nothing stored and no rejected draws. `positions` defaults to all of [0, n).
    """
    x = np.arange(n) if positions is None else np.asarray(positions, dtype=np.int64)
    rounds = np.arange(SHUFFLE_ROUNDS)
    shifts = (philox4x32((epoch, rounds, 1, ORDER), key_of(seed))[0] * np.uint64(n)) >> _32
    for i, shift in enumerate(shifts.astype(np.int64)):
        partner = (shift - x) % n
        word = philox4x32((epoch, np.maximum(x, partner), 0, ORDER), key_of(seed))[0]
        x = np.where((word >> np.uint64(i)) & np.uint64(1), partner, x)
    return x
