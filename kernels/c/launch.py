"""How Python calls a C kernel: the tensors that it may read, and the call itself."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from betavae_core.kernels.c.library import library


def launch(kernel: str, *args: Tensor | float) -> None:
    """Call the kernel with addresses and int64, with double, and with PyTorch's threads.

    Tensors are passed as such and live until C returns: where PyTorch's compiler runs a launcher,
    a tensor of which only the address is still wanted would be gone by then.
    """
    function = getattr(library(), kernel)
    numbers = [arg.data_ptr() if isinstance(arg, Tensor) else arg for arg in args]
    if not function.argtypes:
        kinds = (ctypes.c_double if isinstance(n, float) else ctypes.c_int64 for n in numbers)
        function.argtypes = [*kinds, ctypes.c_int]
    function(*numbers, torch.get_num_threads())
    del args


def rows(tensor: Tensor, *shape: int, kept: torch.dtype = torch.float32) -> Tensor:
    """`tensor`, of `shape`, as float32 (or `kept`) with neighbours in the last dimension adjacent.

    Raises ValueError for another shape or device, or a tensor without memory of its own: C would
    read what is not there.
    """
    _require(tensor, shape)
    if tensor.dtype not in (torch.float32, kept) or tensor.is_neg():
        tensor = tensor.to(torch.float32).resolve_neg()
    if not tensor.is_contiguous() and tensor.stride(-1) != 1:
        tensor = tensor.contiguous()
    return with_memory(tensor)


def read(tensor: Tensor, dtype: torch.dtype, *shape: int) -> Tensor:
    """`tensor`, of `shape`, in `dtype`, contiguous; images with the channels last.

    Raises ValueError as `rows` does.
    """
    _require(tensor, shape)
    tensor = converted(tensor, dtype).resolve_neg().contiguous(memory_format=_layout(shape))
    return with_memory(tensor)


def new(dtype: torch.dtype, *shape: int) -> Tensor:
    """Memory for a result, laid out as `read` reads."""
    return torch.empty(shape, dtype=dtype, device="cpu", memory_format=_layout(shape))


def places(count: int) -> Tensor:
    """Memory for `count` numbers of 32 bits."""
    return torch.empty(count, dtype=torch.int32, device="cpu")


def _layout(shape: tuple[int, ...]) -> torch.memory_format:
    return torch.channels_last if len(shape) == 4 else torch.contiguous_format


def _require(tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tensor.shape != shape or not tensor.is_cpu:
        got = f"{tuple(tensor.shape)} on {tensor.device}"
        raise ValueError(f"the C kernels need a tensor {shape} on the CPU, got {got}")


def with_memory(tensor: Tensor) -> Tensor:
    """`tensor`. Raises ValueError for one without memory of its own."""
    if not tensor.data_ptr() and tensor.numel():
        raise ValueError(f"the C kernels need a tensor with memory, got {type(tensor).__name__}")
    return tensor


def converted(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """tensor.to(dtype), which takes a microsecond to find that there is nothing to do."""
    return tensor if tensor.dtype is dtype else tensor.to(dtype)
