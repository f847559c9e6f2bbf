"""What this machine has: the device, its precision, its memory, and what its bits depend on."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from betavae_core.errors import UsageError

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_MIB = 2**20

# What PyTorch hands to the vector mathematics library of MKL, as far as it is called here.
MKL_FUNCTIONS = ("cos", "exp", "log", "sin", "sqrt", "tanh")


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


def choose_vector_math() -> None:
    """Have MKL choose its code for each function now, on one thread.

    It does so in a function's first call, and if that call runs on two threads, one of them may get
    the code of low accuracy for its share: about one process in forty drew its first noise 4e-5
    off (MKL before 2025.0; pytorch/pytorch issue 188792).
    """
    for dtype in (torch.float32, torch.float64):
        for name in MKL_FUNCTIONS:
            getattr(torch, name)(torch.ones(1, dtype=dtype, device="cpu"))


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed memory in the process meanwhile; give it back at the end.

    glibc may return large blocks to the system at once, and a training step on a CPU then spends
    up to a third of its time on taking them again. Other allocators are left alone.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        yield
        return
    libc.mallopt(_MMAP_THRESHOLD, 32 * _MIB)  # the largest that it takes
    libc.mallopt(_TRIM_THRESHOLD, 1024 * _MIB)
    try:
        yield
    finally:
        libc.mallopt(_TRIM_THRESHOLD, 64 * _MIB)
        libc.malloc_trim(0)


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Have a GPU convolve float32 images in float32, and with equal bits each time.

    By default cuDNN rounds them to 11 bits (TF32) and may add up in any order.
    """
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        yield


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
