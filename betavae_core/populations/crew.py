"""Workers side by side: each a process of one thread, given one job after another.

A worker is a new interpreter and not a fork, which threads do not survive; and is started by hand
and not by `multiprocessing`, which would run the caller's script again. Its messages are lines of
JSON (see `worker`), so nothing is pickled, and it dies with this process because its stdin ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

from betavae_core.loop import interruptions
from betavae_core.populations.board import Board
from betavae_core.populations.plan import Job

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from betavae_core.populations.worker import main; main()"
)
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_PAUSE = 0.1  # seconds between two looks at whether Ctrl-C was pressed
_PATIENCE = 10.0  # seconds for a worker to end once it should


Inbox = Queue[tuple["Worker", dict[str, Any] | None]]


class Worker:
    """A process that trains; what it says goes to `inbox` with itself, and None at its end."""

    def __init__(self, out: Path, inbox: Inbox) -> None:
        self.job: Job | None = None
        self._out = out
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 (closed in dismiss)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, json.dumps([*map(str, sys.path)])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            env=os.environ | ONE_THREAD,
            process_group=0,  # a Ctrl-C at the terminal comes here, and from here once
        )
        self._listener = Thread(target=self._listen, args=(inbox,), daemon=True)
        self._listener.start()

    def give(self, job: Job) -> None:
        """Let it work on `job`."""
        self.job = job
        names = {"label": job.label, "setting": job.setting, "out": str(self._out)}
        self._send({**names, "settings": asdict(job.config)})

    def stop(self) -> None:
        """Let it save what it has and end."""
        self._send(None)

    def dismiss(self) -> str:
        """End it at once, unless it has ended; and how it ended, in words."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            code = self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self._listener.join()
        self.process.stdout.close()
        return f"its process ended {_end(code)}{self._last_words()}"

    def _send(self, message: dict[str, Any] | None) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it is gone, which the listener hears
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()

    def _listen(self, inbox: Inbox) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith(b"\n"):  # else it was killed in the middle of a word
                inbox.put((self, json.loads(line)))
        inbox.put((self, None))

    def _last_words(self) -> str:
        with self._complaints as file:
            file.seek(0)
            lines = file.read().decode(errors="replace").split("\n")
        return next((f": {line}" for line in reversed(lines) if line.strip()), "")


def _end(code: int) -> str:
    return f"by signal {-code}" if code < 0 else f"with exit code {code}"


class Crew:
    """At most `size` workers, which take the jobs in order until none is left."""

    def __init__(self, size: int, jobs: Sequence[Job], out: Path, board: Board) -> None:
        self._size, self._waiting, self._board = size, deque(jobs), board
        self._out = out
        self._inbox: Inbox = Queue()
        self._stopping = False
        self._workers: list[Worker] = []

    def work(self) -> None:
        """Do all jobs. Raises KeyboardInterrupt, with everything saved, once Ctrl-C is pressed.

        A second Ctrl-C does not wait for the saving. No worker is left, however this ends.
        """
        with interruptions() as pressed:
            try:
                for _ in range(min(self._size, len(self._waiting))):
                    self._hire()
                while self._workers and not pressed():
                    self._hear()
                self._stop()
            finally:
                for worker in self._workers:
                    worker.dismiss()
        if pressed():
            raise KeyboardInterrupt

    def _stop(self) -> None:
        """Let the workers save what they have, and wait for them; what waits is not begun."""
        self._stopping = True
        self._waiting.clear()
        for worker in self._workers:
            worker.stop()
        while self._workers:
            self._hear()

    def _hire(self) -> None:
        worker = Worker(self._out, self._inbox)
        self._workers.append(worker)
        self._next(worker)

    def _next(self, worker: Worker) -> None:
        """Give a worker the next job; without one it is not needed any more."""
        if self._waiting:
            job = self._waiting.popleft()
            worker.give(job)
            self._board.start(job.label)
        else:
            self._workers.remove(worker)
            worker.dismiss()

    def _hear(self) -> None:
        """Wait a moment for a message, and do what it asks for."""
        try:
            worker, message = self._inbox.get(timeout=_PAUSE)
        except Empty:
            return
        if worker not in self._workers or worker.job is None:
            return  # the end of one that was dismissed
        label = worker.job.label
        match message:
            case None:
                self._bury(worker)
            case {"step": step}:
                self._board.advance(label, step)
            case {"warning": text}:
                warnings.warn(text, stacklevel=2)
            case {"row": row}:
                self._board.finish(label, row)
                self._next(worker)
            case {"error": error}:
                self._board.fail(label, error)
                self._next(worker)

    def _bury(self, worker: Worker) -> None:
        """A worker that ended by itself has failed at its job, unless it was told to stop."""
        self._workers.remove(worker)
        end = worker.dismiss()
        if self._stopping:
            return
        assert worker.job is not None
        self._board.fail(worker.job.label, end)
        if self._waiting:
            self._hire()
