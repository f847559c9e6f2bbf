"""Which images are held out: the official pair, or a tenth by a hash that no seed changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from betavae_core.data import Dataset, from_array
from betavae_core.data.split import keyed_subset, split
from betavae_core.reference import philox


def blank(n: int) -> Dataset:
    return from_array(np.zeros((n, 1, 1), np.uint8))


def smallest(indices: np.ndarray, count: int, latent: int) -> list[int]:
    """The oracle: sort by (word, index), take the first, sort again."""
    words = philox.bits(0, 0, indices, latent + 1, philox.SPLIT)[:, latent]
    ranked = sorted(zip(words.tolist(), indices.tolist(), strict=True))
    return sorted(index for _, index in ranked[:count])


@pytest.mark.parametrize("n", [2, 3, 5, 10, 14, 15, 16, 1797, 10_000])
def test_a_tenth_with_the_smallest_hash_is_held_out(n: int) -> None:
    train, test = split(blank(n))
    assert test.tolist() == smallest(np.arange(n), max(1, round(n / 10)), latent=0)
    assert np.union1d(train, test).tolist() == list(range(n))
    assert len(train) + len(test) == n
    assert train.dtype == test.dtype == np.int64
    assert (np.diff(train) > 0).all()


def test_what_is_held_out_of_737280_images() -> None:
    train, test = split(blank(737_280))
    assert (len(train), len(test)) == (663_552, 73_728)
    assert abs(test.mean() / 737_279 - 0.5) < 5 / np.sqrt(12 * len(test))


def test_the_official_pair_is_kept() -> None:
    train, test = split(replace(blank(10), test_from=7))
    assert (train.tolist(), test.tolist()) == (list(range(7)), [7, 8, 9])


def test_a_single_image_is_train_and_test() -> None:
    assert [part.tolist() for part in split(blank(1))] == [[0], [0]]


def test_the_split_depends_on_the_number_of_images_alone() -> None:
    noise = np.random.default_rng(0).random((50, 3, 3))
    for left, right in zip(split(from_array(noise)), split(blank(50)), strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_subset_has_the_smallest_hash_of_the_next_lane() -> None:
    indices = np.arange(0, 3000, 3)
    chosen = keyed_subset(indices, limit=100)
    assert chosen.tolist() == smallest(indices, 100, latent=1)
    assert chosen.tolist() == keyed_subset(indices[::-1], limit=100).tolist()


@pytest.mark.parametrize("limit", [5, 6, 10_000])
def test_a_subset_of_few_is_all_of_them_sorted(limit: int) -> None:
    assert keyed_subset([9, 2, 7, 4, 5], limit).tolist() == [2, 4, 5, 7, 9]


def test_a_subset_has_at_most_ten_thousand_by_default() -> None:
    assert len(keyed_subset(np.arange(25_000))) == 10_000


def test_ties_are_broken_by_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "betavae_core.data.split.bits",
        lambda key, samples, latents, stream: samples[:, None].expand(-1, latents) * 0 + 7,
    )
    assert split(blank(40))[1].tolist() == [0, 1, 2, 3]
