"""What the library promises, and the count of what was tried to break each promise.

A test that holds a promise bears `@pytest.mark.promise(NAME)` and says `tried()` once for each
attempt that it survived. `make soak` runs these tests at their full size and ends in one table;
`make test` runs them at a size of seconds. docs/promises.md states each in a sentence.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

PROMISES = {
    "kill": "a run that is killed goes on bit for bit",
    "kill-sweep": "a sweep that is killed goes on bit for bit",
    "death": "a run that dies at any write, flush, sync or rename goes on bit for bit",
    "power": "a run that loses what was not yet synced goes on bit for bit",
    "disk": "a full or forbidden disk is one line, and the last checkpoint loads",
    "idx": "a damaged IDX file is one line or sound data, in bounded memory",
    "npy": "a damaged npy file is one line or sound data, in bounded memory",
    "npz": "a damaged npz file is one line or sound data, in bounded memory",
    "h5": "a damaged HDF5 file is one line or sound data, in bounded memory",
    "images": "a damaged image is left out and counted, in bounded memory",
    "safetensors": "a damaged weights file is one line, in bounded memory",
    "toml": "a damaged settings file is one line or sound settings",
    "checkpoint": "a damaged checkpoint is one line, and nothing is touched",
    "digest": "where a digest is known, no damaged byte is read",
    "pickle": "no line of the library can unpickle",
    "parity-cpu": "an op on the CPU loses at most twice what eager PyTorch loses",
    "parity-kernels": "a kernel gives the oracle's values and gradients",
    "extremes": "extreme inputs give finite values and right gradients",
    "non-finite": "a non-finite loss stops the run, names step and term, keeps the checkpoint",
    "bytes": "the same seed gives the same files in two processes",
    "repeats": "a step repeated gives the same bits",
    "environment": "a changed environment is said on resuming",
    "world": "one process and two give the same noise, order and losses",
    "one-writer": "a second training into a folder is refused",
    "reader": "a run that is read while it trains is whole",
    "log": "the log of a resumed run has whole lines only, each once",
    "memory": "memory stays flat over a long run",
    "log-size": "the log grows by at most what is stated",
    "pace": "a long run does not slow down",
}

_tried: Counter[str] = Counter()
_full = False


def run_in_full(full: bool) -> None:
    """Whether the tests run at their full size from here on; before they are collected."""
    global _full
    _full = full


def size(short: int, full: int) -> int:
    """How many times to try: a few in `make test`, all in `make soak`."""
    return full if _full else short


def tried(count: int = 1) -> None:
    """Another `count` attempts to break the promise of this test have failed."""
    _tried["now"] += count


def taken() -> int:
    """The attempts since this was last called."""
    return _tried.pop("now", 0)


def rows(reports: list[tuple[str, int, bool]]) -> list[dict[str, Any]]:
    """The table: of (promise, attempts, held) of every test, one row a promise."""
    table = []
    for name, promise in PROMISES.items():
        mine = [(attempts, held) for one, attempts, held in reports if one == name]
        held = sum(attempts for attempts, held in mine)
        failed = sum(not held for _, held in mine)
        table.append({"promise": promise, "tried": held + failed, "held": held})
    return table
