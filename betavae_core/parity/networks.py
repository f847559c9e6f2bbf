"""Layers and whole models against the oracle: outputs, losses, and the gradient of every weight."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from betavae_core import architectures
from betavae_core.architectures import Layer
from betavae_core.model import BetaVAE, build, initialise, sequential
from betavae_core.objectives import Beta
from betavae_core.ops import philox
from betavae_core.parity.comparison import NETWORK_TOLERANCE, Comparison
from betavae_core.reference import objectives as oracle_objectives
from betavae_core.reference.layers import Sequential
from betavae_core.reference.model import VAE

# name -> the layer, and the shape of its input
LAYERS: dict[str, tuple[Layer, tuple[int, ...]]] = {
    "linear": (("linear", 7, 5), (3, 7)),
    "conv": (("conv", 2, 3, 3, 2, 1), (2, 2, 9, 7)),
    "conv_transpose": (("conv_transpose", 3, 2, 4, 2, 1), (2, 3, 5, 4)),
    "relu": (("relu",), (4, 6)),
    "tanh": (("tanh",), (4, 6)),
    "flatten": (("flatten",), (2, 3, 4, 5)),
    "reshape": (("reshape", 2, 3, 4), (3, 24)),
}
# Sizes that have kernels of their own in bfloat16.
_IN_BFLOAT16: dict[str, tuple[Layer, tuple[int, ...]]] = {
    "linear": (("linear", 36, 70), (10, 36)),
    "conv": (("conv", 3, 32, 4, 2, 1), (2, 3, 12, 8)),
    "conv_transpose": (("conv_transpose", 32, 64, 4, 2, 1), (2, 32, 6, 4)),
}
# Seeds whose weights keep every ReLU's input at least 1e-5 of its layer's mean magnitude from
# zero: nearer, float32 could fall on the other side of the kink, where the gradient is another.
_SEEDS = {"higgins-mlp": 7, "higgins-conv": 21, "burgess-conv": 6, "mlp": 35}
_DTYPES = (torch.float64, torch.float32)
_BATCH, _LATENTS, _STEP = 3, 6, 0


def compare_layer(name: str, device: torch.device) -> Iterator[Comparison]:
    """A layer's output, the gradient of its input and of its parameters."""
    cases = [(dtype, *LAYERS[name]) for dtype in _DTYPES]
    if name in _IN_BFLOAT16:
        cases.append((torch.bfloat16, *_IN_BFLOAT16[name]))
    for dtype, layer, shape in cases:
        module = sequential((layer,)).to(device, dtype)
        initialise(module, seed=1)
        oracle = Sequential((layer,))
        oracle.load(_arrays(module.state_dict()), "")
        x = fixed(shape, 1, dtype, device).requires_grad_()
        y = module(x)
        dy = fixed(tuple(y.shape), 2, dtype, device)
        y.backward(dy)
        yield Comparison(f"{name}.y", dtype, y, oracle.forward(_array(x)))
        yield Comparison(f"{name}.dx", dtype, x.grad, oracle.backward(_array(dy)))
        for key, parameter in module.named_parameters():
            got = f"{name}.d{key.rpartition('.')[2]}"
            yield Comparison(got, dtype, parameter.grad, oracle.grads[key])


def compare_architecture(name: str, device: torch.device) -> Iterator[Comparison]:
    """A model's terms, its loss under β = 4 and every gradient, with each likelihood."""
    for dtype in _DTYPES:
        for likelihood in ("bernoulli", "gaussian"):
            model, oracle = model_and_oracle(name, likelihood, dtype, device)
            x, eps = batch(model, dtype, device)
            terms = model(x, eps=eps)
            loss = Beta(4.0)(terms.recon_nll, terms.posterior, _STEP)
            loss.backward()
            inputs = _array(x), _array(eps)
            goal = oracle_objectives.Beta(4.0)
            expected, truth, gradients = oracle.loss_and_gradients(*inputs, goal, _STEP)
            kl = terms.posterior.kl_per_latent
            pairs = {
                "loss": (loss, expected),
                "recon_nll": (terms.recon_nll, truth.recon_nll),
                "kl_per_latent": (kl, truth.kl_per_latent),
                **{f"d{k}": (p.grad, gradients[k]) for k, p in model.named_parameters()},
            }
            for key, (got, want) in pairs.items():
                tolerance = NETWORK_TOLERANCE[dtype]
                yield Comparison(f"{name}.{likelihood}.{key}", dtype, got, want, tolerance)


def model_and_oracle(
    name: str, likelihood: str, dtype: torch.dtype, device: torch.device, small: bool = False
) -> tuple[BetaVAE, VAE]:
    """The production model of an architecture, and the oracle's with the same weights.

    A `small` one takes 8x8 images, and as an MLP has 16 hidden units.
    """
    side = 8 if small else 28 if name == "mlp" else 64
    shape = (1, side, side)
    plan = architectures.build(name, shape, _LATENTS, (16,) if small else (512, 256))
    settings: dict[str, Any] = {"latent_dim": _LATENTS, "image_shape": shape, "sigma": 0.3}
    model = build(plan, seed=_SEEDS[name], likelihood=likelihood, backend="torch", **settings)
    model = model.to(device, dtype)
    oracle = VAE(plan.encoder, plan.decoder, likelihood, model.levels, sigma=0.3)
    oracle.load(_arrays(model.state_dict()))
    return model, oracle


def batch(model: BetaVAE, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Bytes (B, C, H, W) and noise (B, D), fixed."""
    shape = (_BATCH, *model.image_shape)
    x = (fixed(shape, 3, torch.float64, device).sigmoid() * 255).to(torch.uint8)
    return x, fixed((_BATCH, _LATENTS), 4, dtype, device)


def fixed(shape: tuple[int, ...], step: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Fixed normals of a shape."""
    key, rows = philox.make_key(3, step), torch.arange(shape[0])
    columns = int(torch.Size(shape[1:]).numel())
    values = philox.normal(key, rows, columns, philox.EVALUATION, torch.float64)
    return values.reshape(shape).to(device, dtype)


def _array(tensor: Tensor) -> Any:
    return tensor.detach().to("cpu", torch.float64).numpy()


def _arrays(tensors: dict[str, Tensor]) -> dict[str, Any]:
    return {name: _array(tensor) for name, tensor in tensors.items()}
