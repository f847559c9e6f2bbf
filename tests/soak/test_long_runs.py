"""A long run of a tiny model takes no more memory, time or disk at its end than at its start."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memory import resident
from promises import size, tried
from run_cases import IMAGES, TINY, without_pictures

import betavae_core as bv

WINDOW = 1000  # steps between two looks at the memory and the clock
ROW, LATENT = 220, 25  # bytes that a line of the log takes at most: so many, and for each latent


Looks = list[tuple[int, float]]


def run_for_long(out: Path) -> tuple[bv.Run, Looks]:
    """A long run, and the memory and the clock after every window of steps."""
    looks: Looks = []
    settings: dict[str, Any] = TINY | {
        "steps": size(4_000, 100_000),
        "log_every": size(40, WINDOW),
        "checkpoint_every": size(40, WINDOW),
    }
    with pytest.MonkeyPatch.context() as patch:
        without_pictures(patch)
        look = lambda *_: looks.append((resident(), time.perf_counter()))  # noqa: E731
        return bv.train(settings, images=IMAGES, out=out, progress=look), looks


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> tuple[bv.Run, Looks]:
    return run_for_long(tmp_path_factory.mktemp("long") / "run")


@pytest.mark.promise("memory")
def test_memory_stays_flat(long: tuple[bv.Run, Looks]) -> None:
    memory = [resident for resident, _ in long[1]]
    early = max(memory[: len(memory) // 10])
    assert max(memory) <= 1.02 * early
    tried(len(memory))


def slackening(looks: Looks) -> float:
    """The time of a window in the last third of a run, relative to the first."""
    seconds = np.diff([clock for _, clock in looks])
    third = len(seconds) // 3
    # The machine is shared: what a window can take is the least that some of it took.
    first, last = (
        np.sort(part)[: third // 3].mean() for part in (seconds[:third], seconds[-third:])
    )
    return float(last / first)


@pytest.mark.promise("pace")
def test_the_pace_does_not_slacken(long: tuple[bv.Run, Looks], tmp_path: Path) -> None:
    """Others may slow the last third of a run, though hardly of three: ours would, of all three."""
    ratios = [slackening(long[1])]
    while min(ratios) > 1.1 and len(ratios) < 3:
        ratios.append(slackening(run_for_long(tmp_path / str(len(ratios)))[1]))
    assert min(ratios) <= 1.1
    tried(len(long[1]) - 1)


@pytest.mark.promise("log-size")
def test_the_log_grows_by_what_is_stated(long: tuple[bv.Run, Looks]) -> None:
    run = long[0]
    rows = run.config.steps // run.config.log_every
    assert len(run.metrics) == rows
    size_of_log = sum(
        (run.path / name).stat().st_size for name in ("metrics.jsonl", "timings.jsonl")
    )
    assert size_of_log <= rows * (ROW + LATENT * run.config.latent_dim)
    tried(rows)
