"""The op of the linear layers in C: when it runs, and what else may be asked of its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from kernel_cases import (
    assert_a_compiled_backward_is_the_same,
    assert_watched_gradients_are_computed_anew,
    noted_calls,
)
from torch import Tensor

from betavae_core import layers
from betavae_core.kernels.c import bfloat16 as processor
from betavae_core.kernels.c import linear as kernels

bfloat16 = torch.autocast("cpu", torch.bfloat16)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return noted_calls(monkeypatch, kernels, "linear", "linear_gradient")


def layer(n_in: int = 12, n_out: int = 40, relu: bool = True) -> layers.Linear:
    torch.manual_seed(0)
    return layers.Linear(n_in, n_out, relu=relu).bfloat16()


def rows(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()


def run(module: layers.Linear, x: Tensor) -> list[Tensor]:
    """The output, and the gradients of a sum with random weights."""
    with bfloat16:
        y = module(x)
    weights = torch.rand(y.shape, generator=torch.Generator().manual_seed(1))
    return [y, *torch.autograd.grad((y.float() * weights).sum(), (x, *module.parameters()))]


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("sizes", [(64, 784, 512), (64, 512, 20), (2, 10, 256)], ids=str)
def test_outputs_and_gradients_are_those_of_pytorch(
    calls: list[str], sizes: tuple[int, int, int], relu: bool
) -> None:
    batch, n_in, n_out = sizes
    module, x = layer(n_in, n_out, relu), rows(batch, n_in)
    ours = run(module, x)
    assert calls == ["linear", "linear_gradient"]
    module.backend = "torch"
    for got, wanted in zip(ours, run(module, x), strict=True):
        assert got.dtype == wanted.dtype
        torch.testing.assert_close(got, wanted, rtol=0, atol=0.02 * wanted.abs().max().item())
    assert len(calls) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda module, patch: setattr(module, "backend", "torch"),
        lambda module, patch: module.eval(),
        lambda module, patch: patch.setattr(processor, "preferred", lambda: False),
        lambda module, patch: module.float(),
    ],
    ids=["another backend", "evaluation", "a faster way", "float32 weights"],
)
def test_nothing_else_does(
    calls: list[str], change: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, x = layer(), rows(4, 12)
    with bfloat16:
        module(x)
        change(module, monkeypatch)
        module(x)
    assert calls == ["linear"]


@pytest.mark.parametrize("shape", [(3, 12), (0, 12), (2, 2, 12)], ids=str)
def test_other_shapes_are_left_to_pytorch(calls: list[str], shape: tuple[int, ...]) -> None:
    with bfloat16:
        y = layer()(rows(*shape))
    assert y.shape == (*shape[:-1], 40)
    assert not calls


@pytest.mark.parametrize("relu", [True, False])
def test_a_gradient_that_is_watched_is_pytorch_s(calls: list[str], relu: bool) -> None:
    module, x = layer(relu=relu), rows(4, 12)
    inputs = x, *module.parameters()
    with bfloat16:
        y = module(x)
    assert_watched_gradients_are_computed_anew(y, inputs, calls)


def test_a_second_derivative_is_refused_and_not_wrong(calls: list[str]) -> None:
    x = rows(4, 12)
    with bfloat16:
        y = layer()(x)
    (gradient,) = torch.autograd.grad(y.float().square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiable once"):
        gradient.square().sum().backward()
    assert calls == ["linear", "linear_gradient"]


@pytest.mark.parametrize("frozen", ["weight", "bias"])
def test_what_is_frozen_gets_no_gradient(calls: list[str], frozen: str) -> None:
    module = layer()
    getattr(module, frozen).requires_grad_(False)
    with bfloat16:
        module(rows(4, 12)).sum().backward()
    assert {name for name, p in module.named_parameters() if p.grad is None} == {frozen}
    assert calls


def test_the_first_layer_computes_no_gradient_of_its_images(
    calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = []
    kept = kernels.linear_gradient
    monkeypatch.setattr(
        kernels, "linear_gradient", lambda *args: wanted.append(args[-1]) or kept(*args)
    )
    for x in (rows(4, 12).detach(), rows(4, 12)):
        with bfloat16:
            layer()(x).sum().backward()
    assert wanted == [False, True]


@pytest.mark.filterwarnings("ignore")  # dynamo's: it looks at what it should not, and says so
def test_a_backward_pass_that_is_compiled_is_pytorch_s(calls: list[str]) -> None:
    module, x = layer(), rows(4, 12)
    with bfloat16:
        loss = module(x).float().square().sum()
    assert_a_compiled_backward_is_the_same(loss, x, calls)
