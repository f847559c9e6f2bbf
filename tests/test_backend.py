"""The choice of backend, and what must not depend on it: values, gradients, transformations.

Without a GPU the kernels run in Triton's interpreter, on CPU tensors.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from op_cases import STRICT, sample, with_gradient
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError
from torch.fx.experimental.proxy_tensor import make_fx
from torch.library import opcheck
from torch.testing._internal.optests import OpCheckError
from torch.testing._internal.two_tensor import TwoTensor

from betavae_core.errors import UsageError
from betavae_core.kernels.c import library
from betavae_core.ops import backend, bernoulli_nll, gaussian_nll, philox, reparam_kl

KEY = philox.make_key(5, 7)
BYTES = torch.arange(0, 240, 3).byte().reshape(5, 16)
CPU, CPU64 = (torch.empty(0, dtype=dtype) for dtype in (torch.float32, torch.float64))
META = torch.empty(0, device="meta")
CUDA, CUDA64 = (
    SimpleNamespace(is_cuda=True, is_cpu=False, dtype=dtype, device="cuda")
    for dtype in (torch.float32, torch.float64)
)


def posterior_loss(h: Tensor, backend: str = "auto") -> Tensor:
    """Something that depends on every output of reparam_kl, for h (B, 2D)."""
    mu, logvar = h.chunk(2, dim=1)
    z, per_sample, per_latent = reparam_kl(mu, logvar, KEY, first_sample=3, backend=backend)
    return (z.to(per_sample.dtype) ** 2).sum() + (per_sample**2).sum() + per_latent.exp().sum()


def bernoulli_loss(logits: Tensor, backend: str = "auto") -> Tensor:
    return (bernoulli_nll(logits, BYTES, 255, backend=backend) ** 2).sum()


def gaussian_loss(logits: Tensor, backend: str = "auto") -> Tensor:
    return (gaussian_nll(logits, BYTES, 255, 0.3, backend=backend) ** 2).sum()


LOSSES = {
    "reparam_kl": posterior_loss,
    "bernoulli_nll": bernoulli_loss,
    "gaussian_nll": gaussian_loss,
}
each_op = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


@pytest.fixture
def interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets backend `triton` run on CPU tensors, as TRITON_INTERPRET=1 does at the start."""
    pytest.importorskip("triton", reason="Triton has no build for this platform")
    monkeypatch.setattr(backend, "_INTERPRETED", True)


@pytest.fixture(params=["triton", "c", "torch"])
def name(request: pytest.FixtureRequest, interpreter: None) -> str:
    """Each backend that can run here."""
    chosen: str = request.param
    if chosen == "c" and library.obstacle():
        pytest.skip(f"the C backend {library.obstacle()}")
    return chosen


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
def test_an_unknown_backend_is_refused(loss: Callable[..., Tensor]) -> None:
    with pytest.raises(UsageError, match="must be one of auto, torch, triton, c, got 'cuda'"):
        loss(torch.zeros(5, 16), backend="cuda")


@each_op
@pytest.mark.parametrize(
    ("has_triton", "dtype", "remedy"),
    [(True, torch.float32, r"\.cuda\(\)"), (True, torch.float64, "convert the tensors"),
     (False, torch.float32, "pip install triton")],
)  # fmt: skip
def test_an_explicit_triton_that_cannot_run_says_how_to_mend_it(
    loss: Callable[..., Tensor],
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
def test_c_refuses_what_it_cannot_compute_and_says_what_to_do(loss: Callable[..., Tensor]) -> None:
    for tensor, remedy in (
        (torch.zeros(5, 16, dtype=torch.float64), "computes in float32, .*convert the tensors"),
        (torch.zeros(5, 16, device="meta"), r"needs tensors on the CPU, got meta: .*\.cpu\(\)"),
    ):
        with pytest.raises(UsageError, match=f"backend 'c' {remedy}, or use backend 'torch'"):
            loss(tensor, backend="c")


@each_op
def test_a_batch_of_gradients_is_a_loop(loss: Callable[..., Tensor], name: str) -> None:
    """`is_grads_batched` is a vmap of its own, which torch.func knows nothing of."""
    tensor = with_gradient(sample((5, 16), torch.float32, "contiguous"))
    value, upstream = loss(tensor, backend=name), torch.tensor([1.0, -2.0])
    (batch,) = torch.autograd.grad(
        value, tensor, upstream, is_grads_batched=True, retain_graph=True
    )
    (one,) = torch.autograd.grad(value, tensor)
    torch.testing.assert_close(batch, torch.stack([one, -2 * one]), rtol=1e-4, atol=1e-4)


@each_op
@pytest.mark.parametrize("settings", [{}, {"pre_dispatch": True}], ids=str)
def test_a_traced_op_computes_anew(
    loss: Callable[..., Tensor], settings: dict[str, Any], name: str
) -> None:
    first, second = (sample((5, 16), torch.float32, "contiguous", seed) for seed in range(2))
    graph = make_fx(lambda t: loss(t, backend=name), **settings)(first)
    torch.testing.assert_close(graph(second), loss(second, backend="torch"), rtol=1e-5, atol=1e-4)


@each_op
def test_auto_takes_the_formula_for_a_tensor_that_only_seems_one(
    loss: Callable[..., Tensor],
) -> None:
    tensor = sample((5, 16), torch.float32, "contiguous")
    expected = loss(tensor, backend="torch")
    torch.testing.assert_close(loss(TwoTensor(tensor, tensor)).a, expected, rtol=1e-5, atol=1e-4)
    with pytest.raises(UsageError, match="reads memory, which a TwoTensor may not have"):
        loss(TwoTensor(tensor, tensor), backend="c")


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


@each_op
@pytest.mark.parametrize("layout", ["contiguous", "transposed", "sliced", "rows expanded"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_backend_gives_the_values_and_gradients_of_pytorch(
    loss: Callable[..., Tensor], layout: str, dtype: torch.dtype, name: str
) -> None:
    tensor = with_gradient(sample((5, 16), dtype, layout))
    values = [loss(tensor, backend=b) for b in (name, "torch")]
    gradients = [torch.autograd.grad(value, tensor)[0] for value in values]
    tolerance = 1e-5 if dtype == torch.float32 else 2.0**-6  # the interpreter truncates bfloat16
    torch.testing.assert_close(*values, rtol=tolerance, atol=0)
    torch.testing.assert_close(
        *gradients, rtol=tolerance, atol=tolerance * gradients[1].abs().max().item()
    )


@each_op
def test_vmap_and_func_grad_work_on_every_backend(loss: Callable[..., Tensor], name: str) -> None:
    stack = torch.stack([sample((5, 16), torch.float32, "contiguous", seed) for seed in range(3)])
    values = torch.vmap(lambda t: loss(t, backend=name))(stack)
    gradients = torch.vmap(torch.func.grad(lambda t: loss(t, backend=name)))(stack)
    for tensor, value, gradient in zip(stack, values, gradients, strict=True):
        tensor = with_gradient(tensor)
        expected = loss(tensor, backend="torch")
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            gradient, torch.autograd.grad(expected, tensor)[0], rtol=1e-4, atol=1e-4
        )


@each_op
def test_a_gradient_of_a_gradient_does_not_depend_on_the_backend(
    loss: Callable[..., Tensor], name: str
) -> None:
    tensor = with_gradient(sample((5, 16), torch.float32, "contiguous"))
    second = []
    for b in (name, "torch"):
        value = loss(tensor, backend=b)
        (gradient,) = torch.autograd.grad(value, tensor, create_graph=True)
        second.append(torch.autograd.grad(gradient.square().sum() + value, tensor)[0])
    torch.testing.assert_close(*second, rtol=1e-4, atol=1e-5 * second[1].abs().max().item())


@each_op
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # dynamo's
def test_every_backend_compiles_to_one_graph(loss: Callable[..., Tensor], name: str) -> None:
    tensor = with_gradient(sample((5, 16), torch.float32, "contiguous"))
    value = torch.compile(loss, fullgraph=True, backend="aot_eager")(tensor, backend=name)
    expected = loss(tensor, backend="torch")
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)
    gradients = [torch.autograd.grad(v, tensor)[0] for v in (value, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # dynamo's
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # inductor's own imports
def test_inductor_gives_the_eager_values_and_gradients() -> None:
    def total(tensor: Tensor) -> Tensor:
        return posterior_loss(tensor) + bernoulli_loss(tensor) + gaussian_loss(tensor)

    tensor = with_gradient(sample((5, 16), torch.float32, "contiguous"))
    values = [f(tensor) for f in (torch.compile(total, fullgraph=True), total)]
    torch.testing.assert_close(*values, rtol=1e-5, atol=0)
    gradients = [torch.autograd.grad(value, tensor)[0] for value in values]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


def test_opcheck_finds_a_fake_of_the_wrong_strides_in_a_transposed_sample_alone() -> None:
    op = torch.library.custom_op(
        "betavae_tests::double", lambda x: (2 * x).contiguous(), mutates_args=(),
        schema="(Tensor x) -> Tensor",
    )  # fmt: skip
    op.register_fake(torch.empty_like)  # keeps the strides of a dense tensor, where the op does not
    opcheck(op, (sample((5, 3), torch.float32, "sliced"),))
    with pytest.raises(OpCheckError, match=r"[Ss]tride"):
        opcheck(op, (sample((5, 3), torch.float32, "transposed"),))


@each_op
def test_gradcheck_finds_a_gradient_that_is_a_thousandth_wrong(
    loss: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    tensor = with_gradient(sample((5, 16), torch.float64, "contiguous"))

    def planted(tensor: Tensor) -> Tensor:
        return loss(tensor.detach() + (tensor - tensor.detach()) * 1.001)

    assert torch.autograd.gradcheck(loss, tensor, **STRICT)
    with pytest.raises(GradcheckError, match="Jacobian mismatch"):
        torch.autograd.gradcheck(planted, tensor, **STRICT)
