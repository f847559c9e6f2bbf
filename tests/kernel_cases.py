"""What the tests of the kernels share: which they are, one tolerance, layouts, and the poison.

The tolerance has one table and one rule. A kernel computes in float32 and rounds its result once
to the dtype of the tensor, so a result may differ from the float64 oracle by

    one rounding of the result            ROUNDING[dtype] · |exact| + SMALLEST[dtype]
    STEPS float32 roundings of its terms  STEPS · 2^-24 · terms
    the noise                             NORMAL_ERROR · |∂result/∂eps|

where `terms` is the sum of the magnitudes that the formula adds up. STEPS is 64: the square of an
exponential is good to 6 roundings, which at logvar = -ln 2, where exp(logvar) - 1 - logvar changes
from a polynomial to a difference, is magnified by .5/.19 and the roundings of the difference
come on top, 19 in all; and the interpreter adds a block's 1024 rows one after another, where
errors add up like √1024 = 32. (The GPU adds in a tree.)

The kernels in C flush what is subnormal to 0, before it is scaled: FLUSHED, which is far below the
rounding of anything that a likelihood adds up.

To bfloat16 the interpreter (not the GPU) truncates, and it garbles what is subnormal in float32:
hence the whole unit 2^-7 where rounding to nearest would be 2^-8, and the least normal number.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike, NDArray
from torch.fx.experimental.proxy_tensor import make_fx

from betavae_core.kernels.c import bfloat16, library

STEMS = ("reparam_kl", "bernoulli_nll", "gaussian_nll")
STEPS = 64
NORMAL_ERROR = 4e-6
ROUNDING = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-11}
SMALLEST = {torch.float32: 2.0**-150, torch.bfloat16: 2.0**-126, torch.float16: 2.0**-25}
FLUSHED = 2.0**-100
DTYPES = tuple(ROUNDING)
LAYOUTS = ("contiguous", "transposed", "sliced", "half", "rows expanded", "columns expanded")


def needs_c() -> None:
    """Skip a test of the C kernels where they are not meant to be: no compiler, or not Linux.

    A compiler on Linux that cannot compile them is a failure: an error in C must not skip tests.
    """
    if reason := library.obstacle():
        meant = sys.platform == "linux" and "needs a C compiler" not in reason
        (pytest.fail if meant else pytest.skip)(f"the C backend {reason}")


def needs_bfloat16() -> None:
    """Skip a test of the products in C on a processor without their instructions."""
    needs_c()
    if not bfloat16.compiled():
        pytest.skip("this processor does not multiply bfloat16")


def noted_calls(patch: pytest.MonkeyPatch, kernels: ModuleType, *names: str) -> list[str]:
    """The launchers of those names that run, in order, on a processor that prefers them."""
    needs_bfloat16()
    found: list[str] = []

    def noted(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: (found.append(name), kernel(*args, **kwargs))[1]

    patch.setattr(bfloat16, "preferred", lambda: True)
    for name in names:
        patch.setattr(kernels, name, noted(name, getattr(kernels, name)))
    return found


def assert_threads_change_no_bit(results: Callable[[], Iterable[torch.Tensor]]) -> None:
    """Fails where `results` on one, two, three and eleven threads differ in a bit."""
    threads, each = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3, 11):
            torch.set_num_threads(count)
            each.append(list(results()))
    finally:
        torch.set_num_threads(threads)
    for others in each[1:]:
        assert all(torch.equal(a, b) for a, b in zip(each[0], others, strict=True))


def assert_watched_gradients_are_computed_anew(
    y: torch.Tensor, inputs: tuple[torch.Tensor, ...], calls: list[str]
) -> None:
    """Fails where a kernel runs in a batch of gradients, which is a vmap, or in a traced one.

    `calls` are the kernels' so far; the gradients may differ by bfloat16's rounding.
    """
    calls.clear()
    dy = torch.randn(3, *y.shape, generator=torch.Generator().manual_seed(1)).bfloat16()

    def gradients(dy: torch.Tensor, **settings: Any) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(y, inputs, dy, retain_graph=True, **settings)

    batch = gradients(dy, is_grads_batched=True)
    traced = make_fx(gradients)(dy[0])
    assert not calls
    for i, one in enumerate(dy):
        for ours, batched, again in zip(gradients(one), batch, traced(one), strict=True):
            bound = 0.02 * ours.abs().max().item()
            torch.testing.assert_close(ours, batched[i], rtol=0, atol=bound)
            torch.testing.assert_close(ours, again, rtol=0, atol=bound)
    assert calls


def assert_a_compiled_backward_is_the_same(
    loss: torch.Tensor, x: torch.Tensor, calls: list[str]
) -> None:
    """Fails where a kernel runs in a backward pass that PyTorch's compiler sees."""
    (ours,) = torch.autograd.grad(loss, x, retain_graph=True)
    assert calls
    calls.clear()
    x.grad = None
    torch.compile(lambda value: value.backward(), backend="eager")(loss)
    assert x.grad is not None
    torch.testing.assert_close(x.grad, ours, rtol=0, atol=0.02 * ours.abs().max().item())
    assert not calls


def kernel_module(backend: str, stem: str) -> ModuleType:
    """The launchers of one op, of `triton` (interpreted here) or `c`."""
    if backend == "c":
        needs_c()
        return import_module(f"betavae_core.kernels.c.{stem}")
    pytest.importorskip("triton", reason="Triton has no build for this platform")
    return import_module(f"betavae_core.kernels.{stem}")


def run_sanitized(tmp_path: Path, program: str, stems: Iterable[str]) -> None:
    """Run a C program with the C kernels of these stems under the compiler's sanitizers."""
    needs_c()
    folder = Path(library.__file__).parent
    (tmp_path / "harness.c").write_text(program)
    strict = [
        "-Wall",
        "-Wextra",
        "-Werror",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover",
    ]
    flags = [flag for flag in library._FLAGS if flag != "-shared"]
    sources = [str(folder / f"{stem}.c") for stem in stems]
    command = [*library._compiler(), *flags, *strict, "harness.c", *sources, "-o", "all", "-lm"]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    if "cannot find" in built.stderr:  # some systems have the compiler and not its libraries
        pytest.skip("the compiler has no sanitizers")
    assert built.returncode == 0, built.stderr
    run = subprocess.run([tmp_path / "all"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def launchers(backend: str) -> SimpleNamespace:
    """The six of a backend, `reparam_kl_fwd` and so on."""
    modules = [kernel_module(backend, stem) for stem in STEMS]
    names = [f"{stem}_{which}" for stem in STEMS for which in ("fwd", "bwd")]
    found = {name: getattr(m, name) for m in modules for name in names if hasattr(m, name)}
    return SimpleNamespace(**found, flushed=FLUSHED if backend == "c" else 0.0)


def assert_matches(
    name: str,
    got: torch.Tensor,
    exact: ArrayLike,
    terms: ArrayLike,
    noise: ArrayLike = 0.0,
    flushed: float = 0.0,
) -> None:
    """Fails where `got` is further from `exact` than the rule above allows; NaN matches NaN."""
    exact, value = np.asarray(exact, dtype=np.float64), wide(got)
    assert value.shape == exact.shape, f"{name}: {value.shape} is not {exact.shape}"
    finite = np.isfinite(exact)
    np.testing.assert_array_equal(value[~finite], exact[~finite], err_msg=name)
    arithmetic = STEPS * 2.0**-24 * np.asarray(terms) + NORMAL_ERROR * np.asarray(noise)
    rounding = ROUNDING[got.dtype] * np.abs(exact[finite]) + SMALLEST[got.dtype] + flushed
    bound = rounding + np.broadcast_to(arithmetic, exact.shape)[finite]
    excess = np.abs(value[finite] - exact[finite]) / bound
    assert (excess <= 1).all(), f"{name}: {excess.max():.3g} times the tolerance"


def wide(tensor: torch.Tensor) -> NDArray[np.float64]:
    """The tensor's values, exactly, as a float64 array."""
    return tensor.detach().double().numpy()


def laid_out(values: NDArray[np.float64], dtype: torch.dtype, layout: str) -> torch.Tensor:
    """A tensor of `values` (B, N) in the layout asked for; what it skips in memory is NaN (or 99).

    The expanded layouts repeat the first row or column, so their values differ from `values`.
    """
    B, N = values.shape
    source = torch.from_numpy(values).to(dtype)
    if "expanded" in layout and B and N:
        return (source[:1] if layout.startswith("rows") else source[:, :1]).expand(B, N)
    if layout == "transposed":
        return source.t().contiguous().t()
    if layout == "sliced":
        return _within(source, (2 * B, 3 * N + 1), (slice(0, None, 2), slice(1, None, 3)))
    if layout == "half":
        return _within(source, (B, 2 * N), (slice(None), slice(N, None)))
    return source


def _within(source: torch.Tensor, shape: tuple[int, int], index: Any) -> torch.Tensor:
    """A view of a larger tensor that holds `source` at `index`."""
    larger = torch.full(
        shape, float("nan") if source.is_floating_point() else 99, dtype=source.dtype
    )
    larger[index] = source
    return larger[index]


@contextmanager
def poisoned_outputs() -> Iterator[None]:
    """New memory holds NaN, so an element that a kernel does not write cannot pass for right."""
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in ((torch, "empty"), (torch.Tensor, "new_empty")):
            patch.setattr(owner, name, _poisoned(getattr(owner, name)))
        yield


def _poisoned(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def poisoned(*args: Any, **kwargs: Any) -> torch.Tensor:
        tensor = make(*args, **kwargs)
        return tensor.fill_(float("nan")) if tensor.is_floating_point() else tensor

    return poisoned
