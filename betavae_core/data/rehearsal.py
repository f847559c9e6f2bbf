"""A rehearsal in a child process, for a library that may hang or crash on a damaged file.

A file made to be read by C code can send it round in circles, or bring the process down, and no
exception tells of it. So what is about to be done is done in a forked child first; only when that
comes to an end, well or with an exception, is it done here.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable

from betavae_core.errors import DataError

_LIMIT = 60.0  # seconds after which a rehearsal does not end any more
_SOONEST, _LATEST = 0.001, 0.1  # seconds between two looks at the child


def rehearse(work: Callable[[], object]) -> None:
    """DataError when `work` hangs or crashes; what it raises or returns is lost.

    Where a process cannot be forked (Windows) nothing is rehearsed.
    """
    if not hasattr(os, "fork"):
        return
    with warnings.catch_warnings():
        # Python warns that a fork copies one thread alone. This child runs one and waits for none.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _play(work)
    status = _await(child)
    if status is None:
        raise DataError(f"the library that reads it does not come to an end in {_LIMIT:.0f} s")
    if os.WIFSIGNALED(status):
        raise DataError(f"the library that reads it crashes (signal {os.WTERMSIG(status)})")


def _play(work: Callable[[], object]) -> None:
    """In the child: do the work, and end without a trace."""
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        work()
    finally:
        os._exit(0)


def _await(child: int) -> int | None:
    """The status that the child ends with; None when it had to be stopped."""
    deadline, pause = time.monotonic() + _LIMIT, _SOONEST
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        time.sleep(pause)
        pause = min(2 * pause, _LATEST)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return None
