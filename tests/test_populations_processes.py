"""Sweeps in real processes, really killed: no worker is left, and nothing is lost or different."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from promises import size, tried
from run_cases import TINY, assert_same_run, snapshot
from sweep_cases import (
    begin,
    children,
    finish,
    is_alive,
    quick,
    steps_saved,
    sweep,
    wait_until,
    write_images,
)

from betavae_core import populations
from betavae_core.errors import UsageError

STEPS, EVERY = 600, 50
LABELS = ("beta-1-seed-0", "beta-1-seed-1", "beta-4-seed-0", "beta-4-seed-1")

Start = Callable[..., subprocess.Popen[str]]

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads /proc")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Begin a sweep in `tmp_path`; one that a failed test leaves is ended."""
    begun: list[subprocess.Popen[str]] = []

    def new(**options: Any) -> subprocess.Popen[str]:
        begun.append(begin(tmp_path, **options))
        return begun[-1]

    yield new
    for process in begun:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What to sweep: two β with two seeds, on two workers."""
    data = write_images(tmp_path_factory.mktemp("data") / "images.npz")
    # A worker that says nothing until its run is done cannot notice by it that no one listens.
    config = TINY | {"data": data, "steps": STEPS, "checkpoint_every": EVERY, "log_every": STEPS}
    return {"config": config, "betas": [1, 4], "seeds": 2, "workers": 2}


@pytest.fixture(scope="module")
def unbroken(options: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same sweep in this process, so that it tells whether the processes make a difference."""
    folder = tmp_path_factory.mktemp("unbroken")
    with pytest.MonkeyPatch.context() as patch:
        quick(patch)
        patch.chdir(folder)
        populations.sweep(out="sweep", **options)
    return folder


@pytest.mark.promise("kill-sweep")
@pytest.mark.parametrize("number", range(size(1, 12)))
def test_a_sweep_that_is_killed_leaves_no_worker_and_goes_on_bit_for_bit(
    tmp_path: Path, start: Start, options: dict[str, Any], unbroken: Path, number: int
) -> None:
    process, goal = start(**options), 2 * EVERY + number * EVERY * 3 / 2
    wait_until(lambda: sum(steps_saved(tmp_path).values()) >= goal, process)
    time.sleep(number / 500)  # into the next checkpoints
    workers = children(process)
    assert len(workers) == 2
    process.kill()
    assert finish(process)[0] == -signal.SIGKILL
    wait_until(lambda: not any(map(is_alive, workers)))
    stopped = steps_saved(tmp_path)
    assert 0 < sum(stopped.values()) < 2 * STEPS

    code, _, stderr = finish(start(resume=True, workers=1))
    assert (code, stderr) == (0, "")
    for name in ("sweep.json", "sweep.md"):
        one, other = (folder / "sweep" / name for folder in (unbroken, tmp_path))
        assert one.read_text() == other.read_text()
    for label in LABELS:
        assert_same_run(unbroken / "sweep" / "runs" / label, tmp_path / "sweep" / "runs" / label)
    tried()


def test_ctrl_c_saves_every_run_and_leaves_no_worker(
    tmp_path: Path, start: Start, options: dict[str, Any]
) -> None:
    process = start(**options | {"config": options["config"] | {"steps": 100_000}})
    wait_until(lambda: len(steps_saved(tmp_path)) == 2, process)
    workers, before = children(process), steps_saved(tmp_path)
    with pytest.raises(UsageError, match="another sweep writes"):
        sweep(tmp_path / "sweep", resume=True)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    code, stdout, stderr = finish(process)
    assert (code, stderr) == (130, "")
    assert not any(map(is_alive, workers))
    saved = steps_saved(tmp_path)
    assert stdout.split() == ["sweep", str(sum(saved.values())), "sweep"]
    assert all(saved[label] > before[label] for label in before)
    assert any(step % EVERY for step in saved.values())  # saved where it was
    assert not (tmp_path / "sweep" / "sweep.json").exists()


def test_a_worker_that_dies_fails_its_run_alone(
    tmp_path: Path, start: Start, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start(**options | {"workers": 1, "seeds": 1})
    wait_until(lambda: bool(steps_saved(tmp_path)), process)
    (worker,) = children(process)
    os.kill(worker, signal.SIGKILL)
    code, stdout, _ = finish(process)
    assert code == 1
    assert stdout.startswith(
        "1 of 2 runs failed, the others are finished: beta-1-seed-0: its process ended by signal 9"
    )
    result = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert [row["label"] for row in result["runs"]] == ["beta-4-seed-0"]
    finished = tmp_path / "sweep" / "runs" / "beta-4-seed-0"
    before = snapshot(finished)
    quick(monkeypatch)
    result = sweep(tmp_path / "sweep", resume=True)
    assert [row["label"] for row in result["runs"]] == ["beta-1-seed-0", "beta-4-seed-0"]
    assert snapshot(finished) == before
