"""What this machine has: the device, the precision it is good at, and what its bits depend on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from betavae_core.errors import UsageError


def choose_device(device: str) -> str:
    """`cuda` or `cpu` for `auto`. Raises UsageError for a GPU that is not there."""
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise UsageError("--device cuda needs an NVIDIA GPU that PyTorch can use; use --device cpu")
    if device == "auto":
        return "cuda" if available else "cpu"
    return device


def choose_precision(precision: str, device: str) -> str:
    """`bf16` for `auto` where the hardware multiplies bfloat16 natively, else `fp32`."""
    if precision != "auto":
        return precision
    if device == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = any(f in _cpu_flags() for f in ("amx_bf16", "avx512_bf16"))
    return "bf16" if native else "fp32"


def environment(device: str) -> dict[str, Any]:
    """Everything besides the settings that the last bits of a run depend on."""
    name = torch.cuda.get_device_name() if device == "cuda" else _cpu_name()
    return {"torch": torch.__version__, "threads": torch.get_num_threads(), "device": name}


def _cpu_flags() -> list[str]:
    return _cpu_info("flags").split()


def _cpu_name() -> str:
    return _cpu_info("model name") or "cpu"


def _cpu_info(field: str) -> str:
    """A field of the first processor in /proc/cpuinfo, or nothing where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")
