"""The suite `populations`: many models at once against one at a time, in models x steps a second.

    one_at_a_time  a model by itself, as in `train`
    side_by_side   as in `sweep`: on a CPU each model in a process of one thread, on a GPU as
                   branches of one graph
    batched        as one model with batched weights (batched.py)

Each is one process or more, warm and asleep until its turn comes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

from betavae_core.bench.batched import Batched
from betavae_core.bench.step import advance, rectangles, training
from betavae_core.bench.timing import Spread
from betavae_core.cores import cores
from betavae_core.loop import Team
from betavae_core.populations.crew import ONE_THREAD
from betavae_core.populations.together import MODELS

ARCHITECTURES = ("burgess-conv", "mlp")
RATIOS = {"vs_one_at_a_time": "one_at_a_time", "vs_batched": "batched"}
Process = subprocess.Popen[str]
_STEPS = {"team": 64, "batched": 16}  # a turn: a block of the feed, and less of what is slow
_WORKER = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from betavae_core.bench.populations import worker; worker(*sys.argv[2:])"
)


def run(
    device: str,
    seconds: float,
    progress: Callable[[str], None],
    *,
    architectures: Sequence[str] = ARCHITECTURES,
    **_: Any,
) -> list[dict[str, Any]]:
    """A row an architecture."""
    rows = []
    for arch in architectures:
        progress(f"a population of {arch}")
        rows.append(measure(arch, device, seconds / len(architectures)))
    return rows


def measure(arch: str, device: str, seconds: float) -> dict[str, Any]:
    """The row of one architecture: as many models as `sweep` trains at once."""
    models = cores() if device == "cpu" else MODELS
    with ExitStack() as stack:
        subjects = _start(stack, arch, device, models)
        speeds: dict[str, list[float]] = {name: [] for name in subjects}
        deadline = time.perf_counter() + seconds
        while not speeds["batched"] or time.perf_counter() < deadline:
            for name, (steps, processes) in subjects.items():
                speeds[name].append(steps / turn(processes))
    return {
        "arch": arch,
        "models": models,
        "model_steps_per_s": {name: Spread.of(values)._asdict() for name, values in speeds.items()},
        **{ratio: _ratio(speeds["side_by_side"], speeds[name]) for ratio, name in RATIOS.items()},
    }


def _start(
    stack: ExitStack, arch: str, device: str, models: int
) -> dict[str, tuple[int, list[Process]]]:
    """What is compared: the models x steps of a turn, and the processes that make it."""

    def start(how: str, count: int, environment: Mapping[str, str] | None = None) -> Process:
        return stack.enter_context(process(arch, device, how, count, environment or {}))

    alone, batched = start("team", 1), start("batched", models)
    if device == "cpu":
        together = [start("team", 1, ONE_THREAD) for _ in range(models)]
    else:
        together = [start("team", models)]
    return {
        "one_at_a_time": (_STEPS["team"], [alone]),
        "side_by_side": (models * _STEPS["team"], together),
        "batched": (models * _STEPS["batched"], [batched]),
    }


def _ratio(fast: Sequence[float], slow: Sequence[float]) -> dict[str, float]:
    return Spread.of([one / other for one, other in zip(fast, slow, strict=True)])._asdict()


def turn(processes: Sequence[Process]) -> float:
    """The seconds that a turn takes these processes together."""
    start = time.perf_counter()
    for one in processes:
        _say(one, "go")
    for one in processes:
        _hear(one)
    return time.perf_counter() - start


@contextmanager
def process(
    arch: str, device: str, how: str, models: int, environment: Mapping[str, str]
) -> Iterator[Process]:
    """A worker that is warm and waits; it ends with its stdin."""
    path = json.dumps([*map(str, sys.path)])
    command = [sys.executable, "-P", "-c", _WORKER, path, arch, device, how, str(models)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env={**os.environ, **environment}, **pipes) as worker:
        _hear(worker)
        try:
            yield worker
        finally:
            assert worker.stdin is not None
            with suppress(BrokenPipeError):
                worker.stdin.close()


def worker(arch: str, device: str, how: str, models: str) -> None:
    """Make a turn of steps for each line of stdin, and answer with one."""
    dataset = rectangles((1, 28, 28) if arch == "mlp" else (1, 64, 64), 1024)
    with ExitStack() as stack:
        trainers = [
            stack.enter_context(training(arch, dataset, device, seed=seed))
            for seed in range(int(models))
        ]
        act = Batched(trainers).advance if how == "batched" else partial(advance, Team(trainers))
        for _ in range(2):  # graphs are captured in the second turn at the latest
            act(_STEPS[how])
        print("ready", flush=True)
        for _ in sys.stdin:
            act(_STEPS[how])
            print("done", flush=True)


def _say(to: Process, line: str) -> None:
    assert to.stdin is not None
    with suppress(BrokenPipeError):  # that it has ended is heard
        to.stdin.write(line + "\n")
        to.stdin.flush()


def _hear(whom: Process) -> None:
    assert whom.stdout is not None
    if not whom.stdout.readline():
        raise RuntimeError("a worker of the bench ended; its last words are above")
