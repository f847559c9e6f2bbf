"""Philox4x32-10 in PyTorch int64 arithmetic: the same integers as the oracle and the kernels.

A draw is a function of a key `[seed, step]`, an int64 tensor that lives on the device, and of
(sample, latent, stream); see `betavae_core.reference.philox` for the layout of the counter, the
conversion to uniforms and normals, and the sources. Keys may be stacked, (..., 2): one call then
draws the noise of many steps, (..., B, D), which on a CPU costs little more than that of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import pi

import torch
from torch import Tensor

NOISE, ORDER, SPLIT, EVALUATION, INITIALISATION = range(5)  # the streams

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_SMALLER = tuple(m - 2**32 for m in _MULTIPLIERS)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_SHUFFLE_ROUNDS = 32
_MASK = 0xFFFFFFFF
_DENSE = torch.contiguous_format
_CHUNK = 2**16  # counters, each of 8 bytes in about six temporaries


def make_key(seed: int, step: int = 0, device: torch.device | str = "cpu") -> Tensor:
    """The key `[seed, step]` on `device`; the seed is taken modulo 2^64."""
    signed = (seed + 2**63) % 2**64 - 2**63
    return torch.tensor([signed, step], dtype=torch.int64, device=device)


def philox4x32(counter: tuple[Tensor | int, ...], seed: Tensor) -> tuple[Tensor, ...]:
    """Four tensors of 32-bit words at `counter` (four broadcastable int64 tensors or ints).

    The second and the fourth word of a round are the low halves of products; their high halves
    are masked away only where they have met the next round's words, which saves passes. What
    remains goes on in place: on a CPU new memory costs several times what the arithmetic does.
    """
    k0, k1 = seed & _MASK, (seed >> 32) & _MASK
    words = (torch.as_tensor(word, device=seed.device) for word in counter)
    c0, c1, c2, c3 = (word.clone(memory_format=_DENSE) for word in torch.broadcast_tensors(*words))
    high0, high1 = torch.empty_like(c0), torch.empty_like(c0)
    for _ in range(_ROUNDS):
        _multiply(0, c0, high0)
        _multiply(1, c2, high1)
        high1.bitwise_xor_(c1).bitwise_xor_(k0).bitwise_and_(_MASK)
        high0.bitwise_xor_(c3).bitwise_xor_(k1).bitwise_and_(_MASK)
        c0, c1, c2, c3, high0, high1 = high1, c2, high0, c0, c1, c3
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1.bitwise_and_(_MASK), c2, c3.bitwise_and_(_MASK)


def _multiply(which: int, c: Tensor, high: Tensor) -> None:
    """Turn c in [0, 2^32) and `high` into integers that end in the low and the high half of M c.

    M c wraps in 64 bits, which eager PyTorch may do. Inductor turns it into C++, where a signed
    overflow may do anything: so there m = M - 2^32, of under 30 bits, and M c = m c + 2^32 c.
    """
    if torch.compiler.is_compiling():
        product = _SMALLER[which] * c
        high.copy_((product >> 32) + c)
        c.copy_(product)
    else:
        torch.bitwise_right_shift(c.mul_(_MULTIPLIERS[which]), 32, out=high)


def words(key: Tensor, samples: Tensor, latents: int, stream: int) -> tuple[Tensor, ...]:
    """Lanes 0 to 3, each (..., B, ceil(D / 4)) int64 in [0, 2^32)."""
    groups = torch.arange(-(-latents // 4), device=key.device)
    seed, step = key[..., 0, None, None], key[..., 1, None, None] & _MASK
    return philox4x32((step, samples[:, None] & _MASK, groups, stream), seed)


def bits(key: Tensor, samples: Tensor, latents: int, stream: int) -> Tensor:
    """(..., B, D) int64 words in [0, 2^32) for keys (..., 2) and `samples` (B,)."""
    return _interleave(words(key, samples, latents, stream), latents)


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
    """(..., B, D) standard normals by Box-Muller; float32 is within 4e-6 of the oracle.

    Of keys (S, 2) it draws as many at a time as keep the integers in the processor's cache.
    """
    if key.ndim == 2:
        keys = max(1, _CHUNK // max(1, len(samples) * -(-latents // 4)))
        return torch.cat([_normal(k, samples, latents, stream, dtype) for k in key.split(keys)])
    return _normal(key, samples, latents, stream, dtype)


def _normal(key: Tensor, samples: Tensor, latents: int, stream: int, dtype: torch.dtype) -> Tensor:
    lanes = [(lane >> 8).to(dtype) for lane in words(key, samples, latents, stream)]
    return _interleave((*_box_muller(*lanes[:2]), *_box_muller(*lanes[2:])), latents)


def _box_muller(k0: Tensor, k1: Tensor) -> tuple[Tensor, Tensor]:
    """Two normals of the uniforms k · 2^-24, in place of k.

    1 - u has 24 bits too, so its logarithm is exact.
    """
    radius = k0.mul_(-(2.0**-24)).add_(1).log_().mul_(-2).sqrt_()
    angle = k1.mul_(2 * pi * 2.0**-24)
    return angle.cos().mul_(radius), angle.sin_().mul_(radius)


def _interleave(lanes: Sequence[Tensor], latents: int) -> Tensor:
    """(..., B, D) from the four lanes of each group of latents."""
    return torch.stack(tuple(lanes), dim=-1).flatten(-2)[..., :latents].contiguous()


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
