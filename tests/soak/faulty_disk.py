"""A disk that fails at its n-th change: the process dies there, or the power, or the call fails.

    die      the process is gone, half of a write done
    power    the same, and the disk loses what no fsync has made durable: what was written into a
             file, and the names that a folder had got since it was last synced
    full     this change and all later ones that need space fail: no space left on device
    locked   this change and all later ones that need permission fail: permission denied

It stands between the library and the calls of `os` and `open`, in a process of its own, and
nothing that it is told to sync is really synced: what must outlive the process does so anyway.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

_ERRORS = {"full": errno.ENOSPC, "locked": errno.EACCES}
_SPARED = {"full": {"unlink", "fsync-folder"}, "locked": {"write", "flush", "fsync"}}


def _absolute(path: Any) -> Path:
    return Path(os.path.abspath(path))


class FaultyDisk:
    """Counts the changes below `root` and fails from number `at` on."""

    def __init__(self, root: Path, at: int, mode: str) -> None:
        self.root, self.at, self.mode = _absolute(root), at, mode
        self.changes: list[str] = []
        self.durable: dict[int, bytes] = {}  # inode -> what an fsync has made durable
        self.undo: list[tuple[Path, Callable[[], None]]] = []  # (folder, how a name is taken back)
        self.open, self.fsync, self.replace = builtins.open, os.fsync, os.replace
        self.unlink, self.mkdir = os.unlink, os.mkdir

    def install(self) -> None:
        """Stand between this process and the disk, for good."""
        builtins.open = io.open = self._open  # type: ignore[assignment]
        os.fsync, os.replace = self._fsync, self._replace
        os.unlink, os.mkdir = self._unlink, self._mkdir  # type: ignore[assignment]

    def change(self, name: str, half: Callable[[], Any] = lambda: None) -> None:
        """A change is about to be made; of the one that fails only `half` is done."""
        self.changes.append(name)
        if len(self.changes) <= self.at or name in _SPARED.get(self.mode, ()):
            return
        half()
        if self.mode in _ERRORS:
            raise OSError(_ERRORS[self.mode], os.strerror(_ERRORS[self.mode]))
        if self.mode == "power":
            self._lose()
        os.kill(os.getpid(), signal.SIGKILL)

    def _lose(self) -> None:
        """Leave on the disk what is durable: of each file, and of the names of each folder."""
        for path in [p for p in self.root.rglob("*") if p.is_file()]:
            kept = self.durable.get(path.stat().st_ino, b"")
            with self.open(path, "wb") as file:
                file.write(kept)
        for _, take_back in reversed(self.undo):
            take_back()

    def _mine(self, path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and (
            self.root in (absolute := _absolute(path)).parents or absolute == self.root
        )

    def _open(self, path: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if not self._mine(path) or not set(mode) & set("wax+"):
            return self.open(path, mode, *rest, **options)
        self.change("open")
        path = _absolute(path)
        if not path.exists():
            self.undo.append((path.parent, partial(self._take_back, path)))
        return _File(self.open(path, mode, *rest, **options), self)

    def _fsync(self, descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.is_dir():
            self.change("fsync-folder")
            self.undo = [(folder, action) for folder, action in self.undo if folder != path]
        elif self._mine(path):
            self.change("fsync")
            self.durable[os.fstat(descriptor).st_ino] = path.read_bytes()

    def _replace(self, source: Any, target: Any) -> None:
        if self._mine(target):
            self.change("replace")
            path = _absolute(target)
            before = path.read_bytes() if path.exists() else None
            self.undo.append((path.parent, partial(self._take_back, path, before)))
        self.replace(source, target)

    def _take_back(self, path: Path, before: bytes | None = None) -> None:
        """Leave under this name what was there before, or nothing."""
        if path.exists():
            self.unlink(path)
        if before is not None:
            with self.open(path, "wb") as file:
                file.write(before)

    def _unlink(self, path: Any, **options: Any) -> None:
        if self._mine(path):
            self.change("unlink")
        self.unlink(path, **options)

    def _mkdir(self, path: Any, *rest: Any, **options: Any) -> None:
        if self._mine(path) and not os.path.exists(path):
            self.change("mkdir")
            folder = _absolute(path)
            undo = partial(shutil.rmtree, folder, ignore_errors=True)
            self.undo.append((folder.parent, undo))
        self.mkdir(path, *rest, **options)


class _File:
    """An open file whose writes and flushes are changes of the disk."""

    def __init__(self, file: Any, disk: FaultyDisk) -> None:
        self._file, self._disk = file, disk

    def write(self, content: Any) -> Any:
        self._disk.change(
            "write", lambda: (self._file.write(content[: len(content) // 2]), self._file.flush())
        )
        return self._file.write(content)

    def flush(self) -> None:
        self._disk.change("flush")
        self._file.flush()

    def truncate(self, size: int | None = None) -> int:
        self._disk.change("truncate")
        return self._file.truncate(size)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
