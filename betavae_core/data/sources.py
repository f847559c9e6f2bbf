"""What a file of this room offers: sources, which have a name, and formats, which read a path.

A file lists what it offers in `ENTRIES`; the room's `__init__` lists the files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from betavae_core.data.dataset import Dataset


@dataclass(frozen=True)
class Source:
    """A data set with a name. `shape` is (C, H, W), `size` the bytes that it takes in memory.

    `load` works without `prepare` having been called. `prepare` fetches or converts what `load`
    needs and gives the file or folder; None where nothing is needed.
    """

    name: str
    images: int
    shape: tuple[int, int, int]
    size: int
    note: str
    load: Callable[[], Dataset]
    prepare: Callable[[], Path] | None = None


@dataclass(frozen=True)
class Format:
    """A kind of file or folder. `read` is called for paths that exist and that `accepts` takes.

    `reads` says what it reads, for the message that no format takes a path.
    """

    reads: str
    accepts: Callable[[Path], bool]
    read: Callable[[Path], Dataset]
