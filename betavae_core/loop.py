"""The loop: models take their steps, one alone or many side by side, until each has taken its last.

Side by side every model trains as it would alone, bit for bit: they share their images and a GPU's
attention, nothing else. What a step does, and what is due after it, is the `Trainer`'s.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from betavae_core.capture import Steps
from betavae_core.errors import Interrupted, TrainingError
from betavae_core.hardware import exact_convolutions, freed_memory_kept
from betavae_core.trainer import Trainer

Failed = Callable[[Trainer, TrainingError], None]
Courses = dict[Trainer, Iterator[bool]]


class Team:
    """Models that take their steps together; on a GPU, where all can be captured, as one graph."""

    def __init__(self, trainers: Sequence[Trainer]) -> None:
        self.trainers = trainers
        self._in_bf16 = [trainer.in_bf16 for trainer in trainers]
        captured = all(trainer.can_be_captured() for trainer in trainers)
        self.take = Steps([trainer.take_step for trainer in trainers], captured)

    def is_as_it_began(self, count: int) -> bool:
        """Whether its graphs fit: `count` models, each in the precision that it began with."""
        now = [trainer.in_bf16 for trainer in self.trainers]
        return (count, now) == (len(self.trainers), self._in_bf16)

    def stride(self) -> int:
        """How many steps go by before the host has something to do for one of them."""
        return min(t.until_due() for t in self.trainers) if self.take.captured else 1

    def advance(self, steps: int = 1) -> None:
        """So many steps of each, in one precision and in the block of its feed that it is in."""
        for trainer in self.trainers:
            trainer.feed.prepare(trainer.step)
        self.take(steps)
        for trainer in self.trainers:
            trainer.step += steps


def reraise(trainer: Trainer, error: TrainingError) -> None:
    """Let the error of one model end the training of all."""
    raise error


@freed_memory_kept()
def fit(trainers: Sequence[Trainer], failed: Failed = reraise) -> None:
    """Train each to its last step; what is due is logged and saved on the way.

    Args:
        trainers: those that are further on, or have fewer steps, leave the others earlier.
        failed: hears of one that cannot go on: its loss or a weight became non-finite, or the disk
            takes no more. The others go on.

    Raises Interrupted after Ctrl-C, with all of them saved.
    """
    with exact_convolutions(), interruptions() as stop:
        courses = _go_on({trainer: trainer.course() for trainer in trainers}, failed)
        while courses and not stop():
            team = Team([*courses])
            while team.is_as_it_began(len(courses)) and not stop():
                team.advance(team.stride())
                courses = _go_on(courses, failed)
        if stop():
            for trainer in courses:
                _attempt(trainer, trainer.checkpoint, failed)
            raise Interrupted(trainers[0].step, trainers[0].directory.path)


def _go_on(courses: Courses, failed: Failed) -> Courses:
    """Let each do what is due; those that want another step."""
    return {
        trainer: course
        for trainer, course in courses.items()
        if _attempt(trainer, partial(next, course, False), failed)
    }


def _attempt(trainer: Trainer, act: Callable[[], bool | None], failed: Failed) -> bool:
    """The result of `act`, or False when it fails."""
    try:
        return bool(act())
    except TrainingError as error:
        failed(trainer, error)
        return False


@contextmanager
def interruptions() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C (or SIGTERM) has been pressed; a second one acts at once."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set  # only the main thread may handle signals
        return
    before: dict[int, Any] = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}

    def press(number: int, frame: Any) -> None:
        pressed.set()
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, press)
    try:
        yield pressed.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
