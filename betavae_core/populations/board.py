"""What is known of a sweep while it runs, told to who listens whenever it changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from betavae_core.populations.plan import Job


@dataclass(frozen=True)
class State:
    """A sweep at one moment: steps over all runs, and the labels of the runs in each state.

    `steps` says how far each run is. A run is `running` while it trains and is scored, too.
    """

    done: int
    total: int
    steps: Mapping[str, int]
    running: tuple[str, ...]
    finished: tuple[str, ...]
    failed: tuple[str, ...]


Progress = Callable[[State], None]


class Board:
    """The state of every run, its result once it has one, and why it failed if it did.

    Args:
        saved: label -> the steps that were done before.
    """

    def __init__(self, jobs: Iterable[Job], saved: Mapping[str, int], progress: Progress) -> None:
        self._goals = {job.label: job.config.steps or 0 for job in jobs}
        self._steps, self._progress = dict(saved), progress
        self._running: dict[str, None] = {}  # a set in the order of its members
        self.rows: dict[str, dict[str, Any]] = {}
        self.errors: dict[str, str] = {}

    def start(self, label: str) -> None:
        """A run begins, or goes on."""
        self._running[label] = None
        self._tell()

    def advance(self, label: str, step: int) -> None:
        """A run has done `step` steps."""
        self._steps[label] = step
        self._tell()

    def finish(self, label: str, row: dict[str, Any]) -> None:
        """A run is trained and scored."""
        self.rows[label] = row
        self._steps[label] = self._goals[label]
        del self._running[label]
        self._tell()

    def fail(self, label: str, error: str) -> None:
        """A run ended in an error."""
        self.errors[label] = error
        del self._running[label]
        self._tell()

    @property
    def state(self) -> State:
        """All of it, as it is now."""
        return State(
            done=sum(self._steps.values()),
            total=sum(self._goals.values()),
            steps=dict(self._steps),
            running=tuple(self._running),
            finished=tuple(self.rows),
            failed=tuple(self.errors),
        )

    def _tell(self) -> None:
        self._progress(self.state)
