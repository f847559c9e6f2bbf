"""The convolutions in C against the oracle's, and what they refuse.

They multiply bfloat16 exactly and add in float32; images come out rounded to nearest, gradients of
parameters in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from kernel_cases import (
    STEPS,
    assert_threads_change_no_bit,
    needs_bfloat16,
    poisoned_outputs,
    run_sanitized,
)
from numpy.typing import NDArray
from torch import Tensor

from betavae_core.kernels.c import convolution as c
from betavae_core.reference import layers as oracle

Array = NDArray[np.float64]
ROUNDED = 2.0**-8  # to the nearest bfloat16, at most
# fine and coarse channels, height and width of the coarse image, images
CASES = [
    *((1, 32, 32, 32, 2), (3, 32, 32, 32, 1), (32, 32, 16, 16, 2), (32, 32, 4, 4, 17)),
    *((64, 64, 4, 4, 3), (32, 64, 8, 8, 2), (2, 96, 1, 4, 5), (4, 32, 5, 12, 1)),
    *((96, 32, 3, 20, 1), (256, 256, 1, 4, 1), (1, 64, 2, 28, 9), (32, 32, 7, 8, 8)),
]
each_case = pytest.mark.parametrize("case", CASES, ids=str)


@pytest.fixture(autouse=True)
def _compiled() -> None:
    needs_bfloat16()


class Example:
    """Images of both sides, a weight and biases; what the oracle makes of them is in float64."""

    def __init__(self, F: int, C: int, H: int, W: int, B: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.fine = _bfloat16(rng.normal(size=(B, F, 2 * H, 2 * W)))
        self.coarse = _bfloat16(rng.normal(size=(B, C, H, W)))
        self.weight = _bfloat16(rng.normal(size=(C, F, 4, 4))).float()
        self.of_fine, self.of_coarse = (
            torch.from_numpy(rng.normal(size=n)).float() for n in (F, C)
        )

    def layer(self, kind: str, absolute: bool = False) -> oracle.Layer:
        """The oracle's; with `absolute` values its results are the sizes of what is added up."""
        channels = self.weight.shape[:2]
        sizes = channels[::-1] if kind == "conv" else channels
        layer = oracle.LAYERS[kind](*sizes, 4, 2, 1)
        bias = self.of_coarse if kind == "conv" else self.of_fine
        for name, values in (("weight", self.weight), ("bias", bias)):
            layer.parameters[name][...] = np.abs(_array(values)) if absolute else _array(values)
        return layer


def _bfloat16(values: Array) -> Tensor:
    return torch.from_numpy(values).to(torch.bfloat16)


def _array(tensor: Tensor) -> Array:
    return tensor.double().numpy()


def assert_close(got: Tensor, exact: Array, terms: Array) -> None:
    """Within float32's additions of `terms`, and for an image half a unit of bfloat16."""
    rounding = ROUNDED * np.abs(exact) if got.dtype == torch.bfloat16 else 0.0
    excess = np.abs(_array(got) - exact) - (rounding + STEPS * 2.0**-24 * terms)
    assert (excess <= 0).all(), f"{excess.max():.3g} above the tolerance"


def pieces(kind: str, example: Example) -> tuple[Tensor, Tensor, Tensor, Callable[..., Tensor]]:
    """The input, the gradient of the output, the bias, and the launcher."""
    if kind == "conv":
        return example.fine, example.coarse, example.of_coarse, c.conv
    return example.coarse, example.fine, example.of_fine, c.conv_transpose


each_kind = pytest.mark.parametrize("kind", ["conv", "conv_transpose"])


@each_case
@each_kind
@pytest.mark.parametrize("relu", [False, True])
def test_values_are_the_oracle_s(case: tuple[int, ...], kind: str, relu: bool) -> None:
    example = Example(*case)
    x, _, bias, run = pieces(kind, example)
    exact = example.layer(kind).forward(_array(x))
    terms = example.layer(kind, absolute=True).forward(np.abs(_array(x)))
    with poisoned_outputs():
        y = run(x, example.weight, bias, relu=relu)
        without = run(x, example.weight, None, relu=relu)
    plain = exact - _array(bias)[:, None, None]
    for got, wanted in ((y, exact), (without, plain)):
        assert_close(got, np.maximum(wanted, 0) if relu else wanted, terms)


@each_case
@each_kind
def test_gradients_are_the_oracle_s(case: tuple[int, ...], kind: str) -> None:
    example = Example(*case)
    x, dy, _, _ = pieces(kind, example)
    layer, sizes = example.layer(kind), example.layer(kind, absolute=True)
    layer.forward(_array(x)), sizes.forward(np.abs(_array(x)))
    dx, of_dx = layer.backward(_array(dy)), sizes.backward(np.abs(_array(dy)))
    back = c.conv_transpose if kind == "conv" else c.conv
    with poisoned_outputs():
        assert_close(back(dy, example.weight, None, relu=False), dx, of_dx)
        dw = c.conv_weights(*((x, dy) if kind == "conv" else (dy, x)))
    assert_close(dw, layer.grads["weight"], sizes.grads["weight"])


@pytest.mark.parametrize("shape", [(2, 32, 16, 16), (3, 5, 7, 1), (1, 64, 1, 1), (0, 32, 4, 4)])
def test_the_gradient_before_a_relu_and_its_sum(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    dy, y = (_bfloat16(rng.normal(size=shape)) for _ in range(2))
    y = y.relu()
    with poisoned_outputs():
        before, db = c.conv_relu(dy, y)
    assert torch.equal(before, torch.where(y > 0, dy, 0))
    exact = _array(before).sum((0, 2, 3))
    assert_close(db, exact, np.abs(_array(before)).sum((0, 2, 3)))


def results(example: Example) -> list[Tensor]:
    """Of every kernel."""
    fine, coarse, weight = example.fine, example.coarse, example.weight
    y = c.conv(fine, weight, example.of_coarse, relu=True)
    x = c.conv_transpose(coarse, weight, example.of_fine, relu=True)
    return [y, x, c.conv_weights(fine, coarse), *c.conv_relu(coarse, y)]


@each_case
def test_the_number_of_threads_changes_no_bit(case: tuple[int, ...]) -> None:
    assert_threads_change_no_bit(lambda: results(Example(*case)))


@each_case
def test_how_a_tensor_lies_in_memory_changes_no_bit(case: tuple[int, ...]) -> None:
    wanted, example = results(Example(*case)), Example(*case)
    last = example.weight.contiguous(memory_format=torch.channels_last)
    wide = torch.zeros(*example.fine.shape[:3], 2 * example.fine.shape[3], dtype=torch.bfloat16)
    wide[..., ::2] = example.fine
    example.weight, example.fine = last, wide[..., ::2]
    example.coarse = torch._neg_view(-example.coarse)
    assert all(torch.equal(a, b) for a, b in zip(results(example), wanted, strict=True))


def test_float32_is_rounded_to_nearest() -> None:
    example, rng = Example(32, 32, 4, 4, 1), np.random.default_rng(1)
    weight = torch.from_numpy(rng.normal(size=(32, 32, 4, 4))).float()
    found = [c.conv(example.fine, w, None, relu=False) for w in (weight, weight.bfloat16())]
    assert torch.equal(*found)


@each_kind
def test_what_is_not_a_number_stays_so(kind: str) -> None:
    for F in (1, 32):
        example = Example(F, 32, 4, 4, 2)
        x, _, bias, run = pieces(kind, example)
        x[1, 0, 2, 1] = torch.nan
        y = run(x, example.weight, bias, relu=True)
        assert not y[0].isnan().any()
        assert y[1].isnan().any()


def test_no_images_are_no_trouble() -> None:
    y, x, dw, before, db = results(Example(32, 32, 4, 4, 0))
    assert (y.shape, x.shape, before.shape) == ((0, 32, 4, 4), (0, 32, 8, 8), (0, 32, 4, 4))
    assert not dw.any()
    assert not db.any()


def test_results_are_on_the_cpu_whatever_the_default_device() -> None:
    example = Example(32, 32, 4, 4, 2)
    wanted = results(example)
    with torch.device("meta"):
        found = results(example)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_what_c_would_read_past_the_end_of_is_refused() -> None:
    fine, coarse, weight = (
        torch.zeros(2, 32, 8, 8),
        torch.zeros(2, 32, 4, 4),
        torch.zeros(32, 32, 4, 4),
    )
    for call in (
        lambda: c.conv(fine, weight[:, :, :3], None, relu=False),
        lambda: c.conv(fine, weight, torch.zeros(31), relu=False),
        lambda: c.conv(fine, torch.zeros(32, 64, 4, 4), None, relu=False),
        lambda: c.conv(fine.to("meta"), weight, None, relu=False),
        lambda: c.conv(fine[..., :7], weight, None, relu=False),
        lambda: c.conv(fine[..., :6], weight, None, relu=False),
        lambda: c.conv_transpose(coarse, weight[:31], None, relu=False),
        lambda: c.conv_transpose(coarse, torch.zeros(32, 5, 4, 4), None, relu=False),
        lambda: c.conv_weights(fine, coarse[1:]),
        lambda: c.conv_weights(fine, coarse[:, :31]),
        lambda: c.conv_weights(fine, torch.zeros(2, 32, 5, 4)),
        lambda: c.conv_relu(fine, fine[1:]),
    ):
        with pytest.raises(ValueError, match="the C kernels"):
            call()


HARNESS = """
#include <stdint.h>
#include <stdlib.h>
typedef uint16_t bf16;
void conv(bf16 *, float *, float *, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t,
          bf16 *, uint32_t *, bf16 *, int);
void conv_transpose(bf16 *, float *, float *, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t,
                    bf16 *, uint32_t *, bf16 *, int);
void conv_transpose_thin(bf16 *, float *, float *, int64_t, int64_t, int64_t, int64_t, int64_t,
                         int64_t, bf16 *, uint32_t *, float *, int);
void conv_weights(bf16 *, bf16 *, int64_t, int64_t, int64_t, int64_t, int64_t, float *, float *,
                  int64_t, uint32_t *, int64_t, int64_t, int64_t, int);
void conv_relu(bf16 *, bf16 *, int64_t, int64_t, bf16 *, float *, float *, int64_t, int);

static void *zeros(int64_t bytes) { return calloc(bytes, 1); }

int main(void) {
    int64_t channels[] = {1, 2, 3, 4, 32, 96}, sizes[][4] = {  // B, H, W, C
        {0, 4, 4, 32}, {1, 1, 4, 64}, {3, 3, 12, 32}, {17, 2, 8, 32}, {9, 16, 16, 32}};
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 5; j++) {
            int64_t F = channels[i], B = sizes[j][0], H = sizes[j][1], W = sizes[j][2];
            int64_t C = sizes[j][3], rows = H > 8 ? 5 : H, together = H > 8 ? 1 : 4;
            int64_t padded = (2 * H + 2) * (2 * W + 2) * F, coarse_padded = (H + 2) * (W + 2) * C;
            int64_t place = together * ((2 * rows + 2) * 2 * W * F + rows * W / 2 * C);
            place += 16 + (W + 1) * F + 8;
            bf16 *x = zeros(8 * B * H * W * F), *y = zeros(2 * B * H * W * C);
            bf16 *before = zeros(2 * B * H * W * C);
            float *w = zeros(64 * F * C), *b = zeros(4 * (F > C ? F : C)), *dw = zeros(64 * F * C);
            uint32_t *packed = zeros(32 * F * C), *room = zeros(8 * place);
            bf16 *fine_room = zeros(4 * padded), *coarse_room = zeros(4 * coarse_padded);
            float *wide_room = zeros(8 * (padded + (W + 2) * 16 * F));
            float *parts = zeros(8 * 64 * F * C);
            conv(x, w, b, 1, B, H, W, F, C, y, packed, fine_room, 2);
            if (F <= 4) conv_transpose_thin(y, w, b, 1, B, H, W, F, C, x, packed, wide_room, 2);
            else conv_transpose(y, w, 0, 1, B, H, W, F, C, x, packed, coarse_room, 2);
            conv_weights(x, y, B, H, W, F, C, dw, parts, 8, room, place, rows, together, 2);
            conv_relu(y, y, B * H * W, C, before, b, parts, 8, 2);
            free(x), free(y), free(before), free(w), free(b), free(dw), free(packed);
            free(room), free(fine_room), free(coarse_room), free(wide_room), free(parts);
        }
}
"""


def test_no_kernel_reaches_outside_its_tensors_or_does_what_c_leaves_undefined(
    tmp_path: Path,
) -> None:
    run_sanitized(tmp_path, HARNESS, ("convolution", "convolution_gradient"))
