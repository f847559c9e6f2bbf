"""The choice of backend: what `auto` takes, what is refused and with which words."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from op_cases import Loss, each_op
from torch import Tensor

from betavae_core.errors import UsageError
from betavae_core.kernels.c import library
from betavae_core.ops import backend, reparam_kl

CPU, CPU64 = (torch.empty(0, dtype=dtype) for dtype in (torch.float32, torch.float64))
META = torch.empty(0, device="meta")
CUDA, CUDA64 = (
    SimpleNamespace(is_cuda=True, is_cpu=False, dtype=dtype, device="cuda")
    for dtype in (torch.float32, torch.float64)
)


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets backend `c` be chosen whether or not there is a compiler."""
    monkeypatch.setattr(library, "obstacle", lambda: "")


@pytest.mark.parametrize(
    ("name", "tensor", "chosen"),
    [("auto", CPU, "c"), ("auto", CPU64, "torch"), ("auto", META, "torch"), ("c", CPU, "c"),
     ("auto", CUDA, "triton"), ("auto", CUDA64, "torch"), ("triton", CUDA, "triton"),
     ("torch", CPU, "torch"), ("torch", CUDA, "torch")],
)  # fmt: skip
def test_auto_is_triton_on_a_gpu_and_c_on_a_cpu_and_float64_is_pytorch_s(
    name: str, tensor: Tensor, chosen: str, monkeypatch: pytest.MonkeyPatch, compiler: None
) -> None:
    monkeypatch.setattr(backend, "HAS_TRITON", True)
    assert backend.choose(name, tensor) == chosen


def test_auto_is_pytorch_where_there_is_no_triton_and_no_compiler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backend, "HAS_TRITON", False)
    monkeypatch.setattr(library, "obstacle", lambda: "needs a C compiler")
    assert backend.choose("auto", CUDA) == backend.choose("auto", CPU) == "torch"
    assert backend.kernels_at(torch.device("cpu")) == ()
    with pytest.raises(UsageError, match="backend 'c' needs a C compiler, or use backend 'torch'"):
        backend.choose("c", CPU)


@each_op
def test_an_unknown_backend_is_refused(loss: Loss) -> None:
    with pytest.raises(UsageError, match="must be one of auto, torch, triton, c, got 'cuda'"):
        loss(torch.zeros(5, 16), backend="cuda")


@each_op
@pytest.mark.parametrize(
    ("has_triton", "dtype", "remedy"),
    [(True, torch.float32, r"\.cuda\(\)"), (True, torch.float64, "convert the tensors"),
     (False, torch.float32, "pip install triton")],
)  # fmt: skip
def test_an_explicit_triton_that_cannot_run_says_how_to_mend_it(
    loss: Loss,
    has_triton: bool,
    dtype: torch.dtype,
    remedy: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backend, "HAS_TRITON", has_triton)
    monkeypatch.setattr(backend, "_INTERPRETED", False)
    with pytest.raises(UsageError, match=f"{remedy}.*or use backend 'torch'"):
        loss(torch.zeros(5, 16, dtype=dtype), backend="triton")


def test_auto_does_not_interpret_on_a_cpu_though_it_could(interpreter: None) -> None:
    assert backend.choose("auto", torch.zeros(1)) != "triton"
    assert backend.choose("triton", torch.zeros(1)) == "triton"


@pytest.mark.parametrize("name", ["triton", "c"])
def test_a_kernel_takes_a_key_and_no_noise(name: str) -> None:
    mu = torch.zeros(3, 4)
    with pytest.raises(UsageError, match=f"'{name}' draws its own noise: give key, not eps"):
        reparam_kl(mu, mu, eps=mu, backend=name)


@each_op
def test_c_refuses_what_it_cannot_compute_and_says_what_to_do(loss: Loss) -> None:
    for tensor, remedy in (
        (torch.zeros(5, 16, dtype=torch.float64), "computes in float32, .*convert the tensors"),
        (torch.zeros(5, 16, device="meta"), r"needs tensors on the CPU, got meta: .*\.cpu\(\)"),
    ):
        with pytest.raises(UsageError, match=f"backend 'c' {remedy}, or use backend 'torch'"):
            loss(tensor, backend="c")


@pytest.mark.parametrize("key", [torch.tensor([1, 2, 3]), torch.tensor([1, 2]).int()], ids=str)
@pytest.mark.parametrize("chosen", ["auto", "torch"])
def test_a_key_is_two_int64_on_every_backend(chosen: str, key: Tensor) -> None:
    mu = torch.zeros(3, 4)
    with pytest.raises(ValueError, match=r"key must be an int64 tensor \[seed, step\], got"):
        reparam_kl(mu, mu, key, backend=chosen)


WITHOUT_TRITON = """
import sys
sys.modules["triton"] = None  # what `import triton` finds on macOS and Windows
import torch
from betavae_core import architectures, errors, model
from betavae_core.ops import philox

for likelihood in ("bernoulli", "gaussian"):
    for backend in ("auto", "torch", "triton"):
        vae = model.build(
            architectures.build("mlp", (1, 4, 4), 2, (8,)), latent_dim=2, image_shape=(1, 4, 4),
            likelihood=likelihood, backend=backend,
        )
        x = torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
        try:
            terms = vae(x, key=philox.make_key(0))
            (terms.recon_nll + terms.posterior.kl).backward()
            print(backend, all(p.grad.isfinite().all().item() for p in vae.parameters()))
        except errors.UsageError as error:
            print(error)
"""


def run_python(script: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env=os.environ | environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_missing_triton_leaves_everything_but_backend_triton_working() -> None:
    lines = run_python(WITHOUT_TRITON).splitlines()
    for auto, torch_, triton in (lines[:3], lines[3:]):
        assert (auto, torch_) == ("auto True", "torch True")
        assert "`pip install triton`" in triton
        assert "use backend 'torch'" in triton


INTERPRETED = """
import torch
from betavae_core.ops import bernoulli_nll, gaussian_nll, philox, reparam_kl

key, x = philox.make_key(1, 2), torch.arange(50).byte().reshape(5, 10)
h = torch.linspace(-3, 3, 50).reshape(5, 10).requires_grad_()
results = []
for backend in ("triton", "torch"):
    z, kl, _ = reparam_kl(*h.chunk(2, 1), key, backend=backend)
    nll = bernoulli_nll(h, x, 255, backend=backend) + gaussian_nll(h, x, 255, 0.5, backend=backend)
    results.append([z, kl, nll, *torch.autograd.grad((z.sum(1) + kl + nll).sum(), h)])
for got, expected in zip(*results, strict=True):
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=2e-5)
    print(torch.equal(got, expected))
"""


def test_triton_interpret_runs_the_kernels_on_cpu_tensors() -> None:
    pytest.importorskip("triton", reason="Triton has no build for this platform")
    equal = run_python(INTERPRETED, TRITON_INTERPRET="1").split()
    assert len(equal) == 4
    assert "False" in equal  # so it was not PyTorch twice
