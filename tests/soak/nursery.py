"""A process that has everything imported, and forks a child for each job that it reads.

Starting Python and PyTorch takes seconds; a fork takes milliseconds, and a forked child is a
process like any other, that can be killed like any other. A job is one line of JSON on stdin:

    settings   arguments of `train`, or if `sweep`, of `sweep`
    out        the folder          resume   go on with what is in it
    fault      [n, mode] of a FaultyDisk, or null

and is answered by two lines on stdout: the child's process number at once, and when it has ended
its wait status with what it said: each step that it saved, where there is a fault, and its error.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import h5py  # noqa: E402, F401 (imported here so that no child has to)
import PIL.Image  # noqa: E402, F401
import torch  # noqa: E402
import torch._dynamo  # noqa: E402
from faulty_disk import FaultyDisk  # noqa: E402

import betavae_core as bv  # noqa: E402
from betavae_core import populations, training  # noqa: E402
from betavae_core.errors import FailureError, UsageError  # noqa: E402
from betavae_core.run_directory import RunDirectory  # noqa: E402

ERROR = 3  # the exit code of a child that ended in an error of one line; 4, in any other


def main() -> None:
    """Answer jobs until there are no more."""
    torch.set_num_threads(1)
    training.draw_all = lambda run, dataset: None  # pictures take longer than a tiny training
    sys.modules["betavae_core.populations.report"].draw = lambda rows, recommended, out: (
        out / "frontier.png"
    )
    populations._in_processes = lambda plan: False  # a sweep trains here, not in workers
    print("ready", flush=True)
    for line in sys.stdin:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _live(json.loads(line), writing)
        os.close(writing)
        print(child, flush=True)
        with os.fdopen(reading, "rb") as said:
            words = said.read().decode()
        print(json.dumps({"status": os.waitpid(child, 0)[1], "said": words}), flush=True)


def _live(job: dict[str, Any], said: int) -> None:
    """In the child: do the job, say what there is to say, and end."""
    code = 0
    warnings.showwarning = lambda message, *_: os.write(said, f"warning: {message}\n".encode())
    try:
        _train(job, said)
    except (FailureError, UsageError) as error:
        os.write(said, f"{error}\n".encode())
        code = ERROR
    except BaseException:
        os.write(said, traceback.format_exc().encode())
        code = ERROR + 1
    finally:
        os._exit(code)


def _train(job: dict[str, Any], said: int) -> None:
    disk = None
    if job["fault"]:
        disk = FaultyDisk(Path(job["out"]), *job["fault"])
        disk.install()
        _announce_saves(said)
    make = populations.sweep if job["sweep"] else bv.train
    make(out=job["out"], resume=job["resume"], **job["settings"])
    if disk is not None:
        os.write(said, f"changes: {' '.join(disk.changes)}\n".encode())


def _announce_saves(said: int) -> None:
    """Say the step of each checkpoint that is saved for good."""
    save = RunDirectory.save_checkpoint

    def saved(directory: RunDirectory, step: int, *rest: Any) -> None:
        save(directory, step, *rest)
        os.write(said, f"saved {step}\n".encode())

    RunDirectory.save_checkpoint = saved  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
