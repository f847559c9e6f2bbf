"""The training step can be replayed on a GPU: it asks the host for nothing, and blocks are exact.

That the graphs themselves replay only a GPU can show: tests/test_gpu_training.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from betavae_core import capture
from betavae_core.config import Config
from betavae_core.data import from_array
from betavae_core.objectives import OBJECTIVES as KINDS
from betavae_core.run_directory import RunDirectory
from betavae_core.runs import make_model
from betavae_core.trainer import Trainer

FORBIDDEN = {
    torch.Tag.data_dependent_output,  # a value goes to the host
    torch.Tag.dynamic_output_shape,
    torch.Tag.nondeterministic_seeded,  # a draw from a generator
}

OBJECTIVES = [
    {"objective": "beta", "beta": 4.0},
    {"objective": "capacity", "gamma": 10.0, "capacity_max": 5.0, "capacity_steps": 9},
    {"objective": "controlvae", "target_kl": 3.0},
    {"objective": "geco", "target_recon": 30.0},
]


@contextmanager
def trainer(folder: Path, **settings: Any) -> Iterator[Trainer]:
    images = np.random.default_rng(0).integers(0, 256, (80, 8, 8), dtype=np.uint8)
    data = from_array(images)
    config = Config(data="array", arch="mlp", hidden=(16,), steps=200, batch_size=8, **settings)
    config = config.resolve(data.image_shape, len(data), "cpu", "fp32")
    model = make_model(config, data.image_shape, data.levels)
    directory = RunDirectory.create(folder, config)
    try:
        yield Trainer(model, KINDS[config.objective].from_config(config), data, config, directory)
    finally:
        directory.close()


class Captured(TorchDispatchMode):
    """Lets through what a CUDA graph can hold."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if FORBIDDEN & set(func.tags):
            raise AssertionError(f"{func} cannot be captured")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("settings", OBJECTIVES, ids=str)
def test_the_step_reads_nothing_on_the_host_and_draws_from_no_generator(
    settings: dict[str, Any], backend: str, tmp_path: Path
) -> None:
    with trainer(tmp_path / "run", backend=backend, **settings) as one:
        one.advance()  # the first step makes the optimizer's state
        before = torch.random.get_rng_state()
        with Captured():
            one.take(5)
        assert torch.equal(before, torch.random.get_rng_state())
        assert one.counter.item() == 6


@pytest.mark.parametrize("read", [lambda t: t.item(), lambda t: t.nonzero(), torch.randn_like])
def test_what_cannot_be_captured_is_noticed(read: Any) -> None:
    with pytest.raises(AssertionError, match="cannot be captured"), Captured():
        read(torch.ones(()))


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("settings", OBJECTIVES, ids=str)
def test_many_steps_in_one_call_are_as_many_calls_bit_for_bit(
    settings: dict[str, Any], backend: str, tmp_path: Path
) -> None:
    settings = settings | {"backend": backend}
    with (
        trainer(tmp_path / "one", **settings) as one,
        trainer(tmp_path / "many", **settings) as many,
    ):
        for _ in range(64 + 37):
            one.advance()
        for count in (64, 30, 7):
            many.advance(count)
        assert one.step == many.step == many.counter.item()
        assert torch.equal(one.rows, many.rows)
        ours, theirs = one.model.state_dict(), many.model.state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_tensors_of_the_step_stay_where_they_are(tmp_path: Path) -> None:
    """A graph reads and writes fixed addresses: the next block must lie in the last one's place."""
    with trainer(tmp_path / "run", backend="torch") as one:
        noise = one.feed.noise
        assert noise is not None
        one.advance(64)
        kept = one.feed._block, noise.eps, one.rows, one.counter
        places = [tensor.data_ptr() for tensor in kept]
        first = noise.eps.clone()
        one.advance(64)
        noise.prepare(noise.steps)
        now = one.feed._block, noise.eps, one.rows, one.counter
        assert [tensor.data_ptr() for tensor in now] == places
        assert not torch.equal(first, noise.eps)


class Graph:
    """A graph that replays by calling: what CUDA does, without it."""

    def __init__(self, step: Any, size: int, log: list[int]) -> None:
        self.step, self.size, self.log = step, size, log

    def replay(self) -> None:
        self.log.append(self.size)
        for _ in range(self.size):
            self.step()


def test_graphs_of_many_steps_go_first_and_single_ones_fill_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken, log = [], []

    def step() -> None:
        taken.append(1)

    steps = capture.Steps(step, captured=True)
    monkeypatch.setattr(steps, "_beside", step)
    monkeypatch.setattr(steps, "_capture", lambda size: Graph(step, size, log))
    steps(2 * capture.MANY + 5)
    assert log == [capture.MANY, capture.MANY, 1, 1]
    assert len(taken) == 2 * capture.MANY + 5
    steps(capture.MANY)
    assert log[-1] == capture.MANY


def test_a_stride_ends_where_the_host_has_something_to_do(tmp_path: Path) -> None:
    with trainer(tmp_path / "run", log_every=50, checkpoint_every=70) as one:
        assert one._stride(200) == 1
        one.take.captured = True
        ends = []
        while one.step < 200:
            one.step += one._stride(200)
            ends.append(one.step)
    assert ends == [50, 64, 70, 100, 128, 140, 150, 192, 200]
