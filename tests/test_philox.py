"""The noise of production is the oracle's: integers and uniforms to the bit, normals closely."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from betavae_core.ops import philox, reparam_kl
from betavae_core.reference import philox as oracle

SEEDS = (0, 1, -1, -(2**63), 2**63 + 12345, 2**64 - 1, 0x0123456789ABCDEF, 2**32)
MILLION = 1_000_000
CPU = torch.device("cpu")


def rows(count: int, first: int = 0) -> Tensor:
    return torch.arange(first, first + count)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("stream", range(5))
def test_the_words_are_those_of_the_oracle(seed: int, stream: int) -> None:
    for step, first, latents in ((0, 0, 1), (7, 3, 10), (2**32 + 5, 2**31, 4), (123, 99, 13)):
        words = philox.bits(philox.make_key(seed, step), rows(6, first), latents, stream)
        exact = oracle.bits(seed, step, first + np.arange(6), latents, stream)
        np.testing.assert_array_equal(words.numpy().astype(np.uint64), exact)


def test_a_sample_is_counted_modulo_2_to_the_32_like_the_oracle_and_the_kernel_do() -> None:
    samples = [2**32 - 1, 2**32, 2**40 + 3]
    words = philox.bits(philox.make_key(5, 1), torch.tensor(samples), 5, philox.NOISE)
    exact = oracle.bits(5, 1, np.array(samples), 5, oracle.NOISE)
    np.testing.assert_array_equal(words.numpy().astype(np.uint64), exact)


def test_a_kernel_draws_the_same_words_and_nearly_the_same_normals() -> None:
    pytest.importorskip("triton", reason="Triton has no build for this platform")
    key, first = philox.make_key(2**63 + 5, 2**32 + 9), 2**32 - 3  # rows count on past 2^32
    words, normals = philox.draw_in_kernel(key, 8, 11, first, philox.SPLIT)
    assert torch.equal(words, philox.bits(key, rows(8, first), 11, philox.SPLIT))
    noise = philox.normal(key, rows(8, first), 11, philox.SPLIT)
    torch.testing.assert_close(normals, noise, rtol=0, atol=4e-6)


def test_the_streams_have_the_numbers_of_the_oracle() -> None:
    names = ("NOISE", "ORDER", "SPLIT", "EVALUATION", "INITIALISATION")
    assert [getattr(philox, n) for n in names] == [getattr(oracle, n) for n in names]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_key_holds_its_seed_modulo_2_to_the_64(seed: int) -> None:
    key = philox.make_key(seed, 9)
    assert (key.dtype, key.shape, int(key[1])) == (torch.int64, (2,), 9)
    assert int(key[0]) % 2**64 == seed % 2**64


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uniforms_are_those_of_the_oracle_bit_for_bit(dtype: torch.dtype) -> None:
    u = philox.uniform(philox.make_key(3, 4), rows(1000), 11, philox.NOISE, dtype)
    assert u.dtype == dtype
    np.testing.assert_array_equal(
        u.double().numpy(), oracle.uniform(3, 4, np.arange(1000), 11, oracle.NOISE)
    )


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 4e-6), (torch.float64, 1e-12)])
def test_a_million_normals_are_those_of_the_oracle(dtype: torch.dtype, bound: float) -> None:
    n = philox.normal(philox.make_key(1, 2), rows(MILLION // 10), 10, dtype=dtype)
    assert n.dtype == dtype
    assert np.abs(n.double().numpy() - oracle.normal(1, 2, np.arange(MILLION // 10), 10)).max() < (
        bound
    )


@pytest.mark.parametrize(("u", "radius"), [(0.0, 0.0), (1 - 2.0**-24, np.sqrt(48 * np.log(2)))])
def test_the_extreme_uniforms_give_finite_normals(
    u: float, radius: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = torch.full((1, 2), int(u * 2**32))
    monkeypatch.setattr(philox, "words", lambda *_: (lane,) * 4)
    n = philox.normal(philox.make_key(0), rows(2), 4).numpy()
    np.testing.assert_allclose(np.hypot(n[:, ::2], n[:, 1::2]), radius, atol=1e-6)


@pytest.mark.parametrize(("batch", "latents"), [(0, 5), (3, 0), (0, 0)])
def test_an_empty_batch_and_an_empty_latent_space_have_no_noise(batch: int, latents: int) -> None:
    assert philox.normal(philox.make_key(0), rows(batch), latents).shape == (batch, latents)
    assert philox.bits(philox.make_key(0), rows(batch), latents, 0).shape == (batch, latents)


def test_the_normals_of_few_latents_are_the_first_of_many() -> None:
    many = philox.normal(philox.make_key(5, 6), rows(4), 13)
    for latents in range(14):
        assert torch.equal(
            philox.normal(philox.make_key(5, 6), rows(4), latents), many[:, :latents]
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("batch", "latents"), [(64, 10), (7, 3), (1, 1), (33, 5), (4000, 30)])
def test_many_steps_draw_what_each_step_draws(batch: int, latents: int, dtype: torch.dtype) -> None:
    block, room = torch.full((7, batch, latents), torch.nan, dtype=dtype), philox.Room(CPU)
    for first in (2**32 - 3, 5):  # the second time in what the first has left
        key = philox.make_key(11, first)
        assert philox.fill_normal(block, key, rows(batch), philox.NOISE, room) is block
        for step, noise in enumerate(block, first):
            key = philox.make_key(11, step)
            assert torch.equal(philox.normal(key, rows(batch), latents, dtype=dtype), noise)


def test_words_of_any_shapes_are_those_of_the_oracle() -> None:
    """Words are small until they have met; here they meet in every order."""
    counter = (rows(5), rows(3)[:, None], torch.tensor(7), rows(2)[:, None, None])
    for order in itertools.permutations(counter):
        copies = [word.clone() for word in order]
        got = torch.stack(torch.broadcast_tensors(*philox.philox4x32(order, torch.tensor(-9))))
        exact = oracle.philox4x32(tuple(np.broadcast_arrays(*order)), oracle.key_of(-9))
        np.testing.assert_array_equal(got.numpy().astype(np.uint64), np.stack(exact))
        assert all(torch.equal(word, copy) for word, copy in zip(order, copies, strict=True))


@pytest.mark.parametrize(("batch", "latents"), [(64, 10), (14, 3), (2, 1), (66, 5)])
def test_two_halves_of_a_batch_draw_what_the_whole_draws(batch: int, latents: int) -> None:
    key, half = philox.make_key(0, 9), batch // 2
    halves = [philox.normal(key, rows(half, first), latents) for first in (0, half)]
    assert torch.equal(torch.cat(halves), philox.normal(key, rows(batch), latents))


WORKER = """
import sys, numpy, torch
from betavae_core.ops import philox, reparam_kl
rank, folder = int(sys.argv[1]), sys.argv[2]
mu = torch.zeros(32, 10)
z = reparam_kl(mu, mu, philox.make_key(42, 1000), first_sample=32 * rank).z
numpy.save(f"{folder}/{rank}.npy", z.numpy())
"""


def test_two_half_batches_drawn_by_two_workers_get_the_noise_that_one_whole_batch_gets(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", WORKER]
    workers = [subprocess.Popen([*command, str(rank), str(tmp_path)]) for rank in range(2)]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    halves = np.concatenate([np.load(tmp_path / f"{rank}.npy") for rank in range(2)])
    mu, key = torch.zeros(64, 10), philox.make_key(42, 1000)
    assert halves.tobytes() == reparam_kl(mu, mu, key).z.numpy().tobytes()
    assert np.abs(halves - philox.normal(key, rows(64), 10).numpy()).max() < 4e-6


@pytest.mark.parametrize("other", [(1, 0, 0, 0), (2**32, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0),
                                   (0, 0, 0, 1)])  # fmt: skip
def test_seed_step_sample_and_stream_each_give_other_bits(other: tuple[int, ...]) -> None:
    seed, step, sample, stream = other
    here = philox.bits(philox.make_key(0), rows(1), 8, philox.NOISE)
    there = philox.bits(philox.make_key(seed, step), rows(1, sample), 8, stream)
    assert not (here == there).any()


def test_a_million_normals_have_the_moments_of_a_standard_normal() -> None:
    n = philox.normal(philox.make_key(8), rows(MILLION // 8), 8, dtype=torch.float64).numpy()
    deviation = 1 / np.sqrt(n.size)
    assert abs(n.mean()) < 4 * deviation
    assert abs((n**2).mean() - 1) < 4 * deviation * np.sqrt(2)
    assert abs((n**3).mean()) < 4 * deviation * np.sqrt(15)
    assert abs((n**4).mean() - 3) < 4 * deviation * np.sqrt(96)
    assert np.abs(n).max() <= np.sqrt(48 * np.log(2))


def test_lanes_samples_and_steps_are_uncorrelated() -> None:
    block = torch.empty(40, 3125, 8)  # a million
    key, room = philox.make_key(0), philox.Room(CPU)
    n = philox.fill_normal(block, key, rows(3125), philox.NOISE, room).numpy()
    for axis, what in enumerate(("steps", "samples", "latents")):
        one, next_one = (np.delete(n, i, axis).ravel() for i in (-1, 0))
        for power in (1, 2):  # neighbours are unrelated in sign and in size
            correlation = np.corrcoef(one**power, next_one**power)[0, 1]
            assert abs(correlation) < 4 / np.sqrt(one.size), (what, power)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 7, 64, 101, 1000, 50_000])
def test_the_order_of_an_epoch_is_the_oracle_s(n: int) -> None:
    for seed, epochs in ((0, [0, 1, 2]), (-5, [9]), (2**63 + 1, [12345, 0])):
        order = philox.epoch_order(seed, torch.tensor(epochs), n)
        exact = [oracle.epoch_order(seed, epoch, n) for epoch in epochs]
        np.testing.assert_array_equal(order.numpy(), np.stack(exact))


@pytest.mark.parametrize("n", [*range(1, 70), 997, 4096, 60_000])
def test_an_epoch_visits_every_image_once(n: int) -> None:
    order = philox.epoch_order(42, torch.tensor([0, 7]), n)
    assert torch.equal(order.sort(dim=1).values, torch.arange(n).expand(2, n))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # inductor's own imports
def test_inductor_s_words_are_the_same_integers() -> None:
    """Inductor turns the products of words into C++, where a signed overflow may do anything."""

    def draw(key: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        return philox.bits(key, samples, 7, philox.NOISE), philox.normal(key, samples, 7)

    compiled, samples = torch.compile(draw, fullgraph=True), rows(9, 2**32 - 9)
    for seed in (*SEEDS, -(2**62) - 3):
        words, normals = compiled(philox.make_key(seed, 2**31 + 5), samples)
        exact = oracle.bits(seed, 2**31 + 5, samples.numpy(), 7, oracle.NOISE)
        np.testing.assert_array_equal(words.numpy().astype(np.uint64), exact)
        close = oracle.normal(seed, 2**31 + 5, samples.numpy(), 7)
        assert np.abs(normals.double().numpy() - close).max() < 4e-6
