"""Models side by side in this process, as a GPU likes them: their steps are one graph (see `loop`).

They share one copy of the images. Each is an ordinary run in its own folder, with the bits that it
has when it is trained alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from betavae_core.data.resident import Resident
from betavae_core.errors import Interrupted
from betavae_core.loop import fit
from betavae_core.populations.board import Board
from betavae_core.populations.member import begin, describe, end, load_images
from betavae_core.populations.plan import Job
from betavae_core.runs import Run
from betavae_core.trainer import Trainer

MODELS = 32  # side by side, where nobody says how many


class Together:
    """Trains and scores jobs, `size` of them at a time."""

    def __init__(self, size: int, jobs: Sequence[Job], out: Path, board: Board) -> None:
        self._size, self._jobs, self._out, self._board = size, jobs, out, board
        shared = jobs[0].config
        self._images = load_images(shared.data, shared.classes)
        self._resident = Resident(self._images, shared.device)

    def work(self) -> None:
        """Do all jobs. Raises Interrupted, with everything saved, once Ctrl-C is pressed."""
        for first in range(0, len(self._jobs), self._size):
            self._train(self._jobs[first : first + self._size])

    def _train(self, jobs: Sequence[Job]) -> None:
        """Train some side by side, then score them; one that fails leaves the others alone."""
        with ExitStack() as stack:
            begun: dict[Job, Trainer | Run] = {}
            for job in jobs:
                self._board.start(job.label)
                with self._noted(job):
                    begun[job] = stack.enter_context(self._begin(job))
            self._fit(begun)
            rows: dict[Job, dict[str, Any]] = {}
            for job, trained in begun.items():
                with self._noted(job):
                    rows[job] = end(job, self._out, self._images, trained)
                if job in rows:
                    self._board.finish(job.label, rows[job])

    def _fit(self, begun: dict[Job, Trainer | Run]) -> None:
        """Train those that are to be trained; what fails leaves `begun`."""
        jobs_of = {t: job for job, t in begun.items() if isinstance(t, Trainer)}

        def failed(trainer: Trainer, error: Exception) -> None:
            del begun[jobs_of[trainer]]
            self._board.fail(jobs_of[trainer].label, describe(error))

        try:
            fit([*jobs_of], failed)
        except Interrupted:
            raise
        except Exception as error:  # of a step that they took together: no memory, most likely
            for trainer in [t for t, job in jobs_of.items() if job in begun]:
                failed(trainer, error)

    def _begin(self, job: Job) -> AbstractContextManager[Trainer | Run]:
        progress = partial(self._board.advance, job.label)
        return begin(job, self._out, self._images, progress, self._resident)

    @contextmanager
    def _noted(self, job: Job) -> Iterator[None]:
        """An error within is the end of that run alone."""
        try:
            yield
        except Interrupted:
            raise
        except Exception as error:
            self._board.fail(job.label, describe(error))
