"""`reparam_kl` and the eager lines it replaces, under pytest-benchmark: `pytest bench`."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from betavae_core.bench.op_cases import reparam_kl_case
from betavae_core.bench.ops import PASSES, implementations, subject, verify

SHAPES = ((64, 10), (128, 20), (1024, 32))


@pytest.mark.parametrize("shape", SHAPES, ids="{0[0]}x{0[1]}".format)
@pytest.mark.parametrize("which", PASSES)
@pytest.mark.parametrize("name", ["ours", "eager"])
def test_reparam_kl(
    benchmark: BenchmarkFixture, name: str, which: str, shape: tuple[int, int]
) -> None:
    case = reparam_kl_case(*shape, "cpu")
    forward = implementations(case, compiled=False)[name]
    verify(case, name, forward)
    benchmark.group = f"reparam_kl {shape[0]} x {shape[1]}, {which}"
    run, benchmark.extra_info["calls"] = subject(case, which, name, forward)
    benchmark(run)
