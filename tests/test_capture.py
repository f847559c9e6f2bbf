"""The training step can be replayed on a GPU: it asks the host for nothing, and blocks are exact.

That the graphs themselves replay only a GPU can show: tests/test_gpu_training.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from betavae_core import capture
from betavae_core.config import Config
from betavae_core.data import from_array
from betavae_core.loop import Team, fit
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
    kept = {"arch": "mlp", "hidden": (16,), "steps": 200, "batch_size": 8, "precision": "fp32"}
    config = Config(data="array", **kept | settings)
    config = config.resolve(data.image_shape, len(data), "cpu", config.precision)
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
        Team([one]).advance()  # the first step makes the optimizer's state
        before = torch.random.get_rng_state()
        with Captured():
            for _ in range(5):
                one.take_step()
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
            Team([one]).advance()
        for count in (64, 30, 7):
            Team([many]).advance(count)
        assert one.step == many.step == many.counter.item()
        assert torch.equal(one.rows, many.rows)
        ours, theirs = one.model.state_dict(), many.model.state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_tensors_of_the_step_stay_where_they_are(tmp_path: Path) -> None:
    """A graph reads and writes fixed addresses: the next block must lie in the last one's place."""
    with trainer(tmp_path / "run", backend="torch") as one:
        noise = one.feed.noise
        assert noise is not None
        Team([one]).advance(64)
        kept = one.feed._block, noise.eps, one.rows, one.counter
        places = [tensor.data_ptr() for tensor in kept]
        first = noise.eps.clone()
        Team([one]).advance(64)
        noise.prepare(noise.steps)
        now = one.feed._block, noise.eps, one.rows, one.counter
        assert [tensor.data_ptr() for tensor in now] == places
        assert not torch.equal(first, noise.eps)


class Graph:
    """A graph that replays by calling: what CUDA does, without it."""

    def __init__(self, replay: Callable[[], None]) -> None:
        self.replay = replay


class Device:
    """Streams that note who waits for whom and what runs where, and graphs of what ran in them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.noted: list[tuple[str, str]] = []
        self.sizes: list[int] = []
        self._here = ["main"]
        self._names, self._events = map("beside {}".format, count()), count()
        monkeypatch.setattr(torch.cuda, "Stream", lambda: self._stream(next(self._names)))
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: self._stream(self._here[-1]))
        monkeypatch.setattr(torch.cuda, "stream", self._within)

    def _stream(self, name: str) -> SimpleNamespace:
        def wait(other: SimpleNamespace) -> None:
            self.noted.append((name, f"waits for {other.name}"))

        return SimpleNamespace(
            name=name,
            wait_stream=wait,
            wait_event=wait,
            record_event=lambda: SimpleNamespace(name=f"event {next(self._events)} of {name}"),
        )

    @contextmanager
    def _within(self, stream: SimpleNamespace) -> Iterator[None]:
        self._here.append(stream.name)
        yield
        self._here.pop()

    def run(self, what: str) -> None:
        self.noted.append((self._here[-1], what))

    def capture(self, steps: capture.Steps, size: int) -> Graph:
        def replay() -> None:
            self.sizes.append(size)
            steps._side_by_side(size)

        return Graph(replay)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    device = Device(monkeypatch)
    monkeypatch.setattr(capture.Steps, "_capture", lambda self, size: device.capture(self, size))
    return device


def test_no_graph_is_replayed_in_another_precision(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"precision": "bf16", "fp32_steps": 85}
    with trainer(tmp_path / "single", **settings) as single:
        fit([single])
    with trainer(tmp_path / "graphs", **settings) as one:
        monkeypatch.setattr(Trainer, "can_be_captured", lambda self: True)
        replayed = []

        def hold(steps: capture.Steps, size: int) -> Graph:
            bf16, graph = one.in_bf16, device.capture(steps, size)

            def replay() -> None:
                replayed.append((one.step, size, bf16))
                graph.replay()

            return Graph(replay)

        monkeypatch.setattr(capture.Steps, "_capture", hold)
        fit([one])
    assert {bf16 for *_, bf16 in replayed} == {False, True}
    assert all(step >= 85 if bf16 else step + size <= 85 for step, size, bf16 in replayed)
    assert torch.equal(one.rows, single.rows)
    ours, theirs = one.model.state_dict(), single.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_graphs_of_many_steps_go_first_and_single_ones_fill_up(device: Device) -> None:
    steps = capture.Steps([lambda: device.run("step")], captured=True)
    steps(2 * capture.MANY + 5)
    assert device.sizes == [capture.MANY, capture.MANY, 1, 1]
    assert [what for _, what in device.noted].count("step") == 2 * capture.MANY + 5
    steps(capture.MANY)
    assert device.sizes[-1] == capture.MANY


def test_branches_part_at_the_start_and_meet_at_the_end(device: Device) -> None:
    """No branch waits for another, each begins after what is before, and all end in one stream."""
    models = [partial(device.run, f"model {n}") for n in range(3)]
    capture.Steps(models, captured=True)(1)
    parting = "waits for event 0 of main"
    assert device.noted == [
        *((f"beside {n}", event) for n in range(3) for event in (parting, f"model {n}")),
        *(("main", f"waits for beside {n}") for n in range(3)),
    ]


def test_a_stride_ends_where_the_host_has_something_to_do(tmp_path: Path) -> None:
    with trainer(tmp_path / "run", log_every=50, checkpoint_every=70) as one:
        team = Team([one])
        assert team.stride() == 1
        team.take.captured = True
        ends = []
        while one.step < 200:
            one.step += team.stride()
            ends.append(one.step)
    assert ends == [50, 64, 70, 100, 128, 140, 150, 192, 200]
