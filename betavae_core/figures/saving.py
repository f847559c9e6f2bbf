"""Figures to disk: whole or not at all, and the same bytes every time."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from betavae_core.errors import UsageError
from betavae_core.figures.page import DPI, styled

# What matplotlib would add of itself and of the clock.
_UNSIGNED: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    "svg": {"Creator": None, "Date": None},
}


@styled
def save(figure: Figure, path: str | os.PathLike[str], *, dpi: int = DPI) -> Path:
    """Write `figure` to `path` (.png, .pdf or .svg), making its folder; returns the path.

    A reader of `path` sees the old file or the new one, never a part. The file holds no date and
    no software version, so one figure saved twice gives the same bytes.
    Raises UsageError for another suffix, and where the file cannot be written.
    """
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in _UNSIGNED:
        raise UsageError(f"a figure's file must end in .png, .pdf or .svg, got {path.name!r}")
    drawing = io.BytesIO()
    figure.savefig(drawing, format=kind, dpi=dpi, metadata=_UNSIGNED[kind])
    replace(path, drawing.getvalue())
    return path


def replace(path: Path, content: bytes) -> None:
    """Write the file whole or not at all, making its folder. Raises UsageError when it cannot."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(temporary, content)
        os.replace(temporary, path)
    except OSError as error:
        cause = error.strerror or error
        raise UsageError(f"{path} cannot be written: {cause}; choose another folder") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
