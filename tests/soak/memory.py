"""How much memory this process has had, measured by the kernel: what C code takes counts too."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_trim: Any = getattr(ctypes.CDLL(None), "malloc_trim", lambda kept: None)  # glibc has it


def resident(field: str = "VmRSS") -> int:
    """Bytes of memory in use now; with VmHWM, the most since it was last reset."""
    (line,) = (row for row in _STATUS.read_text().splitlines() if row.startswith(field))
    return int(line.split()[1]) * 1024


def peak(act: Callable[[], object]) -> int:
    """The most bytes in use during `act`, beyond those in use before it.

    What the allocator holds free goes back first: `act` could use it again, and not be seen to.
    """
    _trim(0)
    _RESET.write_text("5")
    before = resident()
    act()
    return max(0, resident("VmHWM") - before)
