"""What the tests under fault share: a nursery of trainings that can be killed."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

LONGEST = 120  # seconds that a job may take


class Nursery:
    """Trainings in processes that can be killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        script = str(Path(__file__).with_name("nursery.py"))
        self.process = subprocess.Popen(
            [sys.executable, script],
            cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            bufsize=0,  # or `begin` might read the next line too, for which `end` would wait
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stdout.readline() == b"ready\n"

    def begin(
        self, out: Path, settings: dict[str, Any], fault: Any = None, *, sweep: bool = False
    ) -> int:
        """Start a run, or a sweep, or go on with the one in `out`; the number of its process."""
        resume = (out / ("plan.json" if sweep else "config.toml")).exists()
        arguments = settings if sweep else {"config": settings}
        job = {"out": str(out), "resume": resume, "fault": fault, "sweep": sweep}
        job["settings"] = {} if resume else arguments
        self.process.stdin.write(json.dumps(job).encode() + b"\n")
        return int(self.process.stdout.readline())

    def end(self) -> tuple[int, str]:
        """The wait status of the run that was started last, and what it said."""
        ready, _, _ = select.select([self.process.stdout], [], [], LONGEST)
        assert ready, f"a job does not end in {LONGEST} s"
        answer = json.loads(self.process.stdout.readline())
        return answer["status"], answer["said"]

    def run(self, out: Path, *job: Any, **kind: Any) -> tuple[int, str]:
        """Start a run or a sweep, as `begin`, and wait for its end."""
        self.begin(out, *job, **kind)
        return self.end()

    def finish(self, out: Path, *job: Any, **kind: Any) -> None:
        """As `run`, of what must end well and without a word."""
        assert self.run(out, *job, **kind) == (0, "")

    def close(self) -> None:
        """End the process that all others come from, and those."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


def saved_step(run: Path) -> int:
    """The step of the latest checkpoint; -1 before the first."""
    latest = run / "checkpoint" / "latest.json"
    return int(json.loads(latest.read_text())["step"]) if latest.exists() else -1
