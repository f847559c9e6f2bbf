"""The op of the convolutions in C: when it runs, and what else may be asked of its gradient."""

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
from torch import Tensor, nn

from betavae_core import layers
from betavae_core.kernels.c import bfloat16 as processor
from betavae_core.kernels.c import convolution as kernels

bfloat16 = torch.autocast("cpu", torch.bfloat16)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return noted_calls(monkeypatch, kernels, "conv", "conv_transpose", "conv_weights", "conv_relu")


def images(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()


def test_a_step_in_bfloat16_takes_them(calls: list[str]) -> None:
    network = nn.Sequential(
        layers.Conv2d(1, 32, 4, 2, 1, relu=True), layers.ConvTranspose2d(32, 1, 4, 2, 1)
    )
    with bfloat16:
        network(images(2, 1, 8, 8).detach()).sum().backward()
    assert calls == ["conv", "conv_transpose", "conv", "conv_weights", "conv_relu", "conv_weights"]


@pytest.mark.parametrize(
    "change",
    [
        lambda layer, patch: setattr(layer, "backend", "torch"),
        lambda layer, patch: layer.eval(),
        lambda layer, patch: patch.setattr(processor, "preferred", lambda: False),
        lambda layer, patch: patch.setattr(torch, "is_autocast_enabled", lambda _: False),
        lambda layer, patch: setattr(layer, "padding", (0, 0)),
    ],
    ids=["another backend", "evaluation", "a faster way", "float32", "another geometry"],
)
def test_nothing_else_does(
    calls: list[str], change: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, x = layers.Conv2d(32, 32, 4, 2, 1), images(2, 32, 8, 8)
    with bfloat16:
        layer(x)
        change(layer, monkeypatch)
        layer(x)
    assert calls == ["conv"]


@pytest.mark.parametrize("shape", [(32, 9, 8), (32, 8, 12), (31, 8, 8), (5, 8, 8)], ids=str)
def test_other_sizes_are_left_to_pytorch(calls: list[str], shape: tuple[int, ...]) -> None:
    x = images(2, *shape)
    with bfloat16:
        y = layers.Conv2d(shape[0], 32, 4, 2, 1)(x)
    assert y.shape == (2, 32, shape[1] // 2, shape[2] // 2)
    assert not calls


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("kind", [layers.Conv2d, layers.ConvTranspose2d])
def test_a_gradient_that_is_watched_is_pytorch_s(
    calls: list[str], kind: type[layers.Conv2d | layers.ConvTranspose2d], relu: bool
) -> None:
    layer = kind(32, 32, 4, 2, 1, relu=relu)
    inputs = images(2, 32, 8, 8), *layer.parameters()
    with bfloat16:
        y = layer(inputs[0])
    assert_watched_gradients_are_computed_anew(y, inputs, calls)


@pytest.mark.parametrize("power", [1, 2])
def test_a_second_derivative_is_refused_and_not_wrong(calls: list[str], power: int) -> None:
    x = images(1, 32, 8, 8)
    with bfloat16:
        y = layers.Conv2d(32, 32, 4, 2, 1)(x)
    (gradient,) = torch.autograd.grad(y.float().pow(power).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiable once"):
        gradient.square().sum().backward()
    assert "conv_transpose" in calls


@pytest.mark.filterwarnings("ignore")  # dynamo's: it looks at what it should not, and says so
def test_a_backward_pass_that_is_compiled_is_pytorch_s(calls: list[str]) -> None:
    """A launcher that the compiler takes apart frees the memory that C is about to use."""
    layer, x = layers.Conv2d(32, 32, 4, 2, 1, relu=True), images(2, 32, 8, 8)
    with bfloat16:
        loss = layer(x).float().square().sum()
    assert_a_compiled_backward_is_the_same(loss, x, calls)


@pytest.mark.filterwarnings("ignore")  # dynamo's: it looks at what it should not, and says so
def test_a_launcher_keeps_its_memory_when_the_compiler_takes_it_apart(calls: list[str]) -> None:
    fine, weight = images(2, 32, 32, 32).detach(), images(32, 32, 4, 4).detach()
    expected = kernels.conv(fine, weight, None, relu=False)
    compiled = torch.compile(lambda x, w: kernels.conv(x, w, None, relu=False), backend="eager")
    for _ in range(8):
        assert torch.equal(compiled(fine, weight), expected)
    assert calls


@pytest.mark.parametrize("frozen", ["weight", "bias"])
@pytest.mark.parametrize("relu", [True, False])
def test_what_is_frozen_gets_no_gradient(calls: list[str], frozen: str, relu: bool) -> None:
    layer, x = layers.Conv2d(32, 32, 4, 2, 1, relu=relu), images(2, 32, 8, 8)
    getattr(layer, frozen).requires_grad_(False)
    with bfloat16:
        layer(x).sum().backward()
    found = {name for name, p in layer.named_parameters() if p.grad is not None}
    assert found == {"weight", "bias"} - {frozen}
    assert ("conv_weights" in calls) == (frozen == "bias")


def test_a_result_may_be_changed_in_place_where_there_is_no_relu(calls: list[str]) -> None:
    layer, x = layers.ConvTranspose2d(32, 3, 4, 2, 1), images(2, 32, 4, 4)
    with bfloat16:
        layer(x).sigmoid_().sum().backward()
    assert x.grad is not None
    assert calls


@pytest.mark.parametrize("relu", [True, False])
def test_the_gradient_of_a_bias_is_added_up_in_float32(calls: list[str], relu: bool) -> None:
    layer, x = layers.Conv2d(32, 32, 4, 2, 1, relu=relu), images(8, 32, 32, 32)
    with bfloat16:
        y = layer(x)
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).bfloat16()
    y.backward(dy)
    exact = torch.where(y > 0, dy, 0) if relu else dy
    assert layer.bias is not None
    got, bound = layer.bias.grad, 1e-5 * exact.double().abs().sum((0, 2, 3)).max().item()
    torch.testing.assert_close(got.double(), exact.double().sum((0, 2, 3)), rtol=0, atol=bound)
    assert calls


def test_gradients_have_the_dtypes_of_what_they_belong_to(calls: list[str]) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        layer = layers.Conv2d(32, 32, 4, 2, 1, relu=True).to(dtype)
        x = images(2, 32, 8, 8).detach().to(dtype).requires_grad_()
        with bfloat16:
            layer(x).sum().backward()
        assert layer.bias is not None
        for tensor in (x, layer.weight, layer.bias):
            assert tensor.grad is not None
            assert tensor.grad.dtype == dtype
    assert calls
