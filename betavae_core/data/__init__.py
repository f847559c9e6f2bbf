"""Where images come from. A source is a name, a path or an array; all become one `Dataset`.

`load("shapes2d")` draws, `load("mnist")` downloads, `load(path)` reads a file or folder,
`from_array(images)` takes what is in memory. `prepare` fetches or converts beforehand, and
`select_classes` keeps some classes. A new source is a file in this room, with `ENTRIES`, and its
line below. Importing the room imports no torch.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TypeVar

from betavae_core.data.arrays import from_array
from betavae_core.data.classes import class_names, select_classes
from betavae_core.data.dataset import Dataset
from betavae_core.data.files import reading
from betavae_core.data.images import Cut, from_folder
from betavae_core.data.progress import Listener, reporting, stderr_lines
from betavae_core.data.sources import Format, Source
from betavae_core.errors import DataError

__all__ = [
    "Cut",
    "DataError",
    "Dataset",
    "Format",
    "Source",
    "class_names",
    "from_array",
    "from_folder",
    "load",
    "prepare",
    "select_classes",
    "sources",
]

# The first format that takes a path reads it: the special before the general. idx looks into
# files, and images into whole folders, so they come last.
_FILES = (
    "shapes2d",
    "blobs",
    "headlike",
    "digits",
    "mnist",
    "fashion_mnist",
    "emnist",
    "dsprites",
    "shapes3d",
    "celeba",
    "chairs3d",
    "faces3d",
    "npy",
    "hdf5",
    "idx",
    "images",
)

Entry = TypeVar("Entry", Source, Format)


def load(source: str | os.PathLike[str]) -> Dataset:
    """The data set that `source` names: a name in `sources()`, else a path to a file or folder.

    A name wins over a file of the same name in the working folder; write ./NAME for the file.
    What must be fetched or converted first is, with a note on stderr. Raises DataError, in one
    line, for an unknown name, for what cannot be fetched, and for a path that cannot be read.
    """
    text = os.fspath(source)
    for named in sources():
        if named.name == text:
            return named.load()
    path = Path(os.path.expanduser(text))
    with reading(path, "check the path"):
        found = bool(text) and path.exists()
    return _read(path) if found else _refuse(text)


def prepare(source: str | os.PathLike[str], listener: Listener | None = None) -> Path | None:
    """Fetch or convert what `source` needs, so that `load` finds it; None where it is drawn here.

    Gives the file or folder that it is read from. `listener(what, done, total)` hears how far the
    work is; by default lines go to stderr. Raises DataError as `load` does.
    """
    with reporting(listener or stderr_lines()):
        path: Path | None = Path(source).expanduser()
        for named in sources():
            if named.name == os.fspath(source):
                path = named.prepare() if named.prepare else None
        load(source)  # which converts what is converted once
        return path


def canonical(source: str | os.PathLike[str]) -> str:
    """`source` as a name that works from any working folder: paths made absolute."""
    text = os.fspath(source)
    if any(named.name == text for named in sources()):
        return text
    return str(Path(text).expanduser().resolve())


def sources() -> list[Source]:
    """The data sets that have a name."""
    return _entries(Source)


def _read(path: Path) -> Dataset:
    """The data set at `path`, by the first format that takes it."""
    with reading(path, "check that it may be read"):
        reader = next((known for known in _entries(Format) if known.accepts(path)), None)
        if reader is None:
            raise DataError(_unreadable(path))
    return reader.read(path)


def _unreadable(path: Path) -> str:
    readable = "; ".join(known.reads for known in _entries(Format))
    if path.is_dir():
        if not any(path.iterdir()):
            return "is an empty folder; name a folder or file with images"
        return f"is a folder that holds no images; looked for: {readable}"
    return f"is of no kind that can be read; these can: {readable}"


def _refuse(text: str) -> Dataset:
    names = ", ".join(source.name for source in sources())
    raise DataError(
        f"no data set is named {text!r}, nor is it the path of a file or folder; "
        f"known names: {names}"
    )


def _entries(kind: type[Entry]) -> list[Entry]:
    modules = (import_module(f"{__name__}.{file}") for file in _FILES)
    return [entry for module in modules for entry in module.ENTRIES if isinstance(entry, kind)]
