"""The kernels in C: their noise and their functions, their bits, and the memory that they touch.

What they share with the Triton kernels is tested with those (`kernels` in conftest.py).
"""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from kernel_cases import (
    NORMAL_ERROR,
    STEMS,
    assert_threads_change_no_bit,
    launchers,
    needs_c,
    run_sanitized,
)
from numpy.typing import NDArray

from betavae_core.kernels.c import library
from betavae_core.reference import philox

SEEDS = (0, 1, 0xFFFFFFFF, 2**32, 0x0123456789ABCDEF, 2**63 - 1, -1, -(2**63))
SOURCES = Path(library.__file__).parent
Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def c() -> SimpleNamespace:
    return launchers("c")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_sample_of_the_prior_is_the_oracle_s_noise(c: SimpleNamespace, seed: int) -> None:
    rng = np.random.default_rng(abs(seed) % 2**32)
    for stream, D in enumerate((1, 10, 32, 61, 1030)):
        step, first = int(rng.integers(2**33)), int(rng.integers(2**32 - 8, 2**32))
        prior = torch.zeros(67, D)
        z, _, _ = c.reparam_kl_fwd(prior, prior, torch.tensor([seed, step]), first, stream)
        exact = philox.normal(seed, step, first + np.arange(67), D, stream)
        assert np.abs(z.numpy() - exact).max() < NORMAL_ERROR


EXPOSED = """
#include "elementary.h"
#define EXPOSE(f) void each_##f(const float *x, float *y, int64_t n) {     \\
    for (int64_t i = 0; i < n; i++) y[i] = f(x[i]);                        \\
}
static float scale(float v) { return scale_and_rises(v).scale; }
static float rise(float v) { return scale_and_rises(v).rise; }
static float excess(float v) { return scale_and_rises(v).excess; }
EXPOSE(exponential) EXPOSE(scale) EXPOSE(rise) EXPOSE(excess)
EXPOSE(log1p_unit) EXPOSE(logarithm) EXPOSE(sine_of_turn)
"""
LOGVARS = np.linspace(-30, 18, 2**20)
UNIFORMS = np.arange(1, 2**24 + 1, dtype=np.float64) * 2.0**-24
# function, where, exact, relative error in float32 roundings
FUNCTIONS = [
    ("exponential", np.linspace(-87, 88, 2**20), np.exp, 8),
    ("scale", LOGVARS, lambda v: np.exp(v / 2), 4),
    ("rise", LOGVARS, np.expm1, 8),
    ("excess", LOGVARS, lambda v: np.expm1(v) - v, 32),
    ("excess", LOGVARS * 2.0**-10, lambda v: np.expm1(v) - v, 8),
    ("log1p_unit", np.geomspace(1e-37, 1, 2**20), np.log1p, 4),
    ("logarithm", UNIFORMS, np.log, 4),
    ("sine_of_turn", UNIFORMS[: 2**22], lambda t: np.sin(2 * np.pi * t), 4),
]


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The functions of elementary.h, each over an array."""
    needs_c()
    folder = tmp_path_factory.mktemp("exposed")
    (folder / "exposed.c").write_text(EXPOSED)
    command = [*library._compiler(), *library._FLAGS, f"-I{SOURCES}", "exposed.c", "-o", "all.so"]
    subprocess.run(command, cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "all.so"))


@pytest.mark.parametrize(("name", "x", "exact", "roundings"), FUNCTIONS)
def test_a_function_is_within_some_roundings_everywhere(
    exposed: ctypes.CDLL, name: str, x: Floats, exact: np.ufunc, roundings: int
) -> None:
    x, wanted = x.astype(np.float32), exact(x.astype(np.float32).astype(np.float64))
    got = np.empty_like(x)
    address = ctypes.c_void_p
    getattr(exposed, f"each_{name}")(
        address(x.ctypes.data), address(got.ctypes.data), ctypes.c_int64(len(x))
    )
    far = np.abs(got - wanted) / np.maximum(np.abs(wanted), 2.0**-126) * 2.0**24
    assert far.max() < roundings


def results(c: SimpleNamespace) -> list[torch.Tensor]:
    """Of every kernel."""
    B, D = 150, 50
    mu, logvar, dz = (normal(B, D, seed=i) for i in range(3))
    g, key = normal(B, seed=3), torch.tensor([3, 4])
    found = [*c.reparam_kl_fwd(mu, logvar, key, 0, 0)]
    found += c.reparam_kl_bwd(mu, logvar, key, 0, 0, dz, g, normal(D, seed=4))
    logits, x = 4 * normal(B, 97, seed=5), normal(B, 97, seed=6).sigmoid()
    found += [c.bernoulli_nll_fwd(logits, x, 1), c.bernoulli_nll_bwd(logits, x, 1, g)]
    found += [c.gaussian_nll_fwd(logits, x, 1, 0.1), c.gaussian_nll_bwd(logits, x, 1, 0.1, g)]
    return found


def test_the_number_of_threads_changes_no_bit(c: SimpleNamespace) -> None:
    assert_threads_change_no_bit(lambda: results(c))


def moved(tensor: torch.Tensor, by: int) -> torch.Tensor:
    """The same values `by` floats further from where allocations begin."""
    place = torch.empty(tensor.numel() + by)[by:].view(tensor.shape)
    return place.copy_(tensor)


@pytest.mark.parametrize("by", range(1, 16))
def test_where_a_tensor_lies_changes_no_bit(c: SimpleNamespace, by: int) -> None:
    logits, x, g = 4 * normal(3, 61), normal(3, 61, seed=1).sigmoid(), normal(3, seed=2)
    for name in ("bernoulli_nll", "gaussian_nll"):
        forward, backward = getattr(c, f"{name}_fwd"), getattr(c, f"{name}_bwd")
        settings = (1, 0.1)[: 1 + (name == "gaussian_nll")]
        assert torch.equal(
            forward(moved(logits, by), moved(x, by), *settings), forward(logits, x, *settings)
        )
        assert torch.equal(
            backward(moved(logits, by), moved(x, by), *settings, g),
            backward(logits, x, *settings, g),
        )


def test_what_c_would_read_past_the_end_of_is_refused(c: SimpleNamespace) -> None:
    key, m, g = torch.tensor([1, 2]), torch.zeros(4, 3), torch.zeros(4)
    narrow, short = torch.zeros(4, 2), torch.zeros(3)
    for call in (
        lambda: c.reparam_kl_fwd(m, narrow, key, 0, 0),
        lambda: c.reparam_kl_bwd(m, m, key, 0, 0, narrow, g, short),
        lambda: c.reparam_kl_bwd(m, m, key, 0, 0, m, short, short),
        lambda: c.reparam_kl_bwd(m, m, key, 0, 0, m, g, g),
        lambda: c.bernoulli_nll_fwd(m, narrow, 1),
        lambda: c.bernoulli_nll_bwd(m, m, 1, short),
        lambda: c.gaussian_nll_fwd(m, m.to("meta"), 1, 1.0),
        lambda: c.gaussian_nll_bwd(m, narrow, 1, 1.0, g),
    ):
        with pytest.raises(ValueError, match=r"need a tensor \(.*\) on the CPU, got \(.*\) on"):
            call()
    for wrong in (torch.tensor([1]), torch.tensor([1.0, 2.0]), torch.tensor([1, 2], device="meta")):
        with pytest.raises(ValueError, match=r"need a key \[seed, step\] in int64 on the CPU, got"):
            c.reparam_kl_fwd(m, m, wrong, 0, 0)


def test_no_latents_and_no_images_are_no_trouble(c: SimpleNamespace) -> None:
    key = torch.tensor([1, 2])
    for shape in ((4, 0), (0, 0), (0, 3)):
        m, g, h = torch.zeros(shape), torch.ones(shape[0]), torch.ones(shape[1])
        z, per_sample, per_latent = c.reparam_kl_fwd(m, m, key, 0, 0)
        assert (z.shape, per_sample.tolist()) == (shape, [0] * shape[0])
        assert per_latent.tolist() == [0] * shape[1]
        assert c.reparam_kl_bwd(m, m, key, 0, 0, m, g, h)[0].shape == shape


def test_the_mean_over_a_million_rows_loses_nothing(c: SimpleNamespace) -> None:
    mu = torch.full((2**20, 1), 3.3)
    _, _, kl = c.reparam_kl_fwd(mu, torch.zeros_like(mu), torch.tensor([1, 2]), 0, 0)
    assert kl.item() == pytest.approx(0.5 * np.float32(3.3).astype(float) ** 2, rel=1e-7)


def test_results_are_on_the_cpu_whatever_the_default_device(c: SimpleNamespace) -> None:
    m, key, g = normal(4, 3), torch.tensor([1, 2]), torch.ones(4)
    wanted = [*c.reparam_kl_fwd(m, m, key, 0, 0), c.bernoulli_nll_bwd(m, m, 1, g)]
    with torch.device("meta"):
        found = [*c.reparam_kl_fwd(m, m, key, 0, 0), c.bernoulli_nll_bwd(m, m, 1, g)]
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_numbers_that_are_whole_may_be_floats(c: SimpleNamespace) -> None:
    logits, x = normal(2, 9), torch.full((2, 9), 7, dtype=torch.uint8)
    assert torch.equal(c.bernoulli_nll_fwd(logits, x, 255.0), c.bernoulli_nll_fwd(logits, x, 255))


def test_a_tensor_that_is_negated_when_it_is_read_is_read_negated(c: SimpleNamespace) -> None:
    logits, x = normal(6, 4), normal(6, 4, seed=1).sigmoid()
    lazily = torch._neg_view(logits)
    assert torch.equal(c.bernoulli_nll_fwd(lazily, x, 1), c.bernoulli_nll_fwd(-logits, x, 1))


def test_a_tensor_without_memory_is_refused(c: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match="need a tensor with memory"):
        c.bernoulli_nll_fwd(normal(4, 8), torch._efficientzerotensor((4, 8)), 1)


def test_half_logits_are_read_and_written_as_they_are(c: SimpleNamespace) -> None:
    """In bfloat16 to the bit what float32 gives, rounded; also where rows are apart."""
    x, g = normal(9, 1100, seed=6).sigmoid(), normal(9, seed=7)
    logits = (8 * normal(9, 1200, seed=5)).bfloat16()[:, 50:1150]
    for name, settings in (("bernoulli_nll", (1,)), ("gaussian_nll", (1, 0.1))):
        forward, backward = getattr(c, f"{name}_fwd"), getattr(c, f"{name}_bwd")
        wide = logits.float()
        assert torch.equal(forward(logits, x, *settings), forward(wide, x, *settings))
        slopes = backward(logits, x, *settings, g)
        assert slopes.dtype == torch.bfloat16
        assert torch.equal(slopes, backward(wide, x, *settings, g).bfloat16())


HARNESS = """
#include <stdint.h>
#include <stdlib.h>
void reparam_kl_fwd(
    float *, int64_t, float *, int64_t, int64_t *, int64_t, int64_t, int64_t, int64_t, float *,
    float *, float *, double *, int);
void reparam_kl_bwd(
    float *, int64_t, float *, int64_t, int64_t *, int64_t, int64_t, int64_t, int64_t, float *,
    int64_t, float *, float *, float *, float *, int);
void bernoulli_nll_fwd(
    void *, int64_t, int64_t, float *, int64_t, int64_t, int64_t, float *, int);
void bernoulli_nll_bwd(
    void *, int64_t, int64_t, float *, int64_t, int64_t, int64_t, float *, void *, int);
void gaussian_nll_fwd(
    void *, int64_t, int64_t, float *, int64_t, double, double, int64_t, int64_t, float *, int);
void gaussian_nll_bwd(
    void *, int64_t, int64_t, float *, int64_t, double, int64_t, int64_t, float *, void *, int);

static float *floats(int64_t n) { return calloc(n, sizeof(float)); }

int main(void) {
    int64_t sizes[] = {0, 1, 3, 16, 65}, widths[] = {1, 4, 10, 61, 1023, 1030, 2050};
    int64_t key[] = {-7, 5};
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < 7; j++) {
            int64_t B = sizes[i], D = widths[j];
            float *a = floats(B * D), *b = floats(B * D), *c = floats(B * D), *d = floats(B * D);
            float *e = floats(B * D), *g = floats(B), *h = floats(D);
            double *sums = calloc(64 * D, sizeof(double));
            reparam_kl_fwd(a, D, b, D, key, -3, 1, B, D, c, g, h, sums, 2);
            reparam_kl_bwd(a, D, b, D, key, -3, 1, B, D, c, D, g, h, d, e, 2);
            void *narrow = calloc(B * D, 2), *slopes = calloc(B * D, 2);
            for (int half = 0; half < 2; half++) {
                void *l = half ? narrow : a, *dl = half ? slopes : c;
                bernoulli_nll_fwd(l, D, half, b, D, B, D, g, 2);
                bernoulli_nll_bwd(l, D, half, b, D, B, D, g, dl, 2);
                gaussian_nll_fwd(l, D, half, b, D, 0.1, 1.0, B, D, g, 2);
                gaussian_nll_bwd(l, D, half, b, D, 0.1, B, D, g, dl, 2);
            }
            free(a), free(b), free(c), free(d), free(e), free(g), free(h), free(sums);
            free(narrow), free(slopes);
        }
}
"""


def test_no_kernel_reaches_outside_its_tensors_or_does_what_c_leaves_undefined(
    tmp_path: Path,
) -> None:
    run_sanitized(tmp_path, HARNESS, STEMS)
