"""The oracle's layers: against torch in float64, and each backward against its forward."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from betavae_core.reference import layers
from betavae_core.reference.checks import check_gradients, compare

Convolution = layers.Conv2d | layers.ConvTranspose2d
TORCH: dict[type, Callable[..., torch.Tensor]] = {
    layers.Conv2d: F.conv2d,
    layers.ConvTranspose2d: F.conv_transpose2d,
}


def random_geometry(seed: int) -> tuple[int, ...]:
    """B, C_in, C_out, kernel, stride, padding, H, W that both convolutions can take."""
    rng = np.random.default_rng(seed)
    kernel = int(rng.integers(1, 6))
    stride, padding = int(rng.integers(1, 4)), int(rng.integers(0, kernel))
    batch, c_in, c_out = (int(n) for n in rng.integers(1, 4, size=3))
    # A kernel must fit, and a transposed convolution must leave a row: k - 2·padding + … >= 1.
    height, width = (int(n) for n in rng.integers(kernel, 11, size=2))
    return batch, c_in, c_out, kernel, stride, padding, height, width


GEOMETRIES = [random_geometry(seed) for seed in range(24)] + [
    (2, 1, 32, 4, 2, 1, 16, 16),  # the papers' layers
    (2, 3, 2, 1, 3, 0, 7, 5),  # a stride that skips pixels
    (1, 1, 1, 5, 1, 0, 5, 5),  # a kernel as large as the image
    (0, 2, 3, 3, 2, 1, 6, 5),  # no images
    (2, 2, 2, 2, 1, 3, 9, 8),  # a padding wider than the kernel
]


def filled(layer: layers.Layer, seed: int = 0) -> layers.Layer:
    rng = np.random.default_rng(seed)
    for parameter in layer.parameters.values():
        parameter[...] = rng.normal(size=parameter.shape)
    return layer


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("kind", [layers.Conv2d, layers.ConvTranspose2d])
def test_a_convolution_and_its_gradients_are_those_of_torch(
    kind: type[Convolution], geometry: tuple[int, ...]
) -> None:
    batch, c_in, c_out, kernel, stride, padding, height, width = geometry
    layer = filled(kind(c_in, c_out, kernel, stride, padding))
    rng = np.random.default_rng(1)
    x = rng.normal(size=(batch, c_in, height, width))
    given = [torch.tensor(a, requires_grad=True) for a in (x, *layer.parameters.values())]
    expected = TORCH[kind](*given, stride=stride, padding=padding)
    dy = rng.normal(size=tuple(expected.shape))
    gradients = torch.autograd.grad(expected, given, torch.tensor(dy))

    compare("y", layer.forward(x), expected.detach().numpy(), 1e-12)
    got = (layer.backward(dy), layer.grads["weight"], layer.grads["bias"])
    for name, mine, theirs in zip(("dx", "dweight", "dbias"), got, gradients, strict=True):
        compare(name, mine, theirs.numpy(), 1e-12)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_transposed_convolution_is_the_adjoint(geometry: tuple[int, ...]) -> None:
    batch, c_in, c_out, kernel, stride, padding, height, width = geometry
    rng = np.random.default_rng(2)
    w = rng.normal(size=(c_out, c_in, kernel, kernel))
    x = rng.normal(size=(batch, c_in, height, width))
    y = layers.correlate(x, w, stride, padding)
    other = rng.normal(size=y.shape)
    back = layers.correlate_adjoint(other, w, (height, width), stride, padding)
    assert back.shape == x.shape
    assert (y * other).sum() == pytest.approx((x * back).sum(), rel=1e-10, abs=1e-10)


def test_a_convolution_of_one_pixel_is_a_product() -> None:
    layer = layers.Conv2d(1, 1, 1, 1, 0)
    layer.parameters["weight"][...], layer.parameters["bias"][...] = 3.0, 2.0
    assert layer.forward(np.full((1, 1, 1, 1), 5.0)).item() == 17.0


LAYERS = [
    (("linear", 5, 3), (4, 5)),
    (("conv", 2, 3, 3, 2, 1), (2, 2, 5, 7)),
    (("conv_transpose", 3, 2, 4, 2, 1), (2, 3, 3, 2)),
    (("relu",), (4, 6)),
    (("tanh",), (4, 6)),
    (("flatten",), (3, 2, 2, 5)),
    (("reshape", 2, 2, 5), (3, 20)),
]


@pytest.mark.parametrize(("entry", "shape"), LAYERS)
def test_the_backward_is_the_derivative(
    entry: tuple[str | int, ...], shape: tuple[int, ...]
) -> None:
    network = layers.Sequential([entry])
    rng = np.random.default_rng(3)
    x = rng.normal(size=shape)
    x += 0.1 * np.sign(x)  # away from the kink of the ReLU
    arguments = {"x": x} | {n: rng.normal(size=p.shape) for n, p in network.parameters.items()}

    def forward(x: np.ndarray, *weights: np.ndarray) -> np.ndarray:
        network.load(dict(zip(network.parameters, weights, strict=True)))
        return network.forward(x)

    def backward(x: np.ndarray, *weights_and_dy: np.ndarray) -> dict[str, np.ndarray]:
        forward(x, *weights_and_dy[:-1])
        network.zero_grads()
        return {"x": network.backward(weights_and_dy[-1])} | network.grads

    check_gradients(forward, backward, arguments, tolerance=1e-9)


def test_a_linear_layer_has_torchs_shapes_and_values() -> None:
    layer = filled(layers.Linear(5, 3))
    x = np.random.default_rng(0).normal(size=(4, 5))
    expected = F.linear(torch.tensor(x), *map(torch.tensor, layer.parameters.values()))
    compare("y", layer.forward(x), expected.numpy(), 1e-14)


def test_relu_passes_no_gradient_at_its_kink_and_keeps_nan() -> None:
    relu = layers.ReLU()
    x = np.array([[-1.0, 0.0, 2.0, np.nan]])
    assert np.array_equal(relu.forward(x), [[0.0, 0.0, 2.0, np.nan]], equal_nan=True)
    assert relu.backward(np.ones((1, 4)))[0, :3].tolist() == [0.0, 0.0, 1.0]


def test_gradients_add_up_until_they_are_zeroed() -> None:
    network = layers.Sequential([("linear", 3, 2), ("tanh",), ("linear", 2, 2)])
    rng = np.random.default_rng(0)
    network.load({name: rng.normal(size=p.shape) for name, p in network.parameters.items()})
    dy = np.ones_like(network.forward(rng.normal(size=(4, 3))))
    network.backward(dy)
    once = {name: g.copy() for name, g in network.grads.items()}
    network.backward(dy)
    for name, g in network.grads.items():
        compare(name, g, 2 * once[name], 0.0)
    handed_out = network.grads
    network.zero_grads()
    assert not any(g.any() for g in network.grads.values())
    assert all(g.any() for g in handed_out.values())


def test_parameters_are_named_by_position_and_shaped_as_in_torch() -> None:
    network = layers.Sequential(
        [("conv", 1, 2, 3, 1, 0), ("relu",), ("conv_transpose", 2, 5, 4, 2, 1), ("flatten",)]
    )
    assert {name: p.shape for name, p in network.parameters.items()} == {
        "0.weight": (2, 1, 3, 3),
        "0.bias": (2,),
        "2.weight": (2, 5, 4, 4),
        "2.bias": (5,),
    }


def test_loading_copies_in_float64() -> None:
    network = layers.Sequential([("linear", 2, 1)])
    weights = {"a.0.weight": np.ones((1, 2), np.float32), "a.0.bias": [0.5], "b.0.bias": [9.0]}
    network.load(weights, "a.")
    network.parameters["0.weight"][...] += 1
    assert network.parameters["0.weight"].dtype == np.float64
    assert weights["a.0.weight"].tolist() == [[1.0, 1.0]]
    assert network.forward(np.ones((1, 2))).tolist() == [[4.5]]


def test_weights_that_do_not_fit_are_refused_by_name() -> None:
    network = layers.Sequential([("linear", 2, 1)])
    with pytest.raises(ValueError, match=r"missing or unknown: \['0.bias'\]"):
        network.load({"0.weight": np.ones((1, 2))})
    with pytest.raises(ValueError, match=r"missing or unknown: \['7.bias'\]"):
        network.load({"0.weight": np.ones((1, 2)), "0.bias": [0.0], "7.bias": [0.0]})
    with pytest.raises(ValueError, match=r"0.weight must be \(1, 2\), got \(2, 1\)"):
        network.load({"0.weight": np.ones((2, 1)), "0.bias": [0.0]})


def test_layers_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be one of linear, conv.*got 'dropout'"):
        layers.Sequential([("dropout",)])
    with pytest.raises(ValueError, match="as large as the kernel, 4; got 3x9 with padding 0"):
        layers.Conv2d(1, 1, 4, 2, 0).forward(np.zeros((1, 1, 3, 9)))
    with pytest.raises(ValueError, match="must leave an image, got 0x2"):
        layers.ConvTranspose2d(1, 1, 2, 2, 1).forward(np.zeros((1, 1, 1, 2)))
