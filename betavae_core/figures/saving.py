"""Figures to disk: whole or not at all, and the same bytes every time."""

from __future__ import annotations

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
    Raises UsageError for another suffix.
    """
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in _UNSIGNED:
        raise UsageError(f"a figure's file must end in .png, .pdf or .svg, got {path.name!r}")
    drawing = io.BytesIO()
    figure.savefig(drawing, format=kind, dpi=dpi, metadata=_UNSIGNED[kind])
    try:
        replace(path, drawing.getvalue())
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}; choose another folder"
        ) from None
    return path


def replace(path: Path, content: bytes) -> None:
    """Write the file whole or not at all, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
