"""The convolutions in training on a CPU: PyTorch's own results, however they are formulated."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from betavae_core import architectures, layers, model

Module = type[nn.Module]
# c_in, c_out, side, kernel, stride, padding; thin ones with an even side go over blocks of pixels
CASES = [
    (1, 32, 64, 4, 2, 1),
    (3, 32, 16, 4, 2, 1),
    (1, 8, 9, 4, 2, 1),
    (2, 8, 12, 3, 1, 1),
    (32, 32, 16, 4, 2, 1),
    (64, 32, 8, 4, 2, 1),
    (32, 1, 16, 4, 2, 1),
    (16, 3, 5, 4, 2, 1),
]
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 2e-2}  # of the largest value


def run(module: nn.Module, x: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
    """The output and every gradient of a sum with random weights."""
    module, x = copy.deepcopy(module), x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, dtype == torch.bfloat16):
        y = module(x)
    weights = torch.rand(y.shape, generator=torch.Generator().manual_seed(1))
    (y.float() * weights).sum().backward()
    gradients = {name: p.grad for name, p in module.named_parameters()}
    return {"y": y.detach().float(), "x": x.grad, **gradients}


def plain(module: layers.Conv2d | layers.ConvTranspose2d) -> nn.Module:
    """PyTorch's own modules with the same parameters."""
    base = nn.Conv2d if isinstance(module, nn.Conv2d) else nn.ConvTranspose2d
    sizes = module.in_channels, module.out_channels, *module.kernel_size[:1]
    own = base(*sizes, *module.stride[:1], *module.padding[:1])
    own.load_state_dict(module.state_dict())
    return nn.Sequential(own, nn.ReLU()) if module.relu else own


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("kind", [layers.Conv2d, layers.ConvTranspose2d])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_outputs_and_gradients_are_those_of_pytorch(
    case: tuple[int, ...], kind: Module, relu: bool, dtype: torch.dtype, backend: str
) -> None:
    torch.manual_seed(0)
    c_in, c_out, side, *geometry = case
    module = kind(c_in, c_out, *geometry, relu=relu, backend=backend)
    with torch.no_grad():  # PyTorch rounds it to bfloat16 under autocast, which may move a ReLU
        module.bias.copy_(module.bias.bfloat16())  # type: ignore[operator, union-attr, arg-type]
    x = torch.randn(5, c_in, side, side)
    ours, theirs = run(module, x, dtype), run(plain(module), x, dtype)
    for name, value in theirs.items():
        got = ours[name.removeprefix("0.")]
        worst = (got - value).abs().max() / value.abs().max()
        assert worst <= TOLERANCE[dtype], f"{name}: {worst:.2g}"


def test_training_takes_the_other_formulation(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> Tensor:
        raise AssertionError

    monkeypatch.setattr(nn.Conv2d, "forward", forbidden)
    convolution = layers.Conv2d(1, 8, 4, 2, 1)
    assert convolution(torch.ones(1, 1, 8, 8)).shape == (1, 8, 4, 4)
    with pytest.raises(AssertionError):
        convolution.eval()(torch.ones(1, 1, 8, 8))


def test_evaluation_gives_the_same_values() -> None:
    network = model.sequential(architectures.build("burgess-conv", (1, 64, 64), 4).encoder)
    x = torch.rand(3, 1, 64, 64)
    torch.testing.assert_close(network(x), network.eval()(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["burgess-conv", "higgins-conv"])
def test_a_model_keeps_the_names_of_its_parameters_whatever_does_the_relu(name: str) -> None:
    specification = architectures.build(name, (1, 64, 64), 4)
    for part in (specification.encoder, specification.decoder):
        built = model.sequential(part)
        assert len(built) == len(part)
        kinds = ("linear", "conv", "conv_transpose")
        numbers = [str(i) for i, (kind, *_) in enumerate(part) if kind in kinds]
        assert [n.split(".")[0] for n, _ in built.named_parameters()][::2] == numbers


def test_functional_transforms_and_second_derivatives_take_pytorch_s_own() -> None:
    convolution = layers.Conv2d(1, 8, 4, 2, 1, relu=True)
    x = torch.rand(2, 3, 1, 8, 8)
    mapped = torch.func.vmap(convolution)(x)
    torch.testing.assert_close(mapped[1], convolution(x[1]), rtol=1e-4, atol=1e-5)
    jacobian = torch.func.jacrev(convolution)(x[0])
    assert jacobian.shape == (3, 8, 4, 4, 3, 1, 8, 8)


@pytest.mark.parametrize("power", [1, 2])  # the gradient of a plain sum needs no gradient
@pytest.mark.parametrize("kind", [layers.Conv2d, layers.ConvTranspose2d])
def test_a_second_derivative_in_training_is_refused_and_not_wrong(kind: Module, power: int) -> None:
    convolution = kind(8, 8, 4, 2, 1)
    x = torch.rand(1, 8, 8, 8, requires_grad=True)
    y = convolution(x).pow(power).sum()
    (gradient,) = torch.autograd.grad(y, x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiable once"):
        gradient.square().sum().backward()


def test_an_empty_batch_is_an_empty_batch() -> None:
    assert layers.Conv2d(1, 8, 4, 2, 1)(torch.ones(0, 1, 8, 8)).shape == (0, 8, 4, 4)
    assert layers.ConvTranspose2d(8, 1, 4, 2, 1)(torch.ones(0, 8, 4, 4)).shape == (0, 1, 8, 8)
