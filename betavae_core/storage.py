"""Files that are whole or absent: atomic writes, and weights that know their own digest."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from betavae_core.errors import DataError, UsageError

PARTIAL = ".{}.partial"  # the name of a file that is still being written


def write_atomic(path: Path, content: bytes) -> None:
    """Replace `path` by `content` so that a reader, or a crash, sees the old file or the new."""
    temporary = path.with_name(PARTIAL.format(path.name))
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, so that they are there after a power cut."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def writable_folder(path: Path) -> Path:
    """The folder of an --out, made before any work. Raises UsageError where no file can be made."""
    try:
        make_folder(path)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise UsageError(
            f"--out must be a folder that can be written, got {path}: {error.strerror}"
        ) from None


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def serialise(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> bytes:
    """A safetensors file; `facts` in one metadata key, for with two its bytes would vary."""
    metadata = {"betavae": json.dumps(facts, sort_keys=True)}
    layout = torch.contiguous_format
    copies = {name: t.detach().cpu().clone(memory_format=layout) for name, t in tensors.items()}
    return safetensors.torch.save(copies, metadata)  # refuses tied weights unless copied


def read_weights(path: Path, sha256: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and facts of a safetensors file that `serialise` made.

    Raises DataError when it is missing, or its bytes are not those that were written.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(
            f"{path} is damaged: its SHA-256 is not the recorded one; restore it from a backup"
        )
    try:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return safetensors.torch.load(content), json.loads(header["__metadata__"]["betavae"])
    except (SafetensorError, ValueError, KeyError) as error:
        raise DataError(f"{path} holds no weights of this library: {error}") from None


def read_json(path: Path, kinds: Mapping[str, type]) -> dict[str, Any] | None:
    """The object in a JSON file with at least these keys, or None where there is no such file."""
    try:
        content = json.loads(path.read_bytes())
        if not all(isinstance(content[key], kind) for key, kind in kinds.items()):
            raise ValueError(f"one of {', '.join(kinds)} has the wrong type")
    except FileNotFoundError:
        return None
    except KeyError as missing:
        raise DataError(f"{path} is damaged: {missing} is missing") from None
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} is damaged: {error}") from None
    return content
