"""Reading files that may be damaged, lying or hostile.

Two rules keep a reader safe. It never allocates or reads more than a header declares and the file
can hold; and whatever a decoder raises, the user sees one DataError of one line that names the
file, the cause and the remedy.

Some formats cannot tell a flipped bit. So every reader compares a file with the digest beside it,
NAME.sha256 in the form of sha256sum, where there is one; a fetched file always has one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from betavae_core.errors import DataError

DEFLATE_RATIO = 1032  # deflate cannot expand further: 258 bytes from two bits
_CHUNK = 1 << 20


class Stream(Protocol):
    """The part of a binary file that the readers use: plain files, gzip, members of a zip."""

    def read(self, size: int, /) -> bytes: ...


@contextmanager
def reading(path: Path, remedy: str) -> Iterator[None]:
    """Name `path` in whatever goes wrong inside, as a DataError of one line ending in `remedy`."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except OSError as error:
        cause = error.strerror or one_line(error)
        raise DataError(f"{path}: cannot be read ({cause}); {remedy}") from error
    # A decoder fed with damaged bytes raises nearly anything: BadZipFile, zlib.error, EOFError,
    # KeyError, NotImplementedError, struct.error, SyntaxError, UnicodeDecodeError, MemoryError, …
    except Exception as error:
        raise DataError(f"{path}: cannot be read ({one_line(error)}); {remedy}") from error


def one_line(error: BaseException) -> str:
    """The message of `error` with line breaks removed, or its class where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def read_bytes(stream: Stream, count: int, what: str) -> bytes:
    """Exactly `count` bytes, few enough to hold twice; DataError when the file ends before."""
    data = stream.read(count)
    if len(data) < count:
        raise DataError(f"truncated: it ends inside {what}; fetch or write it again")
    return data


def read_payload(stream: Stream, count: int) -> NDArray[np.uint8]:
    """The `count` bytes that remain in `stream`: DataError when there are fewer or more.

    Memory is touched only as bytes arrive, so a header that lies costs nothing.
    """
    payload = np.empty(count, np.uint8)
    done = 0
    while done < count and (block := stream.read(min(_CHUNK, count - done))):
        payload[done : done + len(block)] = np.frombuffer(block, np.uint8)
        done += len(block)
    if done < count:
        raise DataError(
            f"truncated: its header declares {count} bytes of data and {done} are there; "
            "fetch or write it again"
        )
    check_end(stream, f"{count} bytes of data")
    return payload


def check_end(stream: Stream, declared: str) -> None:
    """DataError unless all of `stream` is read; this is when gzip and zip compare checksums."""
    if stream.read(1):
        raise DataError(
            f"its header declares {declared} and more are there; fetch or write it again"
        )


def digest_of(path: Path, algorithm: str = "sha256") -> str:
    """The digest of the file `path`, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def record_digest(path: Path) -> None:
    """Put the SHA-256 of `path` beside it, whole or not at all."""
    beside = _digest_file(path)
    partial = beside.with_name(f".{beside.name}.{os.getpid()}")
    partial.write_text(f"{digest_of(path)}  {path.name}\n", encoding="utf-8")
    os.replace(partial, beside)


def check_digest(path: Path) -> None:
    """DataError unless `path` has the digest beside it; without one there is nothing to compare."""
    beside = _digest_file(path)
    if not beside.is_file():
        return
    recorded = beside.read_text(encoding="utf-8").split(maxsplit=1)
    if not recorded or recorded[0].lower() != digest_of(path):
        raise DataError(
            f"is damaged: its SHA-256 is not the one in {beside.name}; fetch it again, or delete "
            f"{beside.name} where the file was changed on purpose"
        )


def _digest_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
