"""Fetching files: from the first mirror that works, and only what its checksum says.

A file is written under another name and gets its own when its checksum is right, so a broken
download leaves nothing. Its SHA-256 is put beside it in NAME.sha256, which every reader compares.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from betavae_core.data.cache import root
from betavae_core.data.files import digest_of, one_line, record_digest
from betavae_core.data.progress import note, tell
from betavae_core.errors import DataError

_TIMEOUT = 30  # seconds without a byte
_CHUNK = 1 << 18


@dataclass(frozen=True)
class Remote:
    """A file of `size` bytes at any of `urls`; size None is unknown.

    `checksum` is "sha256:…" or "md5:…".
    """

    name: str
    size: int | None
    checksum: str
    urls: tuple[str, ...]


def remotes(bases: tuple[str, ...], *files: tuple[str, int | None, str]) -> tuple[Remote, ...]:
    """Files (name, size, checksum) that lie under every one of the addresses `bases`."""
    return tuple(
        Remote(name, size, checksum, tuple(base + name for base in bases))
        for name, size, checksum in files
    )


def fetch(folder: str, files: Iterable[Remote]) -> Path:
    """ROOT/`folder` with all `files` in it; those that are there already are not fetched."""
    place = root() / folder
    for file in files:
        fetch_file(place, file)
    return place


def fetch_file(place: Path, file: Remote) -> Path:
    """The `file` in the folder `place`: as it is there, else from the first mirror that has it.

    Raises DataError, which names what every mirror answered and where to put the file by hand.
    """
    path = place / file.name
    if _is_whole(path, file):
        return path
    failures = []
    for url in file.urls:
        try:
            note(f"fetching {file.name} from {url}")
            _retrieve(url, path, file)
        except Exception as error:  # whatever it is, the next mirror may do better
            failures.append(f"{url}: {one_line(error)}")
        else:
            record_digest(path)
            return path
    raise DataError(
        f"{file.name} cannot be fetched ({'; '.join(failures)}); run `betavae data prepare "
        f"{place.name}` where there is a network, or put the file into {place} by hand"
    )


def _is_whole(path: Path, file: Remote) -> bool:
    """Whether the file is there and its checksum is right; its digest is put beside it then."""
    algorithm, _, expected = file.checksum.partition(":")
    if not path.is_file() or digest_of(path, algorithm) != expected:
        return False
    record_digest(path)
    return True


def _retrieve(url: str, path: Path, file: Remote) -> None:
    """Fetch `url` to `path` if its checksum is right, else raise nearly anything."""
    import pooch  # only who downloads needs it

    pooch.get_logger().setLevel(logging.WARNING)
    pooch.retrieve(
        url,
        known_hash=file.checksum,
        fname=path.name,
        path=path.parent,
        downloader=pooch.HTTPDownloader(
            progressbar=_Progress(file), chunk_size=_CHUNK, timeout=_TIMEOUT
        ),
    )


class _Progress:
    """What pooch asks of a progress bar; it also stops a file that does not end."""

    def __init__(self, file: Remote) -> None:
        self.file, self.done = file, 0
        self.total = 0  # what the server says; pooch sets it

    def update(self, count: int) -> None:
        self.done += count
        size = self.file.size or self.total
        if size and self.done > size + _CHUNK:
            raise DataError(f"sends more than the {size:,} bytes of {self.file.name}")
        tell(f"fetching {self.file.name}, bytes", min(self.done, size), size)

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        pass
