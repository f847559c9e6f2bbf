"""`bernoulli_nll` and the eager lines it replaces, under pytest-benchmark: `pytest bench`."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from betavae_core.bench.op_cases import bernoulli_nll_case
from betavae_core.bench.ops import PASSES, implementations, subject, verify

SHAPES = ((64, 4096), (128, 784))


@pytest.mark.parametrize("shape", SHAPES, ids="{0[0]}x{0[1]}".format)
@pytest.mark.parametrize("which", PASSES)
@pytest.mark.parametrize("name", ["ours", "eager"])
def test_bernoulli_nll(
    benchmark: BenchmarkFixture, name: str, which: str, shape: tuple[int, int]
) -> None:
    case = bernoulli_nll_case(*shape, "cpu")
    forward = implementations(case, compiled=False)[name]
    verify(case, name, forward)
    benchmark.group = f"bernoulli_nll {shape[0]} x {shape[1]}, {which}"
    run, benchmark.extra_info["calls"] = subject(case, which, name, forward)
    benchmark(run)
