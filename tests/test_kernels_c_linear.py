"""The linear layers in C against the oracle's, and what they refuse.

They multiply bfloat16 exactly and add in float32; every result is rounded to nearest once.
"""

from __future__ import annotations

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

from betavae_core.kernels.c import linear as c
from betavae_core.reference import layers as oracle

Array = NDArray[np.float64]
ROUNDED = 2.0**-8  # to the nearest bfloat16, at most
# batch, inputs, outputs: whole tiles, their borders, and less than one
CASES = [(64, 784, 512), (64, 256, 20), (2, 2, 2), (34, 62, 98), (6, 10, 256), (30, 4096, 6)]
CASES += [(8, 32, 32), (16, 34, 30), (128, 66, 64), (10, 130, 1200)]
each_case = pytest.mark.parametrize("case", CASES, ids=str)
with_relu = pytest.mark.parametrize("relu", [False, True])


@pytest.fixture(autouse=True)
def _compiled() -> None:
    needs_bfloat16()


class Example:
    """An input, parameters and the gradient of the output, all of them bfloat16."""

    def __init__(self, B: int, K: int, N: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        shapes = (B, K), (N, K), (N,), (B, N)
        self.x, self.weight, self.bias, self.dy = (
            torch.from_numpy(rng.normal(size=shape)).bfloat16() for shape in shapes
        )

    def layer(self, absolute: bool = False) -> oracle.Layer:
        """The oracle's; with `absolute` values its results are the sizes of what is added up."""
        layer = oracle.LAYERS["linear"](*self.weight.shape[::-1])
        for name, values in (("weight", self.weight), ("bias", self.bias)):
            layer.parameters[name][...] = np.abs(_array(values)) if absolute else _array(values)
        return layer

    def results(self) -> list[Tensor]:
        """Of both kernels, with a ReLU and without."""
        y = c.linear(self.x, self.weight, self.bias, relu=True)
        plain = c.linear(self.x, self.weight, None, relu=False)
        given = c.linear_gradient(self.x, self.weight, y, self.dy, needs_dx=True)
        _, *others = c.linear_gradient(self.x, self.weight, None, self.dy, needs_dx=False)
        return [y, plain, *given, *others]  # type: ignore[list-item]


def _array(tensor: Tensor) -> Array:
    return tensor.double().numpy()


def assert_close(got: Tensor | None, exact: Array, terms: Array) -> None:
    """Within float32's additions of `terms` and half a unit of bfloat16."""
    assert got is not None
    bound = ROUNDED * np.abs(exact) + STEPS * 2.0**-24 * terms
    excess = np.abs(_array(got) - exact) - bound
    assert (excess <= 0).all(), f"{excess.max():.3g} above the tolerance"


@each_case
@with_relu
def test_values_are_the_oracle_s(case: tuple[int, ...], relu: bool) -> None:
    example = Example(*case)
    exact = example.layer().forward(_array(example.x))
    terms = example.layer(absolute=True).forward(np.abs(_array(example.x)))
    with poisoned_outputs():
        y = c.linear(example.x, example.weight, example.bias, relu=relu)
        without = c.linear(example.x, example.weight, None, relu=relu)
    for got, wanted in ((y, exact), (without, exact - _array(example.bias))):
        assert_close(got, np.maximum(wanted, 0) if relu else wanted, terms)


@each_case
@with_relu
def test_gradients_are_the_oracle_s(case: tuple[int, ...], relu: bool) -> None:
    example = Example(*case)
    y = c.linear(example.x, example.weight, example.bias, relu=True)
    dy = torch.where(y > 0, example.dy, 0) if relu else example.dy
    layer, sizes = example.layer(), example.layer(absolute=True)
    layer.forward(_array(example.x)), sizes.forward(np.abs(_array(example.x)))
    exact, terms = layer.backward(_array(dy)), sizes.backward(np.abs(_array(dy)))
    with poisoned_outputs():
        dx, dw, db = c.linear_gradient(
            example.x, example.weight, y if relu else None, example.dy, needs_dx=True
        )
    assert_close(dx, exact, terms)
    assert_close(dw, layer.grads["weight"], sizes.grads["weight"])
    assert_close(db, layer.grads["bias"], sizes.grads["bias"])


@each_case
def test_the_number_of_threads_changes_no_bit(case: tuple[int, ...]) -> None:
    assert_threads_change_no_bit(lambda: Example(*case).results())


@each_case
def test_how_a_tensor_lies_in_memory_changes_no_bit(case: tuple[int, ...]) -> None:
    wanted, example = Example(*case).results(), Example(*case)
    wide = torch.zeros(len(example.x), 2 * example.x.shape[1] + 1, dtype=torch.bfloat16)
    wide[:, 1::2] = example.x
    example.x, example.weight = wide[:, 1::2], example.weight.t().contiguous().t()
    example.dy = torch._neg_view(-example.dy)
    assert all(torch.equal(a, b) for a, b in zip(example.results(), wanted, strict=True))


def test_what_is_not_a_number_stays_in_its_row() -> None:
    example = Example(10, 64, 40)
    example.x[3, 7] = torch.nan
    y = c.linear(example.x, example.weight, example.bias, relu=True)
    assert y[3].isnan().all()
    assert not y[[0, 1, 2, 4, 5, 6, 7, 8, 9]].isnan().any()
    dx, dw, db = c.linear_gradient(example.x, example.weight, y, example.dy, needs_dx=True)
    assert dx is not None
    assert dw[:, 7].isnan().all()
    assert not dx.isnan().any()
    assert not db.isnan().any()
    assert not dw[:, :7].isnan().any()


def test_results_are_on_the_cpu_whatever_the_default_device() -> None:
    wanted = Example(6, 8, 10).results()
    example = Example(6, 8, 10)
    with torch.device("meta"):
        found = example.results()
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_what_c_would_read_past_the_end_of_is_refused() -> None:
    x, weight, bias, dy = (torch.zeros(*n) for n in ((4, 6), (8, 6), (8,), (4, 8)))
    for call in (
        lambda: c.linear(x[:3], weight, bias, relu=False),
        lambda: c.linear(x[:, :5], weight[:, :5], bias, relu=False),
        lambda: c.linear(x, weight[:7], bias[:7], relu=False),
        lambda: c.linear(x[:, :4], weight, bias, relu=False),
        lambda: c.linear(x, weight, bias[:6], relu=False),
        lambda: c.linear(x[None], weight, bias, relu=False),
        lambda: c.linear(x[:0], weight, bias, relu=False),
        lambda: c.linear(x.to("meta"), weight, bias, relu=False),
        lambda: c.linear_gradient(x, weight, None, dy[:2], needs_dx=True),
        lambda: c.linear_gradient(x, weight, dy[:, :6], dy, needs_dx=True),
    ):
        with pytest.raises(ValueError, match="the C kernels"):
            call()


HARNESS = """
#include <stdint.h>
#include <stdlib.h>
typedef uint16_t bf16;
void linear(bf16 *, bf16 *, bf16 *, int64_t, int64_t, int64_t, int64_t, bf16 *, uint32_t *, int);
void linear_gradient(bf16 *, bf16 *, bf16 *, bf16 *, int64_t, int64_t, int64_t, bf16 *, bf16 *,
                     bf16 *, bf16 *, uint32_t *, uint32_t *, int);

static void *zeros(int64_t numbers, int64_t bytes) { return calloc(numbers, bytes); }

int main(void) {
    int64_t sizes[] = {2, 6, 16, 30, 32, 34, 66, 130};
    for (int i = 0; i < 512; i++) {
        int64_t B = sizes[i % 8], K = sizes[i / 8 % 8], N = sizes[i / 64], T = 1 + i % 3;
        bf16 *x = zeros(B * K, 2), *w = zeros(N * K, 2), *b = zeros(N, 2), *y = zeros(B * N, 2);
        bf16 *dx = zeros(B * K, 2), *dw = zeros(N * K, 2), *db = zeros(N, 2), *d = zeros(B * N, 2);
        uint32_t *across = zeros(T * 16 * K, 4), *room = zeros(T * 16 * (B > N ? B : N), 4);
        uint32_t *met = zeros(B / 2 * (N + 32), 4);
        linear(x, w, i % 2 ? b : 0, i % 2, B, K, N, y, across, T);
        linear_gradient(x, w, i % 2 ? y : 0, y, B, K, N, i % 3 ? dx : 0, dw, db, d, met, room, T);
        free(x), free(w), free(b), free(y), free(dx), free(dw), free(db), free(d);
        free(across), free(room), free(met);
    }
}
"""


def test_no_kernel_reaches_outside_its_tensors_or_does_what_c_leaves_undefined(
    tmp_path: Path,
) -> None:
    run_sanitized(tmp_path, HARNESS, ["linear"])
