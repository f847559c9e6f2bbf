"""Where data is kept on disk, and how a big source is converted once and found again.

    ROOT/NAME/…               files as they were fetched, or put there by hand
    ROOT/converted/NAME-KEY/  a data set as `stored` writes it

ROOT is $BETAVAE_DATA, else `betavae` in the platform's cache folder. A conversion is written to a
folder of its own and gets its name when it is whole, so that a crash leaves nothing half done.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

from betavae_core.data import stored
from betavae_core.data.dataset import Dataset
from betavae_core.data.files import reading
from betavae_core.errors import DataError

_FORMAT = "1"  # a change of what conversions hold makes every key another

# Writes the pixels, and gives the data set with what is to be said of it on every load, or "".
Convert = Callable[[stored.PixelWriter], tuple[Dataset, str]]


def root() -> Path:
    """The folder that all data is kept in; it need not exist yet."""
    if chosen := os.environ.get("BETAVAE_DATA"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "betavae"
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/betavae"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "betavae"


def converted(name: str, key: str, convert: Convert) -> tuple[Dataset, str]:
    """The data set that `convert` makes and its remark: made once for every `key`, then mapped.

    A damaged conversion is named in a warning and made again. Raises what `convert` raises, and
    DataError where nothing can be written.
    """
    short = hashlib.sha256(f"{_FORMAT} {key}".encode()).hexdigest()[:16]
    folder = root() / "converted" / f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)}-{short}"
    if folder.is_dir():
        try:
            return stored.read(folder)
        except DataError as error:
            warnings.warn(f"{error}: done now", stacklevel=2)
            shutil.rmtree(folder)
    _make(folder, convert)
    return stored.read(folder)


def key_of(path: Path) -> str:
    """Another text when the file `path` is another: its place, size and time of change."""
    status = path.stat()
    return f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"


def _make(folder: Path, convert: Convert) -> None:
    """Convert into a folder beside `folder`, which then gets its name."""
    with reading(folder.parent, "set BETAVAE_DATA to a folder that can be written"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder.parent))
    try:
        with stored.PixelWriter(partial / "pixels.npy") as writer:
            stored.write(partial, *convert(writer))
        _settle(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _settle(partial: Path, folder: Path) -> None:
    """Name a finished conversion, unless another process was faster."""
    try:
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
