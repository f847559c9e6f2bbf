"""Linear layers and convolutions with the ReLU that follows them, as a CPU trains them fast.

PyTorch's own formulation runs on a GPU, in evaluation with gradients, and under torch.func and
torch.compile. In bfloat16 there are kernels in C for processors without matrix units
(ops/linear.py, ops/convolution.py). Elsewhere on a CPU three things cost more in a convolution than
the arithmetic does:

- a ReLU of its own reads and writes the largest tensors of the model once more;
- oneDNN's gradient of a transposed convolution's bias takes several times that of its weight;
- one or three channels leave most of a vector empty. A 4x4 convolution of stride 2 is a 2x2 one of
  stride 1 over blocks of 2x2 pixels, which have four times the channels.

Parameters and results are those of `nn.Linear`, `nn.Conv2d` and `nn.ConvTranspose2d`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from betavae_core.ops import convolution, linear
from betavae_core.ops.fused import apply, compute_dtype, differentiable_once, transformed

_THIN = 8  # fewer channels than this leave a vector half empty
_HALVING = ((4, 4), (2, 2), (1, 1))  # kernel, stride and padding: half the sides, or twice


class Linear(nn.Linear):
    """A linear layer, followed by a ReLU if `relu`."""

    def __init__(self, *sizes: int, relu: bool = False, backend: str = "auto") -> None:
        super().__init__(*sizes)  # type: ignore[arg-type]  # n_in, n_out
        self.relu, self.backend = relu, backend

    def forward(self, x: Tensor) -> Tensor:
        if _is_quick_on_cpu(self, x) and linear.suits(x, self.weight, self.backend):
            return linear.linear(x, self.weight, self.bias, self.relu)
        y = super().forward(x)
        return y.relu() if self.relu else y


class Conv2d(nn.Conv2d):
    """A convolution, followed by a ReLU if `relu`."""

    def __init__(self, *sizes: int, relu: bool = False, backend: str = "auto") -> None:
        super().__init__(*sizes)  # type: ignore[arg-type]  # c_in, c_out, kernel, stride, padding
        self.relu, self.backend = relu, backend

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or not _is_quick_on_cpu(self, x):
            y = super().forward(x)
            return y.relu() if self.relu else y
        halves = (self.kernel_size, self.stride, self.padding) == _HALVING
        if halves and convolution.suits(x, self.weight, self.backend, transposed=False):
            return convolution.convolution(x, self.weight, self.bias, self.relu, transposed=False)
        if halves and self.in_channels < _THIN and x.shape[2] % 2 == x.shape[3] % 2 == 0:
            x, weight = blocks(x), _of_blocks(self.weight)
            return apply(_Conv, x, weight, self.bias, [1, 1], [0, 0], self.relu)
        padding = list(self.padding)
        return apply(_Conv, x, self.weight, self.bias, list(self.stride), padding, self.relu)


class ConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution, followed by a ReLU if `relu`."""

    def __init__(self, *sizes: int, relu: bool = False, backend: str = "auto") -> None:
        super().__init__(*sizes)  # type: ignore[arg-type]  # c_in, c_out, kernel, stride, padding
        self.relu, self.backend = relu, backend

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if x.ndim != 4 or output_size is not None or not _is_quick_on_cpu(self, x):
            y = super().forward(x, output_size)
            return y.relu() if self.relu else y
        doubles = (self.kernel_size, self.stride, self.padding) == _HALVING
        if doubles and convolution.suits(x, self.weight, self.backend, transposed=True):
            return convolution.convolution(x, self.weight, self.bias, self.relu, transposed=True)
        if doubles and self.out_channels < _THIN and not self.relu:
            return apply(_ThinConvTranspose, x, self.weight, self.bias)
        padding = list(self.padding)
        return apply(
            _ConvTranspose, x, self.weight, self.bias, list(self.stride), padding, self.relu
        )


def _is_quick_on_cpu(module: nn.Module, x: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()
        and not transformed()
        and (module.training or not torch.is_grad_enabled())  # else a user's: twice differentiable
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16)
        and x.numel() > 0
        and torch.backends.mkldnn.is_available()
    )


def blocks(x: Tensor) -> Tensor:
    """(B, C, H, W), padded by 1, as blocks of 2x2 pixels: (B, 4 C, H/2 + 1, W/2 + 1)."""
    b, c, height, width = x.shape
    rows, columns = height // 2 + 1, width // 2 + 1
    padded = F.pad(x, (1, 1, 1, 1)).reshape(b, c, rows, 2, columns, 2)
    return padded.permute(0, 1, 3, 5, 2, 4).reshape(b, 4 * c, rows, columns)


def _of_blocks(weight: Tensor) -> Tensor:
    """The weight (O, C, 4, 4) as it meets blocks: (O, 4 C, 2, 2)."""
    o, c = weight.shape[:2]
    return weight.reshape(o, c, 2, 2, 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(o, 4 * c, 2, 2)


def _from_blocks(weight: Tensor) -> Tensor:
    """The inverse of `_of_blocks`."""
    o, c = len(weight), weight.shape[1] // 4
    return weight.reshape(o, c, 2, 2, 2, 2).permute(0, 1, 4, 2, 5, 3).reshape(o, c, 4, 4)


def _to_blocks(weight: Tensor) -> Tensor:
    """The weight (I, O, 4, 4) of a transposed convolution as one from pixels to blocks of 2x2.

    (4 O, I, 3, 3) at padding 1: row a of a block in block row i gets row i + t - 1 of the input
    by the weight's row a + 3 - 2 t, where there is one.
    """
    i, o = weight.shape[:2]
    taps = F.pad(weight, (1, 1, 1, 1)).reshape(i, o, 3, 2, 3, 2).flip(2, 4)
    return taps.permute(1, 3, 5, 0, 2, 4).reshape(4 * o, i, 3, 3)


def _depth_to_space(y: Tensor) -> Tensor:
    """Blocks (B, 4 C, H, W) as pixels (B, C, 2 H, 2 W)."""
    b, c, height, width = y.shape
    y = y.reshape(b, c // 4, 2, 2, height, width).permute(0, 4, 2, 5, 3, 1)
    return y.reshape(b, 2 * height, 2 * width, c // 4).permute(0, 3, 1, 2)


def _working(*tensors: Tensor) -> list[Tensor]:
    """The tensors in the dtype and the layout of the computation."""
    dtype = compute_dtype(tensors[0])
    layouts = {4: torch.channels_last}
    return [
        t.to(dtype).contiguous(memory_format=layouts.get(t.ndim, torch.contiguous_format))
        for t in tensors
    ]


def _before_relu(gradient: Tensor, y: Tensor | None) -> Tensor:
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    return gradient if y is None else torch.ops.aten.threshold_backward(gradient, y, 0)


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        stride: list[int],
        padding: list[int],
        relu: bool,
    ) -> Tensor:
        ctx.dtypes, ctx.geometry = (x.dtype, weight.dtype), (stride, padding)
        x, w, b = _working(x, weight, bias)
        after = "relu" if relu else "none"
        y = torch.ops.mkldnn._convolution_pointwise(
            x, w, b, padding, stride, [1, 1], 1, after, [], ""
        )
        ctx.save_for_backward(x, w, y if relu else None)
        return y

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, w, y = ctx.saved_tensors
        dy, needs_dx = _before_relu(dy, y), ctx.needs_input_grad[0]
        wanted = [needs_dx, True, True]
        dx, dw, db = torch.ops.aten.convolution_backward(
            dy, x, w, [len(w)], *ctx.geometry, [1, 1], False, [0, 0], 1, wanted
        )
        for_x, for_weight = ctx.dtypes
        dx = dx.to(for_x) if needs_dx else None
        return dx, dw.to(for_weight), db.to(for_weight), None, None, None


class _ConvTranspose(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        stride: list[int],
        padding: list[int],
        relu: bool,
    ) -> Tensor:
        ctx.dtypes, ctx.geometry = (x.dtype, weight.dtype), (stride, padding)
        x, w, b = _working(x, weight, bias)
        after = "relu" if relu else "none"
        y = torch.ops.mkldnn._convolution_transpose_pointwise(
            x, w, b, padding, [0, 0], stride, [1, 1], 1, after, [], ""
        )
        ctx.save_for_backward(x, w, y if relu else None)
        return y

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, w, y = ctx.saved_tensors
        dy, needs_dx = _before_relu(dy, y), ctx.needs_input_grad[0]
        wanted = [needs_dx, True, False]
        dx, dw, _ = torch.ops.aten.convolution_backward(
            dy, x, w, None, *ctx.geometry, [1, 1], True, [0, 0], 1, wanted
        )
        for_x, for_weight = ctx.dtypes
        dx = dx.to(for_x) if needs_dx else None
        return dx, dw.to(for_weight), dy.sum((0, 2, 3)).to(for_weight), None, None, None


class _ThinConvTranspose(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.dtypes = x.dtype, weight.dtype
        x, w, b = _working(x, weight, bias)
        ctx.save_for_backward(x, w)
        w, b = _working(_to_blocks(w), b.repeat_interleave(4))
        return _depth_to_space(F.conv2d(x, w, b, 1, 1))

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, w = ctx.saved_tensors
        dy_blocks, w_blocks = _working(blocks(dy), _of_blocks(w))
        dx = F.conv2d(dy_blocks, w_blocks) if ctx.needs_input_grad[0] else None
        _, dw, _ = torch.ops.aten.convolution_backward(
            x, dy_blocks, w_blocks, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1,
            [False, True, False],
        )  # fmt: skip
        for_x, for_weight = ctx.dtypes
        dx = None if dx is None else dx.to(for_x)
        return dx, _from_blocks(dw).to(for_weight), dy.sum((0, 2, 3)).to(for_weight)
