"""The suite `populations`: many models side by side against one at a time, in models x steps / s.

One at a time a model has all the threads, as in `train`; side by side each has a process and a
thread, as in `sweep`. Both take turns; the processes that wait for theirs sleep.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from betavae_core.bench.step import advance, rectangles, training
from betavae_core.bench.timing import Spread
from betavae_core.populations.crew import ONE_THREAD

ARCHITECTURES = ("burgess-conv", "mlp")
_STEPS = 64  # a turn: a block of the feed
_WORKER = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from betavae_core.bench.populations import worker; worker(sys.argv[2])"
)


def run(
    device: str,
    seconds: float,
    progress: Callable[[str], None],
    *,
    architectures: Sequence[str] = ARCHITECTURES,
    **_: Any,
) -> list[dict[str, Any]]:
    """A row an architecture, on a CPU. On a GPU a sweep trains one model at a time: no rows."""
    if device != "cpu":
        progress("populations: on a GPU models train one after another; nothing to compare")
        return []
    rows = []
    for arch in architectures:
        progress(f"a population of {arch}")
        rows.append(measure(arch, seconds / len(architectures)))
    return rows


def measure(arch: str, seconds: float) -> dict[str, Any]:
    """The row of one architecture: as many models as the process has cores."""
    models = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with ExitStack() as stack:
        alone = stack.enter_context(process(arch, {}))
        crew = [stack.enter_context(process(arch, ONE_THREAD)) for _ in range(models or 1)]
        speeds: dict[str, list[float]] = {"one_at_a_time": [], "side_by_side": []}
        deadline = time.perf_counter() + seconds
        while not speeds["side_by_side"] or time.perf_counter() < deadline:
            speeds["one_at_a_time"].append(speed([alone]))
            speeds["side_by_side"].append(speed(crew))
    pairs = zip(speeds["side_by_side"], speeds["one_at_a_time"], strict=True)
    return {
        "arch": arch,
        "models": len(crew),
        "model_steps_per_s": {name: Spread.of(values)._asdict() for name, values in speeds.items()},
        "vs_one_at_a_time": Spread.of([many / one for many, one in pairs])._asdict(),
    }


def speed(processes: Sequence[subprocess.Popen[str]]) -> float:
    """Models x steps a second while these processes make a turn together."""
    start = time.perf_counter()
    for one in processes:
        _say(one, "go")
    for one in processes:
        _hear(one)
    return len(processes) * _STEPS / (time.perf_counter() - start)


@contextmanager
def process(arch: str, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A worker that is warm and waits; it ends with its stdin."""
    command = [sys.executable, "-P", "-c", _WORKER, json.dumps([*map(str, sys.path)]), arch]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=os.environ | environment, **pipes) as worker:
        _hear(worker)
        yield worker
        assert worker.stdin is not None
        worker.stdin.close()


def worker(arch: str) -> None:
    """Make a turn of steps for each line of stdin, and answer with one."""
    shape = (1, 28, 28) if arch == "mlp" else (1, 64, 64)
    with training(arch, rectangles(shape, 1024), "cpu") as trainer:
        advance(trainer, _STEPS)
        print("ready", flush=True)
        for _ in sys.stdin:
            advance(trainer, _STEPS)
            print("done", flush=True)


def _say(to: subprocess.Popen[str], line: str) -> None:
    assert to.stdin is not None
    to.stdin.write(line + "\n")
    to.stdin.flush()


def _hear(whom: subprocess.Popen[str]) -> None:
    assert whom.stdout is not None
    if not whom.stdout.readline():
        raise RuntimeError("a worker of the bench ended; its last words are above")
