"""The production model: an encoder, a decoder, and the ops between them.

`forward` is the training pass: uint8 images in, the terms of the ELBO out. `encode` and `decode`
are for users: deterministic, arrays in and arrays out, tensors in and tensors out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from betavae_core import layers
from betavae_core.architectures import Architecture, Layer, Shape
from betavae_core.hardware import exact_convolutions
from betavae_core.ops import bernoulli_nll, gaussian_nll, philox, reparam_kl
from betavae_core.posterior import Posterior

LIKELIHOODS = ("bernoulli", "gaussian")
_ENCODE_BATCH = 256


class Terms(NamedTuple):
    """What a training pass gives: the terms of the negative ELBO, and where they came from."""

    recon_nll: Tensor  # scalar: nats, sum over pixels, mean over the batch
    posterior: Posterior
    logits: Tensor  # (B, C, H, W)


class BetaVAE(nn.Module):
    """A variational autoencoder with a diagonal Gaussian posterior and a unit Gaussian prior.

    Args:
        encoder: any module from images (B, C, H, W) in [0, 1] to (B, 2 latent_dim): the means,
            then the log-variances.
        decoder: any module from codes (B, latent_dim) to logits that reshape to (B, C, H, W).
        image_shape: (C, H, W).
        levels: the value that a uint8 image is divided by; 1 for 0/1 images, 255 for bytes.
        likelihood: `bernoulli` or `gaussian` (then with the fixed standard deviation `sigma`).
        backend: of the ops: `auto`, `torch`, `triton` or `c`.

    Raises ValueError for another likelihood, or a number that is too small.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        latent_dim: int,
        image_shape: Shape,
        levels: int = 255,
        likelihood: str = "bernoulli",
        sigma: float = 0.1,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        if likelihood not in LIKELIHOODS:
            raise ValueError(f"likelihood must be one of {LIKELIHOODS}, got {likelihood!r}")
        if latent_dim < 1 or levels < 1 or sigma <= 0:
            got = f"{latent_dim}, {levels} and {sigma}"
            raise ValueError(f"latent_dim, levels and sigma must be positive, got {got}")
        self.encoder, self.decoder = encoder, decoder
        self.latent_dim, self.image_shape, self.levels = latent_dim, image_shape, levels
        self.likelihood, self.sigma, self.backend = likelihood, sigma, backend

    def forward(self, x: Tensor, **noise: Any) -> Terms:
        """The terms of the negative ELBO of `x` (B, C, H, W), uint8 or floats in [0, 1].

        `noise` goes to `reparam_kl`: key= (and first_sample=, stream=) or eps=.
        """
        pixels = self.normalise(x)
        mu, logvar = self.encoder(pixels).chunk(2, dim=1)
        z, kl_per_sample, kl_per_latent = reparam_kl(mu, logvar, backend=self.backend, **noise)
        logits = self.logits(z)
        posterior = Posterior(mu, logvar, z, kl_per_sample, kl_per_latent)
        # A kernel reads bytes, a quarter of the traffic; a CPU has the floats already.
        nll = self.nll(logits, x if x.is_cuda else pixels)
        recon_nll = nll.mean() if len(x) else nll.sum()
        return Terms(recon_nll, posterior, logits)

    def nll(self, logits: Tensor, x: Tensor) -> Tensor:
        """-ln p(x | z) in nats, (B,), summed over pixels."""
        levels = 1 if x.is_floating_point() else self.levels
        if self.likelihood == "bernoulli":
            return bernoulli_nll(logits, x, levels, backend=self.backend)
        return gaussian_nll(logits, x, levels, self.sigma, backend=self.backend)

    def normalise(self, x: Tensor) -> Tensor:
        """Images as the encoder sees them: floats in [0, 1] in the dtype of the weights.

        Under autocast float32, whatever some weights are.
        """
        casts = torch.is_autocast_enabled(x.device.type)
        pixels = x.to(torch.float32 if casts else self._dtype)
        return pixels if x.is_floating_point() or self.levels == 1 else pixels / self.levels

    @property
    def _dtype(self) -> torch.dtype:
        return next((p.dtype for p in self.parameters()), torch.float32)

    def logits(self, z: Tensor) -> Tensor:
        """The decoder's output for codes (B, D), as (B, C, H, W)."""
        return self.decoder(z).reshape(len(z), *self.image_shape)

    @overload
    def encode(self, images: Tensor) -> Posterior: ...
    @overload
    def encode(self, images: NDArray[Any]) -> Any: ...
    def encode(self, images: Tensor | NDArray[Any]) -> Any:
        """The posterior's mean and log-variance of `images`, (N, D) each; nothing is sampled.

        Args:
            images: (N, H, W), (N, H, W, C) or (N, C, H, W), integers up to `levels`, booleans or
                floats in [0, 1]. A tensor stays in the autograd graph and gives tensors; an array
                is encoded in batches without gradients and gives arrays.

        Raises:
            ValueError: the images do not have the model's shape, or (of an array) other values.
        """
        if isinstance(images, Tensor):
            x = to_nchw(images, self.image_shape)
            return Posterior(*self.encoder(self.normalise(x)).chunk(2, dim=1))
        images = _meant(np.asarray(images), self.levels)
        mu, logvar = self._in_batches(self.encode, images).chunk(2, dim=1)
        return Posterior(mu.numpy(), logvar.numpy())  # type: ignore[arg-type]

    @overload
    def decode(self, z: Tensor) -> Tensor: ...
    @overload
    def decode(self, z: NDArray[Any]) -> NDArray[np.float32]: ...
    def decode(self, z: Tensor | NDArray[Any]) -> Tensor | NDArray[np.float32]:
        """The mean image of codes (N, D): probabilities or means in [0, 1].

        A tensor gives a tensor (N, C, H, W); an array gives an array (N, H, W) or (N, H, W, C),
        the layout of a data set's images.
        """
        if isinstance(z, Tensor):
            if z.shape[1:] != (self.latent_dim,):
                raise ValueError(
                    f"z must be (N, {self.latent_dim}) for this model, got {tuple(z.shape)}"
                )
            return self.logits(z.to(self._dtype)).sigmoid()
        images = self._in_batches(self.decode, np.asarray(z)).permute(0, 2, 3, 1)
        return (images.squeeze(-1) if self.image_shape[0] == 1 else images).numpy()

    @torch.no_grad()
    def _in_batches(self, function: Any, array: NDArray[Any]) -> Tensor:
        """`function` of an array, batch by batch on the model's device, in eval mode, on the CPU.

        Posteriors come back as one tensor (N, 2D).
        """
        device = next((p.device for p in self.parameters()), torch.device("cpu"))
        outputs = []
        with evaluating(self):
            for start in range(0, max(len(array), 1), _ENCODE_BATCH):
                # Writeable because PyTorch warns of an array that is not; only then a copy.
                batch = np.require(array[start : start + _ENCODE_BATCH], requirements=["C", "W"])
                output = function(torch.from_numpy(batch).to(device))
                outputs.append(torch.cat(output[:2], 1) if isinstance(output, tuple) else output)
        return torch.cat([output.float().cpu() for output in outputs])


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode, with exact convolutions; afterwards in the mode it was in."""
    was_training = model.training
    model.eval()
    try:
        with exact_convolutions():
            yield
    finally:
        model.train(was_training)


def _meant(images: NDArray[Any], levels: int) -> NDArray[Any]:
    """Images as they are, booleans as floats. Raises ValueError for values that mean no image."""
    if images.dtype == np.bool_:
        return images.astype(np.float32)
    top = 1 if images.dtype.kind == "f" else levels
    if images.size and not (images.min() >= 0 and images.max() <= top):
        raise ValueError(
            f"{images.dtype} images must lie in 0 to {top} for this model, got "
            f"{images.min():g} to {images.max():g}"
        )
    return images


def to_nchw(images: Tensor, image_shape: Shape) -> Tensor:
    """Images of any accepted layout as (N, C, H, W).

    Raises ValueError when they are not images of `image_shape` (C, H, W).
    """
    c, h, w = image_shape
    shape = tuple(images.shape[1:])
    if shape == (c, h, w):
        return images
    if shape == (h, w, c):
        return images.permute(0, 3, 1, 2)
    if shape == (h, w) and c == 1:
        return images.unsqueeze(1)
    raise ValueError(
        f"images must be (N, {h}, {w}), (N, {h}, {w}, {c}) or (N, {c}, {h}, {w}) for this model, "
        f"got {tuple(images.shape)}"
    )


_MODULES: dict[str, Callable[..., nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "flatten": nn.Flatten,
    "reshape": lambda *shape: nn.Unflatten(1, shape),
}
_WITH_RELU: dict[str | int, Callable[..., nn.Module]] = {
    "linear": layers.Linear,
    "conv": layers.Conv2d,
    "conv_transpose": layers.ConvTranspose2d,
}
_LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def sequential(specification: tuple[Layer, ...], backend: str = "auto") -> nn.Sequential:
    """The modules of a specification, in order; see `betavae_core.architectures`.

    Linear layers and convolutions may use the kernels in C unless `backend` is `torch` or `triton`.
    Each does the ReLU that follows it, in whose place an identity keeps the numbers.
    """
    modules: list[nn.Module] = []
    follows = [name for name, *_ in specification[1:]] + [""]
    for (name, *arguments), next_name in zip(specification, follows, strict=True):
        if name in _WITH_RELU:
            relu = next_name == "relu"
            modules.append(_WITH_RELU[name](*arguments, relu=relu, backend=backend))
        elif name == "relu" and getattr(modules[-1] if modules else None, "relu", False):
            modules.append(nn.Identity())
        else:
            modules.append(_MODULES[str(name)](*arguments))
    return nn.Sequential(*modules)


# Of weights and biases, fan-in times the square of the bound b in U(-b, b).
INITS = {"lecun": (3.0, 0.0), "pytorch": (1.0, 1.0)}


def build(
    architecture: Architecture,
    *,
    seed: int = 0,
    init: str = "lecun",
    backend: str = "auto",
    **settings: Any,
) -> BetaVAE:
    """The model of an architecture, with its weights drawn from `seed`."""
    parts = architecture.encoder, architecture.decoder
    model = BetaVAE(*(sequential(part, backend) for part in parts), backend=backend, **settings)
    initialise(model, seed, init)
    return model


@torch.no_grad()
def initialise(model: nn.Module, seed: int, init: str = "lecun") -> None:
    """Draw the weights and biases of linear and (transposed) convolution layers.

    `lecun`: weights of variance 1 / fan-in (LeCun et al. 1998, "Efficient BackProp", equation 16)
    from U(-b, b), b = sqrt(3 / fan-in), and no biases. `pytorch`: U(-b, b), b = 1 / sqrt(fan-in),
    for both, as PyTorch's layers have it: a third of the variance, so less of the image reaches
    the code at first and a strong KL term shapes it from nothing.

    The fan-in of a transposed convolution is the number of inputs that reach one output,
    c_in · (kernel / stride)². The draws come from the initialisation stream of Philox, one step a
    layer: a model is a function of its seed alone.
    """
    layers = (m for m in model.modules() if isinstance(m, _LAYERS))
    for ordinal, layer in enumerate(layers):
        bounds = [(square / _fan_in(layer)) ** 0.5 for square in INITS[init]]
        weight, key = layer.weight, philox.make_key(seed, ordinal)
        _draw(weight, bounds[0], key, torch.arange(len(weight)))
        if layer.bias is not None:
            _draw(layer.bias, bounds[1], key, len(weight) + torch.arange(len(layer.bias)))


def _draw(parameter: Tensor, bound: float, key: Tensor, rows: Tensor) -> None:
    """Fill a parameter, row by row, from U(-bound, bound)."""
    u = philox.uniform(key, rows, parameter[0].numel(), philox.INITIALISATION)
    parameter.copy_(((2 * u - 1) * bound).reshape(parameter.shape))


def _fan_in(module: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> float:
    """How many inputs reach one output of the layer."""
    weight = module.weight
    if isinstance(module, nn.ConvTranspose2d):
        return weight[:, 0].numel() / (module.stride[0] * module.stride[1])
    return weight[0].numel()
