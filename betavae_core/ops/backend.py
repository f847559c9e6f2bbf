"""Which backend runs an op: `auto` may choose, a backend asked for by name may not be replaced."""

from __future__ import annotations

import os
from importlib.util import find_spec

import torch
from torch import Tensor

from betavae_core.errors import UsageError
from betavae_core.kernels.c import library

BACKENDS = ("auto", "torch", "triton", "c")
HAS_TRITON = find_spec("triton") is not None
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def choose(backend: str, tensor: Tensor) -> str:
    """The backend of an op on `tensor`: `torch`, the plain formula, or the kernels `triton` or `c`.

    `auto` takes Triton on CUDA and C on a CPU where they can run, for at most 32 bits, and else
    PyTorch; on a CPU also under torch.compile, which makes one loop of a formula and its
    neighbours. A kernel asked for that cannot run raises UsageError saying how to mend it; it
    never falls back.
    """
    if backend == "auto":
        return _automatic(tensor)
    if backend not in BACKENDS:
        raise UsageError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    if backend != "torch" and (obstacle := _OBSTACLES[backend](tensor)):
        raise UsageError(f"backend {backend!r} {obstacle}, or use backend 'torch' (or 'auto')")
    return backend


def require(backend: str, device: str) -> None:
    """Raises UsageError, with the remedy, for kernels asked for that cannot run there."""
    choose(backend, torch.empty(0, device=device))


def identity(backend: str, device: torch.device) -> str:
    """The backend of the ops there, and for C what the last bits of its results depend on."""
    chosen = choose(backend, torch.empty(0, device=device))
    return f"c-{library.identity()}" if chosen == "c" else chosen


def kernels_at(device: torch.device) -> tuple[str, ...]:
    """The kernels that can be tried there; on a CPU Triton's are interpreted."""
    c = device.type == "cpu" and not library.obstacle()
    return ("triton",) * HAS_TRITON + ("c",) * c


def _automatic(tensor: Tensor) -> str:
    if tensor.is_cuda:
        return "torch" if _obstacle_to_triton(tensor) else "triton"
    if not tensor.is_cpu or torch.compiler.is_compiling() or _obstacle_to_c(tensor):
        return "torch"
    return "c"


def _obstacle_to_triton(tensor: Tensor) -> str:
    """Why Triton cannot run on `tensor` and the remedy, or nothing."""
    if not HAS_TRITON:
        return "needs the triton package, which is not installed: `pip install triton` (Linux)"
    if tensor.dtype == torch.float64:
        return "computes in float32, got float64: convert the tensors"
    if not (_INTERPRETED or tensor.is_cuda):
        return f"needs CUDA tensors, got {tensor.device}: move them with .cuda()"
    return ""


def _obstacle_to_c(tensor: Tensor) -> str:
    """Why C cannot run on `tensor` and the remedy, or nothing."""
    if tensor.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        got = str(tensor.dtype).removeprefix("torch.")
        return f"computes in float32, got {got}: convert the tensors"
    plain = type(tensor) in (Tensor, torch.nn.Parameter)
    if not (plain or torch._C._len_torch_dispatch_stack()):  # a mode sees to its own tensors
        return f"reads memory, which a {type(tensor).__name__} may not have"
    if not tensor.is_cpu:
        return f"needs tensors on the CPU, got {tensor.device}: move them with .cpu()"
    return _obstacle_to_compiling_c()


def _obstacle_to_compiling_c() -> str:
    return library.obstacle()


# What torch.compiler.assume_constant_result does, which would import the compiler for it.
_obstacle_to_compiling_c._dynamo_marked_constant = True  # type: ignore[attr-defined]

_OBSTACLES = {"triton": _obstacle_to_triton, "c": _obstacle_to_c}
