"""Philox4x32-10 in PyTorch int64 arithmetic: the same integers as the oracle and the kernels.

A draw is a function of a key `[seed, step]`, an int64 tensor that lives on the device, and of
(sample, latent, stream); see `betavae_core.reference.philox` for the layout of the counter, the
conversion to uniforms and normals, and the sources. On a CPU the noise of many steps drawn at once
costs little more than that of one, and none of it depends on how many those are.
"""

from __future__ import annotations

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
_TOP = _MASK - 0xFF  # the 24 bits that become a uniform
_CHUNK = 3 * 2**15  # counters, each of 8 bytes in six temporaries


def make_key(seed: int, step: int = 0, device: torch.device | str = "cpu") -> Tensor:
    """The key `[seed, step]` on `device`; the seed is taken modulo 2^64."""
    signed = (seed + 2**63) % 2**64 - 2**63
    return torch.tensor([signed, step], dtype=torch.int64, device=device)


class Room:
    """Tensors to write over, by shape and type: on a CPU new memory costs more than arithmetic."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._free: dict[tuple[torch.Size, torch.dtype], list[Tensor]] = {}

    def take(self, shape: torch.Size, dtype: torch.dtype = torch.int64) -> Tensor:
        """A tensor of any content."""
        free = self._free.get((shape, dtype))
        return free.pop() if free else torch.empty(shape, dtype=dtype, device=self._device)

    def give(self, *tensors: Tensor) -> None:
        """Take back what nobody reads any more."""
        for tensor in tensors:
            self._free.setdefault((tensor.shape, tensor.dtype), []).append(tensor)

    def xor(self, a: Tensor, b: Tensor) -> Tensor:
        """a ^ b, in place of `a` unless it has to grow; `a` is given back then."""
        if a.shape == b.shape or not b.ndim:
            return a.bitwise_xor_(b)
        shape = torch.broadcast_tensors(a, b)[0].shape
        if a.shape == shape:
            return a.bitwise_xor_(b)
        grown = torch.bitwise_xor(a, b, out=self.take(shape))
        self.give(a)
        return grown


def philox4x32(
    counter: tuple[Tensor | int, ...], seed: Tensor, room: Room | None = None
) -> tuple[Tensor, ...]:
    """Four tensors of 32-bit words at `counter` (four broadcastable int64 tensors or ints).

    A word has the shape of what was mixed into it so far, so that the first two rounds are small;
    all work is done in place of the words and in tensors that go round in `room`.
    """
    room = room or Room(seed.device)
    tensors = (torch.as_tensor(word, device=seed.device) for word in counter)
    c0, c1, c2, c3 = (room.take(word.shape).copy_(word) for word in tensors)
    for k0, k1 in zip(_round_keys(seed & _MASK, 0), _round_keys(seed >> 32, 1), strict=True):
        high0, low0 = _multiply(0, c0, room)
        high1, low1 = _multiply(1, c2, room)
        c0, c2 = _mix(high1, c1, k0, room), _mix(high0, c3, k1, room)
        c1, c3 = low1, low0
    return c0, c1.bitwise_and_(_MASK), c2, c3.bitwise_and_(_MASK)


def _round_keys(k: Tensor, which: int) -> tuple[Tensor, ...]:
    """The key of each round from half a seed."""
    rounds = torch.arange(_ROUNDS, device=k.device).view(-1, *(1,) * k.ndim)
    return ((k + _WEYL[which] * rounds) & _MASK).unbind()


def _multiply(which: int, c: Tensor, room: Room) -> tuple[Tensor, Tensor]:
    """Integers that end in the high and in the low half of M c, for c in [0, 2^32).

    M c wraps in 64 bits, which eager PyTorch may do. Inductor turns it into C++, where a signed
    overflow may do anything: so there m = M - 2^32, of under 30 bits, and M c = m c + 2^32 c.
    """
    if torch.compiler.is_compiling():
        product = _SMALLER[which] * c
        return (product >> 32) + c, product
    product = c.mul_(_MULTIPLIERS[which])
    return torch.bitwise_right_shift(product, 32, out=room.take(c.shape)), product


def _mix(high: Tensor, word: Tensor, key: Tensor, room: Room) -> Tensor:
    """high ^ word ^ key in [0, 2^32); both tensors are used up."""
    word = room.xor(word, key)
    mixed = room.xor(high, word)
    room.give(word)
    return mixed.bitwise_and_(_MASK)


def words(
    key: Tensor,
    samples: Tensor,
    latents: int,
    stream: int,
    steps: int = 1,
    room: Room | None = None,
) -> tuple[Tensor, ...]:
    """Lanes 0 to 3 of the step in `key` and those after it: (steps, ceil(D / 4), B) int64 each.

    Samples come last, for along them it is quick to broadcast.
    """
    groups = torch.arange(-(-latents // 4), device=key.device)[:, None]
    step = (key[1] + torch.arange(steps, device=key.device))[:, None, None]
    return philox4x32((step & _MASK, samples & _MASK, groups, stream), key[0], room)


def bits(key: Tensor, samples: Tensor, latents: int, stream: int) -> Tensor:
    """(B, D) int64 words in [0, 2^32) for a key (2,) and `samples` (B,)."""
    lanes = torch.cat(words(key, samples, latents, stream))  # (4, groups, B)
    return lanes.permute(2, 1, 0).flatten(1)[:, :latents].contiguous()


def uniform(
    key: Tensor, samples: Tensor, latents: int, stream: int, dtype: torch.dtype = torch.float32
) -> Tensor:
    """(B, D) uniforms on [0, 1), multiples of 2^-24: the same numbers in any dtype."""
    return (bits(key, samples, latents, stream) >> 8).to(dtype) * 2.0**-24


def normal(
    key: Tensor,
    samples: Tensor,
    latents: int,
    stream: int = NOISE,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """(B, D) standard normals by Box-Muller; float32 is within 4e-6 of the oracle."""
    out = torch.empty(1, len(samples), latents, dtype=dtype, device=key.device)
    return fill_normal(out, key, samples, stream, Room(key.device))[0]


def fill_normal(out: Tensor, key: Tensor, samples: Tensor, stream: int, room: Room) -> Tensor:
    """Fill `out`, (S, B, D), with the normals of the step in `key` and of those after it.

    It draws as many steps at a time as keep the integers in the processor's cache.
    """
    _, B, D = out.shape
    for place in out.split(max(1, _CHUNK // max(1, B * -(-D // 4)))):
        lanes = words(key, samples, D, stream, len(place), room)
        for first in (0, 2):
            _box_muller(lanes[first], lanes[first + 1], place[..., first:], room)
        room.give(*lanes)
        key = torch.stack((key[0], key[1] + len(place)))
    return out


def _box_muller(k0: Tensor, k1: Tensor, out: Tensor, room: Room) -> None:
    """Two normals of the uniforms (k >> 8) 2^-24, (S, groups, B), into every fourth latent.

    1 - u has 24 bits too, so its logarithm is exact.
    """
    radius, angle, wave = (room.take(k0.shape, out.dtype) for _ in range(3))
    radius.copy_(k0.bitwise_and_(_TOP)).mul_(-(2.0**-32)).add_(1).log_().mul_(-2).sqrt_()
    angle.copy_(k1.bitwise_and_(_TOP)).mul_(2 * pi * 2.0**-32)
    for lane, part in enumerate((wave.copy_(angle).cos_(), angle.sin_())):
        place = out[..., lane::4].mT
        place.copy_(part.mul_(radius)[:, : place.shape[1]])
    room.give(radius, angle, wave)


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
