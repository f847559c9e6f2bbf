"""What the tests of sweeps share: data on disk, tiny sweeps here, and sweeps in a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_cases import IMAGES, ROOT, TINY, assert_same_run

from betavae_core import populations, training

LONGEST = 120  # seconds that anything here may take
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

# A script without the `if __name__ == "__main__"` that multiprocessing would need.
SCRIPT = """
import json, sys
from betavae_core.errors import FailureError
from betavae_core.populations import SweepInterrupted, sweep

try:
    sweep(out="sweep", **json.loads(sys.argv[1]))
except SweepInterrupted as stop:
    print(stop.verb, stop.step, stop.path)
    sys.exit(130)
except FailureError as error:
    print(error)
    sys.exit(1)
"""


def write_images(path: Path) -> str:
    """IMAGES as a file; with factors where it is an .npz."""
    if path.suffix == ".npy":
        np.save(path, IMAGES)
    else:
        factors = np.stack([np.arange(len(IMAGES)) % 4, np.arange(len(IMAGES)) // 4 % 5], axis=1)
        np.savez(path, images=IMAGES, factors=factors)
    return str(path)


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps in this process and without pictures of the runs: seconds less."""
    monkeypatch.setattr(populations, "_in_processes", lambda plan: False)
    monkeypatch.setattr(training, "draw_all", lambda run, dataset: None)


def sweep(out: Path, data: str | None = None, **options: Any) -> dict[str, Any]:
    """A tiny sweep; settings of the runs go into `settings`."""
    settings = TINY | options.pop("settings", {}) if data else options.pop("settings", {})
    return populations.sweep(settings | ({"data": data} if data else {}), out, **options)


def assert_same_sweep(one: dict[str, Any], other: dict[str, Any]) -> None:
    """The same rows but for their folders, which are the same bit for bit."""
    for row, expected in zip(one["runs"], other["runs"], strict=True):
        assert row | {"path": ""} == expected | {"path": ""}
        assert_same_run(Path(row["path"]), Path(expected["path"]))


def begin(folder: Path, **options: Any) -> subprocess.Popen[str]:
    """A sweep in folder/sweep, in a process and a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, json.dumps(options)],
        cwd=folder,
        env=ENVIRONMENT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """The exit code, stdout and stderr of a process once it has ended."""
    stdout, stderr = process.communicate(timeout=LONGEST)
    return process.returncode, stdout, stderr


def children(process: subprocess.Popen[str]) -> list[int]:
    """The processes that it started."""
    tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [int(pid) for task in tasks for pid in task.read_text().split()]


def is_alive(pid: int) -> bool:
    """Whether there is such a process that has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(reached: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    """Wait for something to come true, while the process lives."""
    end = time.monotonic() + LONGEST
    while not reached():
        assert process is None or process.poll() is None, finish(process)
        assert time.monotonic() < end
        time.sleep(0.005)


def steps_saved(folder: Path) -> dict[str, int]:
    """The steps of the latest checkpoint of each run in folder/sweep that has one."""
    return dict(_steps_saved(folder / "sweep" / "runs"))


def _steps_saved(runs: Path) -> Iterator[tuple[str, int]]:
    for latest in runs.glob("*/checkpoint/latest.json"):
        yield latest.parts[-3], json.loads(latest.read_text())["step"]
