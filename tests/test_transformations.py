"""What must not depend on the backend: values, gradients, and each transformation of PyTorch.

Without a GPU the Triton kernels run in the interpreter, on CPU tensors.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kernel_cases import needs_c
from op_cases import (
    STRICT,
    Loss,
    bernoulli_loss,
    each_op,
    gaussian_loss,
    posterior_loss,
    sample,
    with_gradient,
)
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError
from torch.fx.experimental.proxy_tensor import make_fx
from torch.library import opcheck
from torch.testing._internal.optests import OpCheckError
from torch.testing._internal.two_tensor import TwoTensor

from betavae_core.errors import UsageError

each_kernel = pytest.mark.parametrize("name", ["triton", "c"], indirect=True)


@pytest.fixture(params=["triton", "c", "torch"])
def name(request: pytest.FixtureRequest, interpreter: None) -> str:
    """Each backend that can run here."""
    chosen: str = request.param
    if chosen == "c":
        needs_c()
    return chosen


@each_op
def test_a_batch_of_gradients_is_a_loop(loss: Loss, name: str) -> None:
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
def test_a_traced_op_computes_anew(loss: Loss, settings: dict[str, Any], name: str) -> None:
    first, second = (sample((5, 16), torch.float32, "contiguous", seed) for seed in range(2))
    graph = make_fx(lambda t: loss(t, backend=name), **settings)(first)
    torch.testing.assert_close(graph(second), loss(second, backend="torch"), rtol=1e-5, atol=1e-4)


@each_op
def test_auto_takes_the_formula_for_a_tensor_that_only_seems_one(
    loss: Loss,
) -> None:
    tensor = sample((5, 16), torch.float32, "contiguous")
    expected = loss(tensor, backend="torch")
    torch.testing.assert_close(loss(TwoTensor(tensor, tensor)).a, expected, rtol=1e-5, atol=1e-4)
    with pytest.raises(UsageError, match="reads memory, which a TwoTensor may not have"):
        loss(TwoTensor(tensor, tensor), backend="c")


@each_op
@each_kernel
@pytest.mark.parametrize("layout", ["contiguous", "transposed", "sliced", "rows expanded"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_kernel_gives_the_values_and_gradients_of_pytorch(
    loss: Loss, layout: str, dtype: torch.dtype, name: str
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
def test_vmap_and_func_grad_work_on_every_backend(loss: Loss, name: str) -> None:
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
@each_kernel
def test_every_kernel_gives_the_gradient_of_a_gradient_of_pytorch(loss: Loss, name: str) -> None:
    tensor = with_gradient(sample((5, 16), torch.float32, "contiguous"))
    second = []
    for b in (name, "torch"):
        value = loss(tensor, backend=b)
        (gradient,) = torch.autograd.grad(value, tensor, create_graph=True)
        second.append(torch.autograd.grad(gradient.square().sum() + value, tensor)[0])
    torch.testing.assert_close(*second, rtol=1e-4, atol=1e-5 * second[1].abs().max().item())


@each_op
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # dynamo's
def test_every_backend_compiles_to_one_graph(loss: Loss, name: str) -> None:
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
    loss: Loss, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensor = with_gradient(sample((5, 16), torch.float64, "contiguous"))

    def planted(tensor: Tensor) -> Tensor:
        return loss(tensor.detach() + (tensor - tensor.detach()) * 1.001)

    assert torch.autograd.gradcheck(loss, tensor, **STRICT)
    with pytest.raises(GradcheckError, match="Jacobian mismatch"):
        torch.autograd.gradcheck(planted, tensor, **STRICT)
