"""Times taken in turns: A B C A B C … in one process, compared round by round.

A machine that others share, or that warms up, drifts by more than most changes are worth. Things
timed side by side drift together, so what is reported is the median over rounds of the ratio
within a round, and how far the middle of the rounds, from the 20th to the 80th percentile, lies
around it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any, NamedTuple

import numpy as np
import torch

Stopwatch = Callable[[Callable[[], object], int], float]

_TURN = 0.01  # seconds: far above the grain of the clock


class Timed(NamedTuple):
    """Something to time: `run()` makes `calls` calls, and what is reported is one call's time."""

    run: Callable[[], object]
    calls: int = 1


class Spread(NamedTuple):
    """The median and the 20th and 80th percentiles of a figure over the rounds."""

    median: float
    p20: float
    p80: float

    @classmethod
    def of(cls, values: Any) -> Spread:
        return cls(*(float(v) for v in np.percentile(np.asarray(values), (50, 20, 80))))


@dataclass(frozen=True)
class Rounds:
    """The seconds a call of each name took, in each round."""

    seconds: dict[str, list[float]]

    def spread(self, name: str) -> Spread:
        """Seconds a call."""
        return Spread.of(self.seconds[name])

    def rate(self, name: str, amount: float) -> Spread:
        """`amount` (of images, bytes, … a call) a second."""
        return Spread.of(amount / np.asarray(self.seconds[name]))

    def ratio(self, slow: str, fast: str) -> Spread:
        """How many times faster `fast` is than `slow`, from the pairs of the rounds."""
        return Spread.of(np.divide(self.seconds[slow], self.seconds[fast]))


def interleave(
    subjects: Mapping[str, Timed],
    *,
    seconds: float,
    device: str = "cpu",
    turn: float = _TURN,
    cycles: int = 1,
    stopwatch: Stopwatch | None = None,
) -> Rounds:
    """Time the subjects in turns, in their order, for about `seconds`.

    After a warm-up each takes turns of about `turn` seconds, or of one run where that is longer.
    A round is begun only if it will end in time, going by the last one; only the first, together
    with the warm-up, may exceed the budget.
    Whoever calls has made sure that the results are right.

    Args:
        device: on `cuda` the clock is the GPU's, by events around a turn.
        cycles: how often all take their turns in a round, whose time is their sum. So a round
            may bear the whole of some work done once in many calls, and turns stay short.
        stopwatch: (run, repeats) -> seconds; that of the device when not given.
    """
    clock = stopwatch or (cuda_events if device == "cuda" else wall_clock)
    deadline = time.perf_counter() + seconds
    repeats = {name: _repeats(subject, turn, clock) for name, subject in subjects.items()}
    times: dict[str, list[float]] = {name: [] for name in subjects}
    last = 0.0
    while not last or time.perf_counter() + last <= deadline:
        start = time.perf_counter()
        total = dict.fromkeys(subjects, 0.0)
        for _ in range(cycles):
            for name, subject in subjects.items():
                total[name] += clock(subject.run, repeats[name])
        for name, subject in subjects.items():
            times[name].append(total[name] / (cycles * repeats[name] * subject.calls))
        last = time.perf_counter() - start
    return Rounds(times)


def _repeats(subject: Timed, turn: float, clock: Stopwatch) -> int:
    """How often a subject runs in one turn; finding it out warms it up.

    Two runs are not timed: in each of them a training captures one of its graphs.
    """
    subject.run()
    subject.run()
    return max(1, ceil(turn / max(clock(subject.run, 1), 1e-9)))


def wall_clock(run: Callable[[], object], repeats: int) -> float:
    """Seconds that `repeats` runs take on this processor."""
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return time.perf_counter() - start


def cuda_events(run: Callable[[], object], repeats: int) -> float:
    """Seconds from the start of the first run on an idle GPU to the end of the last.

    Where the host is slower than the GPU, the GPU waits, and the waiting counts.
    """
    event = partial(torch.cuda.Event, enable_timing=True)
    start, end = event(), event()
    torch.cuda.synchronize()
    start.record()
    for _ in range(repeats):
        run()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3
