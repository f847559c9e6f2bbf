"""Runs a kernel where its tensors are: compiled on a GPU, in Triton's interpreter on a CPU.

The interpreter needs no environment variable here, so one process can interpret and compile the
same source. Triton readies jit functions for it at decoration time, and only under
TRITON_INTERPRET=1; without it a kernel that calls another jit function (its own, or Triton's such
as `tl.sum`) reaches `JITFunction.__call__`, which refuses. While a kernel is interpreted, that
call interprets the function instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from types import SimpleNamespace
from typing import Any

import torch
import triton.language as tl
from triton.runtime import interpreter
from triton.runtime.jit import JITFunction

_LOCK = RLock()  # the interpreter patches triton.language, which all threads share


def launch(kernel: Any, grid: tuple[int, ...], *args: Any, **meta: Any) -> None:
    """Runs `kernel` (a `triton.jit` function) over `grid` on the device of its first argument.

    `meta` holds the constexpr arguments and `num_warps`. A grid with a zero runs nothing. Fusing
    multiply and add is always asked for by name: Triton's default is about to change, and with it
    the last bits.
    """
    if 0 in grid:
        return
    if args[0].is_cuda:
        with torch.cuda.device_of(args[0]):
            kernel[grid](*args, **meta, enable_fp_fusion=True)
    else:
        with _LOCK, _interpreting():
            interpreter.InterpretedFunction(kernel.fn)[grid](*args, **meta)


@contextmanager
def _interpreting() -> Iterator[None]:
    """Lets interpreted kernels call jit functions, and leaves Triton as it was found.

    Triton patches the language modules that it finds among a function's globals. Its own jit
    functions know the language as `core`, so both are shown to it.
    """
    language = SimpleNamespace(__globals__={"tl": tl, "core": tl.core})
    scope = interpreter._patch_lang(language)
    refuse = JITFunction.__call__
    JITFunction.__call__ = _interpret
    try:
        yield
    finally:
        JITFunction.__call__ = refuse
        scope.restore()


def _interpret(function: Any, *args: Any, **kwargs: Any) -> Any:
    """A call of the jit function `function` from an interpreted one."""
    return interpreter.InterpretedFunction(function.fn).rewrite()(*args, **kwargs)
