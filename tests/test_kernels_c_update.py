"""Steps of the optimizers in C against the oracle's, their bits, and the memory they touch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kernel_cases import assert_threads_change_no_bit, needs_c, run_sanitized
from torch import Tensor

from betavae_core.kernels.c.update import adagrad, adam
from betavae_core.reference import optimizers as oracle

ADAM = {"lr": 1e-2, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
ADAGRAD = {"lr": 1e-2, "eps": 1e-10}
# name -> how many moments, the kernel, the oracle, and the oracle's last moment
RULES: dict[str, Any] = {
    "adam": (2, partial(adam, **ADAM), partial(oracle.Adam, **ADAM), "second_moment"),
    "adagrad": (1, partial(adagrad, **ADAGRAD), partial(oracle.Adagrad, **ADAGRAD), "accumulator"),
}
SHAPES = [(1,), (7,), (8192,), (8193,), (40, 500), (0,), (3, 1)]
ROUNDED = 2.0**-22  # a weight below 4, at most


@pytest.fixture(autouse=True)
def _compiled() -> None:
    needs_c()


class Case:
    """Weights of each shape, their state and their gradients, which differ in size."""

    def __init__(self, rule: str, seed: int = 0, shapes: list[Any] = SHAPES) -> None:
        rng, (count, self.kernel, *_) = np.random.default_rng(seed), RULES[rule]
        self.rng, self.shapes = rng, shapes
        self.weights = [torch.from_numpy(rng.normal(size=shape)).float() for shape in shapes]
        self.moments = [[torch.zeros_like(w) for w in self.weights] for _ in range(count)]
        self.copies = [w.bfloat16() for w in self.weights]
        self.steps = [torch.zeros(()) for _ in shapes]

    def gradients(self) -> list[Tensor]:
        size = 10.0 ** self.rng.integers(-12, 4)
        values = (self.rng.normal(size=shape) for shape in self.shapes)
        return [torch.from_numpy(size * value).bfloat16() for value in values]

    def update(self, gradients: list[Tensor]) -> None:
        for step in self.steps:
            step += 1
        self.kernel(self.weights, self.moments, self.steps, self.copies, gradients)


@pytest.fixture(params=RULES)
def rule(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_twenty_steps_are_the_oracle_s(rule: str) -> None:
    """A rounding a step apart, whatever the size of the gradients."""
    case, truth, last = Case(rule), RULES[rule][2](), RULES[rule][3]
    exact = {str(i): w.double().numpy() for i, w in enumerate(case.weights)}
    largest = 0.0
    for step in range(1, 21):
        gradients = case.gradients()
        case.update(gradients)
        truth.update(exact, {str(i): g.double().numpy() for i, g in enumerate(gradients)})
        for i, w in enumerate(case.weights):
            if w.numel():
                largest = max(largest, np.abs(exact[str(i)] - w.double().numpy()).max())
                moment = getattr(truth, last)[str(i)]
                np.testing.assert_allclose(case.moments[-1][i], moment, rtol=2e-6)
        assert largest <= step * ROUNDED


def test_copies_are_the_weights_rounded_to_nearest(rule: str) -> None:
    case = Case(rule)
    for _ in range(5):
        case.update(case.gradients())
        for weight, copy in zip(case.weights, case.copies, strict=True):
            assert torch.equal(copy, weight.bfloat16())


def test_the_number_of_threads_changes_no_bit(rule: str) -> None:
    def results() -> list[Tensor]:
        case = Case(rule, 1)
        for _ in range(3):
            case.update(case.gradients())
        return [*case.weights, *chain(*case.moments), *case.copies]

    assert_threads_change_no_bit(results)


def test_what_is_not_a_number_shows_in_the_weight_and_its_copy(rule: str) -> None:
    case = Case(rule, shapes=[(64,)])
    gradient = case.gradients()[0]
    gradient[3], gradient[9] = float("nan"), float("inf")
    case.update([gradient])
    broken = torch.zeros(64, dtype=torch.bool)
    broken[[3, 9]] = True
    for tensor in (case.weights[0], case.copies[0]):
        assert torch.equal(tensor.isnan(), broken)


def test_moments_of_adam_vanish_and_do_not_become_subnormal() -> None:
    case = Case("adam", shapes=[(100,)])
    case.update([torch.full((100,), 1e-15).bfloat16()])
    least = 1.0
    for _ in range(900):
        case.update([torch.zeros(100, dtype=torch.bfloat16)])
        if (mean := case.moments[0][0].abs().max().item()) > 0:
            least = min(least, mean)
    assert not case.moments[0][0].any()
    assert least >= torch.finfo(torch.float32).tiny


REFUSED: list[tuple[str, Callable[[Case, list[Tensor]], Any]]] = [
    ("float32 gradient", lambda case, g: g.__setitem__(0, g[0].float())),
    ("another shape", lambda case, g: g.__setitem__(0, g[0][:2])),
    ("float64 weight", lambda case, g: case.weights.__setitem__(0, case.weights[0].double())),
    ("transposed", lambda case, g: case.moments[0].__setitem__(0, torch.zeros(3, 4).t())),
    ("float32 copy", lambda case, g: case.copies.__setitem__(0, case.copies[0].float())),
    ("another device", lambda case, g: case.copies.__setitem__(0, case.copies[0].to("meta"))),
    ("a step too large", lambda case, g: case.steps.__setitem__(0, torch.zeros(2))),
    ("whole steps", lambda case, g: case.steps.__setitem__(0, torch.zeros((), dtype=torch.int64))),
]


@pytest.mark.parametrize(("name", "change"), REFUSED, ids=[name for name, _ in REFUSED])
def test_another_tensor_is_refused_and_nothing_is_touched(
    name: str, change: Callable[[Case, list[Tensor]], Any], rule: str
) -> None:
    case = Case(rule, shapes=[(4, 3), (5,)])
    gradients, before = case.gradients(), [w.clone() for w in case.weights]
    change(case, gradients)
    with pytest.raises(ValueError, match=f"{rule} in C needs"):
        case.update(gradients)
    assert all(torch.equal(a, b) for a, b in zip(before, case.weights, strict=True))


def test_a_transposed_gradient_is_read_in_order(rule: str) -> None:
    one, other = (Case(rule, shapes=[(30, 20)]) for _ in range(2))
    gradient = one.gradients()[0]
    one.update([gradient])
    other.update([gradient.t().contiguous().t()])
    assert torch.equal(one.weights[0], other.weights[0])


HARNESS = """
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
typedef struct {
    float *weight, *moments[2]; const float *step; uint16_t *copy; const uint16_t *gradient;
    int64_t count;
} Tensor;
void adam(const Tensor *, int64_t, double, double, double, double, int);
void adagrad(const Tensor *, int64_t, double, double, int);
static void *exact(int64_t bytes) { void *p = malloc(bytes); memset(p, 0x3f, bytes); return p; }
int main(void) {
    int64_t sizes[] = {1, 7, 16, 33, 8191, 8192, 8193, 0, 20000};
    enum { COUNT = 9 };
    for (int threads = 1; threads < 4; threads++) {
        Tensor all[COUNT];
        for (int i = 0; i < COUNT; i++) {
            int64_t n = sizes[i];
            float *step = exact(4);
            *step = 3.0f;
            all[i] = (Tensor){exact(4 * n), {exact(4 * n), exact(4 * n)}, step, exact(2 * n), exact(2 * n), n};
        }
        adam(all, COUNT, 1e-3, 0.9, 0.999, 1e-8, threads);
        for (int i = 0; i < COUNT; i++) free(all[i].moments[1]), all[i].moments[1] = 0;
        adagrad(all, COUNT, 1e-3, 1e-10, threads);
        for (int i = 0; i < COUNT; i++) {
            free(all[i].weight), free(all[i].moments[0]), free(all[i].copy);
            free((void *)all[i].gradient), free((void *)all[i].step);
        }
    }
    return 0;
}
"""  # noqa: E501


def test_no_byte_beside_the_tensors_is_touched(tmp_path: Path) -> None:
    run_sanitized(tmp_path, HARNESS, ["update"])
