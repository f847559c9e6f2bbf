"""The feed: every image once an epoch, and a step's batch and noise functions of the step alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from betavae_core.data.dataset import Dataset
from betavae_core.data.resident import Resident
from betavae_core.feed import Feed
from betavae_core.ops import philox
from betavae_core.reference import philox as oracle

SEED = -(2**40) - 7


def dataset(count: int, *, packed: bool = False, channels: int = 1) -> Dataset:
    """Images that all differ: the number of each is written in its pixels."""
    bits = (np.arange(count)[:, None] >> np.arange(15)) & 1
    pixels = bits.astype(np.uint8).reshape(count, 5 // channels if channels == 1 else 5, 3, 1)
    if channels == 3:
        pixels = pixels.reshape(count, 5, 1, 3)
    shape = (channels, 5, 3 // channels)
    if packed:
        return Dataset(
            "bits", np.packbits(pixels.reshape(count, -1), axis=1), 1, shape, packed=True
        )
    return Dataset("bytes", pixels, 1, shape)


def numbers(x: Tensor) -> list[int]:
    """Which images these are."""
    pixels = x.permute(0, 2, 3, 1).flatten(1).long()
    return (pixels << torch.arange(15)).sum(1).tolist()


def feed(
    count: int, batch_size: int, *, indices: Tensor | None = None, fused: bool = False
) -> Feed:
    chosen = torch.arange(count) if indices is None else indices
    images = Resident(dataset(count), "cpu")
    return Feed(images, chosen, seed=SEED, batch_size=batch_size, latent_dim=5, fused=fused)


def seen(source: Feed, steps: int) -> list[int]:
    return [number for step in range(steps) for number in numbers(source.batch(step)[0])]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_resident_data_set_gathers_what_take_takes(packed: bool, channels: int) -> None:
    data = dataset(200, packed=packed, channels=channels)
    for index in ([0, 199, 7, 7], [], list(range(200))):
        x = Resident(data, "cpu").gather(torch.tensor(index, dtype=torch.int64))
        assert (x.dtype, x.shape) == (torch.uint8, (len(index), *data.image_shape))
        taken = data.take(index).reshape(len(index), *data.image_shape[1:], channels)
        np.testing.assert_array_equal(x.permute(0, 2, 3, 1), taken)


def test_a_resident_data_set_shares_the_bytes_of_a_read_only_array() -> None:
    data = dataset(4)
    data.pixels.flags.writeable = False
    assert Resident(data, "cpu").pixels.data_ptr() == data.pixels.ctypes.data


@pytest.mark.parametrize(
    ("count", "batch"), [(10, 3), (1, 1), (1, 64), (3, 5), (64, 64), (1000, 7), (7, 100)]
)
def test_every_image_is_seen_exactly_once_an_epoch(count: int, batch: int) -> None:
    epochs = 3 if count > 100 else 200
    stream = seen(feed(count, batch), -(-epochs * count // batch))
    for epoch in range(epochs):
        assert sorted(stream[epoch * count : (epoch + 1) * count]) == list(range(count))


@pytest.mark.parametrize(("count", "batch"), [(10, 3), (3, 5), (100, 33)])
def test_batches_run_on_across_epochs_in_the_oracle_s_order(count: int, batch: int) -> None:
    expected = np.concatenate([oracle.epoch_order(SEED, epoch, count) for epoch in range(300)])
    stream = seen(feed(count, batch), 200)
    assert len(stream) == 200 * batch
    whole = min(len(stream), len(expected))
    assert stream[:whole] == expected[:whole].tolist()


def test_only_the_images_of_the_split_are_seen() -> None:
    train = torch.tensor([2, 3, 5, 7, 11, 13, 17, 19])
    stream = seen(feed(20, 3, indices=train), 8)
    assert sorted(stream) == sorted(train.tolist() * 3)


@pytest.mark.parametrize("fused", [False, True])
def test_a_batch_is_a_function_of_its_step_whatever_was_asked_before(fused: bool) -> None:
    source, steps = feed(101, 8, fused=fused), [0, 64, 63, 200, 1, 0, 128, 127, 5000, 65, 64, 13]
    for step in steps:
        fresh_x, fresh_noise = feed(101, 8, fused=fused).batch(step)
        x, noise = source.batch(step)
        assert torch.equal(x, fresh_x)
        assert noise.keys() == fresh_noise.keys()
        assert all(torch.equal(noise[k], fresh_noise[k]) for k in noise)


def test_the_noise_of_a_step_is_the_oracle_s() -> None:
    source = feed(50, 8)
    assert source.noise is not None
    for step in (0, 1, 63, 64, 1000, source.noise.steps - 1, source.noise.steps):
        eps = source.batch(step)[1]["eps"]
        assert torch.equal(eps, philox.normal(philox.make_key(SEED, step), torch.arange(8), 5))
        assert (
            np.abs(eps.double().numpy() - oracle.normal(SEED, step, np.arange(8), 5)).max() < 4e-6
        )


def test_a_fused_feed_gives_the_key_of_the_step() -> None:
    source = feed(50, 8, fused=True)
    for step in (0, 63, 64, 1000):
        assert torch.equal(source.batch(step)[1]["key"], philox.make_key(SEED, step))


def test_the_order_depends_on_the_seed_and_not_on_the_noise() -> None:
    images = Resident(dataset(100), "cpu")
    firsts = [
        numbers(
            Feed(
                images, torch.arange(100), seed=seed, batch_size=50, latent_dim=d, fused=fused
            ).batch(0)[0]
        )
        for seed, d, fused in ((0, 5, False), (0, 9, True), (1, 5, False))
    ]
    assert firsts[0] == firsts[1] != firsts[2]


def test_a_draw_that_was_interrupted_leaves_the_feed_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = feed(101, 8)
    source.batch(0)
    assert source.noise is not None
    later = source.noise.steps

    def interrupted(out: Tensor, *_: object) -> Tensor:
        out[: len(out) // 2] = torch.nan
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(philox, "fill_normal", interrupted)
        with pytest.raises(KeyboardInterrupt):
            source.batch(later)
    for step in (0, later):
        x, noise = source.batch(step)
        fresh_x, fresh_noise = feed(101, 8).batch(step)
        assert torch.equal(x, fresh_x)
        assert torch.equal(noise["eps"], fresh_noise["eps"])
