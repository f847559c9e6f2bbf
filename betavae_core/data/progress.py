"""What long work says while it runs: to stderr unless the caller listens.

A source calls `tell(what, done, total)` as often as it likes and `note(text)` for what a user
should read once; neither needs to know who listens. `with reporting(listener):` hands both to a
listener, such as a progress bar.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# What is done, how much of it, of how much: `total` 0 marks a note.
Listener = Callable[[str, int, int], None]


def stderr_lines() -> Listener:
    """A listener that prints notes, and of every piece of work the tenths, a line each."""
    shown: dict[str, int] = {}

    def show(what: str, done: int, total: int) -> None:
        tenth = 10 * done // total if total else 0
        if total and shown.get(what) == tenth:
            return
        shown[what] = tenth
        print(f"{what}: {done:,} of {total:,}" if total else what, file=sys.stderr)

    return show


_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def reporting(listener: Listener) -> Iterator[None]:
    """Inside, `listener` hears of all work."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(what: str, done: int, total: int) -> None:
    """Say that `done` of `total` units of the work `what` are done."""
    _heard()(what, done, max(1, total))


def note(text: str) -> None:
    """Say something once."""
    _heard()(text, 0, 0)


def _heard() -> Listener:
    listener = _listener.get()
    if listener is None:
        listener = stderr_lines()
        _listener.set(listener)
    return listener
