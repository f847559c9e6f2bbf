"""Randomness as a pure function: the published vectors, the normals, the order of an epoch."""

from __future__ import annotations

import numpy as np
import pytest

from betavae_core.reference import philox

# Random123's known-answer tests for philox4x32-10: counter, key, result.
PUBLISHED = [
    (
        "00000000 00000000 00000000 00000000",
        "00000000 00000000",
        "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    ),
    (
        "ffffffff ffffffff ffffffff ffffffff",
        "ffffffff ffffffff",
        "408f276d 41c83b0e a20bc7c6 6d5451fd",
    ),
    (
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


def words(text: str) -> tuple[int, ...]:
    return tuple(int(word, 16) for word in text.split())


@pytest.mark.parametrize(("counter", "key", "result"), PUBLISHED)
def test_philox_gives_the_published_vectors(counter: str, key: str, result: str) -> None:
    low, high = words(key)
    assert tuple(int(w) for w in philox.philox4x32(words(counter), (low, high))) == words(result)


def test_a_seed_is_split_into_its_low_and_high_half() -> None:
    assert philox.key_of(0x299F31D0A4093822) == words("a4093822 299f31d0")
    assert philox.key_of(2**64 + 5) == (5, 0)


def test_the_first_four_latents_are_the_lanes_of_the_first_counter() -> None:
    assert tuple(philox.bits(0, 0, [0], 4, 0)[0].tolist()) == words(PUBLISHED[0][2])


def test_a_word_is_found_by_seed_step_sample_latent_and_stream() -> None:
    seed, step, samples, stream = 0x299F31D0A4093822, 7, [3, 2**32 - 1], 4
    drawn = philox.bits(seed, step, samples, 11, stream)
    for row, sample in enumerate(samples):
        for latent in range(11):
            lanes = philox.philox4x32((step, sample, latent // 4, stream), philox.key_of(seed))
            assert drawn[row, latent] == lanes[latent % 4]


def test_uniforms_are_24_bit_numbers_from_0_to_1() -> None:
    u = philox.uniform(3, 0, np.arange(1000), 9, philox.NOISE)
    assert u.shape == (1000, 9)
    assert u.min() >= 0
    assert u.max() < 1
    assert np.array_equal(u * 2**24, np.round(u * 2**24))
    assert abs(u.mean() - 0.5) < 4 / np.sqrt(12 * u.size)


def test_normals_have_the_moments_and_the_bound_of_box_muller() -> None:
    n = philox.normal(1, 2, np.arange(20_000), 10)
    spread = 4 / np.sqrt(n.size)
    assert abs(n.mean()) < spread
    assert abs((n**2).mean() - 1) < spread * np.sqrt(2)
    assert abs((n**4).mean() - 3) < spread * np.sqrt(96)
    assert np.abs(n).max() <= np.sqrt(48 * np.log(2))
    correlation = np.corrcoef(n.T) - np.eye(10)
    assert np.abs(correlation).max() < 4.5 / np.sqrt(len(n))


@pytest.mark.parametrize(("u", "radius"), [(0.0, 0.0), (1 - 2.0**-24, np.sqrt(48 * np.log(2)))])
def test_the_extreme_uniforms_give_finite_normals(
    u: float, radius: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(philox, "uniform", lambda *_: np.full((2, 4), u))
    n = philox.normal(0, 0, [0, 1], 4)
    assert np.hypot(n[:, ::2], n[:, 1::2]) == pytest.approx(radius)
    assert n[:, ::2] == pytest.approx(radius)  # an angle of 0, or just short of a full turn


def test_the_normals_of_few_latents_are_the_first_of_many() -> None:
    many = philox.normal(5, 6, np.arange(4), 13)
    for latents in range(14):
        assert np.array_equal(philox.normal(5, 6, np.arange(4), latents), many[:, :latents])


def test_two_halves_of_a_batch_draw_what_the_whole_draws() -> None:
    whole = philox.normal(0, 9, np.arange(64), 10)
    halves = [philox.normal(0, 9, np.arange(32) + first, 10) for first in (0, 32)]
    assert np.array_equal(whole, np.concatenate(halves))


@pytest.mark.parametrize(
    "other", [(1, 0, 0, 0), (2**32, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
)
def test_seed_step_sample_and_stream_each_give_other_bits(other: tuple[int, ...]) -> None:
    seed, step, sample, stream = other
    here = philox.bits(0, 0, [0], 8, philox.NOISE)
    assert not np.any(here == philox.bits(seed, step, [sample], 8, stream))


@pytest.mark.parametrize("n", [1, 2, 3, 5, 7, 64, 101, 1000])
@pytest.mark.parametrize("epoch", [0, 1, 12345])
def test_an_epoch_visits_every_image_once(n: int, epoch: int) -> None:
    order = philox.epoch_order(42, epoch, n)
    assert np.array_equal(np.sort(order), np.arange(n))


@pytest.mark.parametrize(("seed", "epoch", "n"), [(0, 0, 1), (3, 2, 7), (2**40 + 5, 9, 100)])
def test_the_order_is_swap_or_not_in_plain_integers(seed: int, epoch: int, n: int) -> None:
    def word(sample: int, latent: int) -> int:
        return int(philox.bits(seed, epoch, [sample], latent + 1, philox.ORDER)[0, latent])

    def image(x: int) -> int:
        for i in range(32):
            partner = ((word(i, 4) * n >> 32) - x) % n
            x = partner if word(max(x, partner), 0) >> i & 1 else x
        return x

    positions = range(min(n, 10))
    expected = [image(x) for x in positions]
    assert philox.epoch_order(seed, epoch, n, positions).tolist() == expected


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    order = philox.epoch_order(0, 0, 1000)
    assert np.array_equal(order, philox.epoch_order(0, 0, 1000))
    for other in (philox.epoch_order(1, 0, 1000), philox.epoch_order(0, 1, 1000)):
        assert (order == other).mean() < 0.02
    assert (order == np.arange(1000)).mean() < 0.02


def test_a_part_of_an_order_needs_no_whole() -> None:
    order = philox.epoch_order(7, 3, 1000)
    assert np.array_equal(philox.epoch_order(7, 3, 1000, [999, 0, 17]), order[[999, 0, 17]])


def test_every_position_sees_every_image_equally_often() -> None:
    n, epochs = 5, 400
    orders = np.stack([philox.epoch_order(0, epoch, n) for epoch in range(epochs)])
    counts = np.stack([np.bincount(column, minlength=n) for column in orders.T])
    chi_squared = ((counts - epochs / n) ** 2 / (epochs / n)).sum()
    assert chi_squared < 16 + 4 * np.sqrt(2 * 16)  # (n - 1)² degrees of freedom, 4 deviations


def test_an_empty_batch_has_no_noise() -> None:
    assert philox.normal(0, 0, [], 5).shape == (0, 5)
