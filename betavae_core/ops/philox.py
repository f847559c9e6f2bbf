"""Philox4x32-10 in PyTorch int64 arithmetic: the same integers as the oracle and the kernels.

A draw is a function of a key `[seed, step]`, an int64 tensor that lives on the device, and of
(sample, latent, stream); see `betavae_core.reference.philox` for the layout of the counter, the
conversion to uniforms and normals, and the sources. Keys may be stacked, (..., 2): one call then
draws the noise of many steps, (..., B, D), which on a CPU costs little more than that of one.
"""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor

NOISE, ORDER, SPLIT, EVALUATION, INITIALISATION = range(5)  # the streams

_MULTIPLIERS = (0xD2511F53 - 2**32, 0xCD9E8D57 - 2**32)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_SHUFFLE_ROUNDS = 32
_MASK = 0xFFFFFFFF


def make_key(seed: int, step: int = 0, device: torch.device | str = "cpu") -> Tensor:
    """The key `[seed, step]` on `device`; the seed is taken modulo 2^64."""
    signed = (seed + 2**63) % 2**64 - 2**63
    return torch.tensor([signed, step], dtype=torch.int64, device=device)


def philox4x32(counter: tuple[Tensor | int, ...], seed: Tensor) -> tuple[Tensor, ...]:
    """Four tensors of 32-bit words at `counter` (four broadcastable int64 tensors or ints).

    With a multiplier M and m = M - 2^32, of under 30 bits, M c = m c + 2^32 c: the low half is that
    of m c, the high half that of m c plus c. So nothing exceeds 63 bits. Letting M c wrap would do
    in eager PyTorch, but inductor turns it into C++, where a signed overflow may do anything.
    """
    k0, k1 = seed & _MASK, (seed >> 32) & _MASK
    c0, c1, c2, c3 = counter
    for _ in range(_ROUNDS):
        p0, p1 = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c2 = ((p1 >> 32) + c2) ^ c1 ^ k0, ((p0 >> 32) + c0) ^ c3 ^ k1
        c1, c3 = p1 & _MASK, p0 & _MASK
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3  # type: ignore[return-value]  # the first round makes tensors of ints


def bits(key: Tensor, samples: Tensor, latents: int, stream: int) -> Tensor:
    """(..., B, D) int64 words in [0, 2^32) for keys (..., 2) and `samples` (B,)."""
    groups = torch.arange(-(-latents // 4), device=key.device)
    seed, step = key[..., 0, None, None], key[..., 1, None, None] & _MASK
    words = philox4x32((step, samples[:, None] & _MASK, groups, stream), seed)
    return torch.stack(torch.broadcast_tensors(*words), dim=-1).flatten(-2)[..., :latents]


def uniform(
    key: Tensor, samples: Tensor, latents: int, stream: int, dtype: torch.dtype = torch.float32
) -> Tensor:
    """(..., B, D) uniforms on [0, 1), multiples of 2^-24: the same numbers in any dtype."""
    return (bits(key, samples, latents, stream) >> 8).to(dtype) * 2.0**-24


def normal(
    key: Tensor,
    samples: Tensor,
    latents: int,
    stream: int = NOISE,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """(..., B, D) standard normals by Box-Muller; float32 is within 4e-6 of the oracle."""
    u = uniform(key, samples, 4 * -(-latents // 4), stream, dtype)
    u0, u1 = u.unflatten(-1, (-1, 2)).unbind(-1)
    radius, angle = (-2 * torch.log1p(-u0)).sqrt(), 2 * pi * u1
    pairs = torch.stack((radius * angle.cos(), radius * angle.sin()), dim=-1)
    return pairs.flatten(-2)[..., :latents]


def epoch_order(seed: int, epochs: Tensor, n: int) -> Tensor:
    """(E, n): for each epoch the keyed bijection of [0, n) that orders the data.

    The swap-or-not shuffle of the oracle. All 32 rounds of an element share one 32-bit word, so
    the words of an epoch are drawn once and gathered, rather than drawn anew each round.
    """
    device, key = epochs.device, make_key(seed, device=epochs.device)[0]
    index = torch.arange(n, device=device)
    words = philox4x32((epochs[:, None], index, 0, ORDER), key)[0]
    rounds = torch.arange(_SHUFFLE_ROUNDS, device=device)
    shifts = (philox4x32((epochs[:, None], rounds, 1, ORDER), key)[0] * n) >> 32
    x = index.expand(len(epochs), n)
    for i in range(_SHUFFLE_ROUNDS):
        partner = shifts[:, i, None] - x
        partner = torch.where(partner < 0, partner + n, partner)
        word = words.gather(1, torch.maximum(x, partner))
        x = torch.where((word >> i) & 1 == 1, partner, x)
    return x


def draw_in_kernel(
    key: Tensor, rows: int, latents: int, first_sample: int, stream: int
) -> tuple[Tensor, Tensor]:
    """The words (int64) and normals (float32), (rows, latents), that a Triton kernel draws."""
    from betavae_core.kernels.philox import draw

    return draw(key, rows, latents, first_sample, stream)
