"""How much memory this process has had, measured by the kernel: what C code takes counts too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident(field: str = "VmRSS") -> int:
    """Bytes of memory in use now; with VmHWM, the most since it was last reset."""
    (line,) = (row for row in _STATUS.read_text().splitlines() if row.startswith(field))
    return int(line.split()[1]) * 1024


def peak(act: Callable[[], object]) -> int:
    """The most bytes in use during `act`, beyond those in use before it."""
    _RESET.write_text("5")
    before = resident()
    act()
    return max(0, resident("VmHWM") - before)
