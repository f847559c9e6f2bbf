"""A sweep on disk, held by one process at a time.

plan.json               what it trains; a sweep exists when this file does
runs/LABEL/             an ordinary run directory for each model
codes/LABEL.npz         its `codes` (N, D), their `kl` (D,) and the `factors`, where known
frontier.png, sweep.md  the figure and the table
sweep.json              the result; written last
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from betavae_core.errors import DataError, UsageError
from betavae_core.populations.plan import Job, Plan, read_plan
from betavae_core.run_directory import read_latest, read_summary
from betavae_core.storage import PARTIAL, make_folder, read_json, write_atomic

PLAN, RESULT = "plan.json", "sweep.json"


def run_path(out: Path, label: str) -> Path:
    """The run directory of a model."""
    return out / "runs" / label


def codes_path(out: Path, label: str) -> Path:
    """The file with the codes of a model."""
    return out / "codes" / f"{label}.npz"


def steps_done(out: Path, job: Job) -> int:
    """The steps of a run that are saved; 0 where that is damaged, which the run itself will say."""
    path = run_path(out, job.label)
    try:
        saved = read_summary(path) or read_latest(path)
    except DataError:
        return 0
    return int(saved["steps" if "steps" in saved else "step"]) if saved else 0


def require_plan(out: str | os.PathLike[str] | None) -> Plan:
    """The plan of the sweep in `out`. Raises UsageError when there is none to go on with."""
    if out is None:
        raise UsageError("--resume needs --out, the folder of the sweep to go on with")
    plan = read_plan(Path(out) / PLAN)
    if plan is None:
        raise UsageError(
            f"--resume needs a sweep in --out, and {out} holds no {PLAN}; start one without "
            "--resume"
        )
    return plan


def read_result(out: Path) -> dict[str, Any] | None:
    """What sweep.json says; None while there is no result of all runs."""
    result = read_json(out / RESULT, {"runs": list, "recommended": dict, "failed": dict})
    return None if result is None or result["failed"] else result


@contextmanager
def held(out: Path, plan: Plan, *, resume: bool) -> Iterator[None]:
    """The folder of a sweep under its lock: a new one, with its plan written, or one to resume.

    Raises UsageError when it is in use, cannot be written, or is not empty and not to be resumed.
    """
    with _writable(out):
        make_folder(out)
        lock = _lock(out)
    try:
        if not resume:
            _begin(out, plan)
        yield
    finally:
        os.close(lock)


def _lock(out: Path) -> int:
    """A descriptor of the folder, locked until it is closed."""
    lock = os.open(out, os.O_RDONLY)
    try:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows has no flock
        pass
    except OSError:
        os.close(lock)
        raise UsageError(
            f"--out must not be in use, and another sweep writes {out}; wait for it or choose "
            "another folder"
        ) from None
    return lock


def _begin(out: Path, plan: Plan) -> None:
    """Write the plan into a folder that is empty, but for a plan that was cut short."""
    with _writable(out):
        if any(entry.name != PARTIAL.format(PLAN) for entry in out.iterdir()):
            raise UsageError(
                f"--out must be a new or an empty folder, and {out} is not empty; add --resume "
                "to go on with the sweep in it"
            )
        write_atomic(out / PLAN, json.dumps(plan.to_json(), indent=2).encode())


@contextmanager
def _writable(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"--out must be a folder that can be written, got {out}: {error.strerror}"
        ) from None
