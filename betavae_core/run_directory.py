"""A run on disk: its settings, its log, its checkpoints, its result. Nothing is ever unpickled.

    config.toml                    every setting, resolved; a run exists when this file does
    metrics.jsonl, timings.jsonl   one object a line; only the second holds clock readings
    checkpoint/step-N.safetensors  weights, optimizer, the log rows not yet written
    checkpoint/latest.json         which file, its step and SHA-256; replaced last
    model.safetensors              the weights, at the end
    summary.json                   the result, at the end, with the SHA-256 of the weights
    figures/*.png

Files are replaced atomically and a checkpoint is named only once it is whole, so a reader and a
resumed run always find a good one, whenever the writer dies.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from betavae_core.config import Config, read_toml
from betavae_core.errors import DataError, TrainingError, UsageError
from betavae_core.storage import (
    PARTIAL,
    make_folder,
    read_json,
    read_weights,
    serialise,
    sync_folder,
    write_atomic,
)

LOGS = ("metrics.jsonl", "timings.jsonl")
_CHECKPOINT = re.compile(r"step-\d+\.safetensors")

Writer = TypeVar("Writer", bound=Callable[..., None])


def _naming_what_is_kept(method: Writer) -> Writer:
    """Have a method of RunDirectory say which checkpoint is safe when it cannot write."""

    @wraps(method)
    def write(directory: RunDirectory, *args: Any) -> None:
        with directory.writing():
            method(directory, *args)

    return write  # type: ignore[return-value]


@dataclass
class RunDirectory:
    """The files of one run, held under a lock from `create` or `open` until `close`.

    Once it is open, a file that cannot be written is a TrainingError.
    """

    path: Path
    _lock: int = field(default=-1, repr=False)

    @classmethod
    def create(cls, path: Path, config: Config) -> RunDirectory:
        """A new run. Raises UsageError when `path` is not empty or cannot be written.

        config.toml comes first: until it is there, the folder counts as empty.
        """
        directory = cls(path)
        try:
            make_folder(path)
            directory._acquire()
            if any(entry.name != PARTIAL.format("config.toml") for entry in path.iterdir()):
                raise UsageError(
                    f"--out must be a new or an empty folder, and {path} is not empty; "
                    "add --resume to go on with the run in it"
                )
            directory._write_config(config)
        except OSError as error:
            directory.close()
            raise UsageError(
                f"--out must be a folder that can be written, got {path}: {error.strerror}"
            ) from None
        except BaseException:
            directory.close()
            raise
        return directory

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """The run that `require_run` found. Raises UsageError when another process writes it."""
        directory = cls(path)
        directory._acquire()
        return directory

    def _acquire(self) -> None:
        try:
            import fcntl
        except ImportError:  # Windows has no flock
            return
        self._lock = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise UsageError(
                f"--out must not be in use, and another training writes {self.path}; "
                "wait for it or choose another folder"
            ) from None

    def close(self) -> None:
        """Release the lock."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn a failure to write into a TrainingError that says which checkpoint is safe."""
        try:
            yield
        except OSError as error:
            raise TrainingError(
                f"{self.path} cannot be written: {error.strerror or error}; {kept(self.path)}; "
                "mend that, and go on with --resume"
            ) from None

    @_naming_what_is_kept
    def extend(self, config: Config) -> None:
        """Replace the settings by those of a longer run: its result is no longer this one's."""
        (self.path / "summary.json").unlink(missing_ok=True)
        self._write_config(config)

    def _write_config(self, config: Config) -> None:
        write_atomic(self.path / "config.toml", config.write_toml().encode())

    @_naming_what_is_kept
    def append(self, log: str, row: Mapping[str, Any]) -> None:
        """Add a line to a log."""
        with open(self.path / log, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    @_naming_what_is_kept
    def save_checkpoint(
        self, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]
    ) -> None:
        """Write the state at `step` and make it the latest; the one before is removed."""
        folder = self.path / "checkpoint"
        make_folder(folder)
        self._sync_logs()
        content = serialise(tensors, {**facts, "step": step})
        name = f"step-{step}.safetensors"
        write_atomic(folder / name, content)
        latest = {"file": name, "step": step, "sha256": hashlib.sha256(content).hexdigest()}
        write_atomic(folder / "latest.json", json.dumps(latest, indent=2).encode())
        for old in folder.glob("step-*.safetensors"):
            if old.name != name:
                old.unlink()

    def _sync_logs(self) -> None:
        """Make the lines of the logs durable: a checkpoint, or the result, counts on them."""
        for log in LOGS:
            with open(self.path / log, "ab") as file:
                os.fsync(file.fileno())
        sync_folder(self.path)

    @_naming_what_is_kept
    def cut_logs(self, rows: int) -> None:
        """Forget the lines of the logs after the first `rows`, which are those of a checkpoint.

        Raises DataError, before anything is cut, for a log that has fewer.
        """
        lengths = {self.path / log: _length_of(self.path / log, rows) for log in LOGS}
        for file, length in lengths.items():
            with open(file, "ab") as log:
                log.truncate(length)

    @_naming_what_is_kept
    def finish(
        self, weights: Mapping[str, Tensor], facts: Mapping[str, Any], summary: dict[str, Any]
    ) -> None:
        """Write model.safetensors and then, last, summary.json: from then on the run is done."""
        self._sync_logs()
        content = serialise(weights, facts)
        write_atomic(self.path / "model.safetensors", content)
        summary["model_sha256"] = hashlib.sha256(content).hexdigest()
        write_atomic(self.path / "summary.json", json.dumps(summary, indent=2).encode())


def next_directory(name: str, root: Path = Path("runs")) -> Path:
    """runs/NAME-NUMBER with the first number that is free: made here, so nobody else's."""
    try:
        make_folder(root)
        for number in count(1):
            try:
                (path := root / f"{name}-{number}").mkdir()
                break
            except FileExistsError:
                continue
    except OSError as error:
        raise UsageError(
            f"{root} must be a folder that can be written: {error.strerror}; choose another --out"
        ) from None
    return path


def require_run(path: Path) -> None:
    """Raise UsageError unless there is a run in `path` to go on with."""
    if not (path / "config.toml").is_file():
        raise UsageError(
            f"--resume needs a run in --out, and {path} holds no config.toml; "
            "start one without --resume"
        )


def read_config(path: Path) -> Config:
    """The settings of the run in `path`. Raises UsageError when there is none or it is damaged."""
    source = path / "config.toml"
    try:
        settings = read_toml(source.read_text(encoding="utf-8"), str(source))
    except OSError as error:
        raise UsageError(f"RUN must be the folder of a run, got {path}: {error}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{source} is damaged: {error}") from None
    try:
        return Config(**settings)
    except UsageError as error:
        raise DataError(f"{source} is damaged: {error}") from None


def read_summary(path: Path) -> dict[str, Any] | None:
    """The result of the run in `path`, or None while it has none."""
    return read_json(path / "summary.json", {"steps": int, "model_sha256": str})


def read_checkpoint(path: Path) -> tuple[int, dict[str, Tensor], dict[str, Any]] | None:
    """The step, tensors and facts of the latest checkpoint of the run in `path`, if it has one.

    A training may replace it meanwhile: then the next one is read.
    """
    latest = read_latest(path)
    if latest is None:
        return None
    try:
        tensors, facts = read_weights(path / "checkpoint" / latest["file"], latest["sha256"])
    except DataError:
        if read_latest(path) == latest:
            raise
        return read_checkpoint(path)
    if facts.get("step") != latest["step"]:
        raise DataError(
            f"{path / 'checkpoint' / 'latest.json'} is damaged: it says step {latest['step']} of a "
            f"checkpoint of step {facts.get('step')}"
        )
    return latest["step"], tensors, facts


def read_latest(path: Path) -> dict[str, Any] | None:
    """What checkpoint/latest.json says, or None before the first checkpoint."""
    source = path / "checkpoint" / "latest.json"
    latest = read_json(source, {"file": str, "step": int, "sha256": str})
    if latest is not None and not _CHECKPOINT.fullmatch(latest["file"]):
        raise DataError(f"{source} is damaged: {latest['file']!r} is not the name of a checkpoint")
    return latest


def kept(path: Path) -> str:
    """Name the checkpoint of the run in `path` that an error leaves behind."""
    try:
        latest = read_latest(path)
    except DataError as error:
        return str(error)
    return f"kept: the checkpoint of step {latest['step']}" if latest else "no checkpoint yet"


def _length_of(log: Path, rows: int) -> int:
    """The bytes of the first `rows` lines of a log. Raises DataError when it has fewer."""
    content = log.read_bytes() if log.exists() else b""
    lines = content.splitlines(keepends=True)[:rows]
    if len(lines) < rows or not all(line.endswith(b"\n") for line in lines):
        raise DataError(
            f"{log} is damaged: it has lost lines that were written before the latest checkpoint; "
            "restore it from a backup"
        )
    return sum(map(len, lines))
