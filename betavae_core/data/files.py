"""Reading files that may be damaged, lying or hostile.

Two rules keep a reader safe. It never allocates or reads more than a header declares and the file
can hold; and whatever a decoder raises, the user sees one DataError of one line that names the
file, the cause and the remedy.
"""

from __future__ import annotations

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

    Memory is touched only as bytes arrive, so a header that lies costs nothing. Asking for one
    byte more is also what makes gzip and zip compare their checksums.
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
    if stream.read(1):
        raise DataError(
            f"its header declares {count} bytes of data and more are there; fetch or write it again"
        )
    return payload
