"""Networks as data: an architecture is two tuples of plain layer descriptions, and no torch.

The production model builds modules from a specification and the oracle builds its own from the
same one, so both follow one text. The layers:

    ("linear", n_in, n_out)
    ("conv", c_in, c_out, kernel, stride, padding)
    ("conv_transpose", c_in, c_out, kernel, stride, padding)
    ("relu",)  ("tanh",)  ("flatten",)  ("reshape", C, H, W)

An encoder maps images (B, C, H, W) to (B, 2D): the means, then the log-variances. A decoder maps
codes (B, D) to logits (B, C, H, W).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from betavae_core.errors import UsageError

Layer = tuple[str | int, ...]
Shape = tuple[int, int, int]


def as_shape(sizes: Sequence[int]) -> Shape:
    """(C, H, W) from any sequence of three numbers."""
    c, height, width = sizes
    return c, height, width


@dataclass(frozen=True)
class Architecture:
    """The specification of an encoder and its decoder."""

    encoder: tuple[Layer, ...]
    decoder: tuple[Layer, ...]


def build(
    name: str, image_shape: Shape, latent_dim: int, hidden: Sequence[int] = (512, 256)
) -> Architecture:
    """The named architecture for images of `image_shape` (C, H, W) and `latent_dim` latents.

    `hidden` are the encoder's widths for `mlp` (the decoder mirrors them); the others ignore it.
    Raises UsageError for an unknown name or a shape that the architecture cannot take.
    """
    if name not in ARCHITECTURES:
        raise UsageError(f"--arch must be one of {', '.join(ARCHITECTURES)}, got {name!r}")
    return ARCHITECTURES[name](image_shape, latent_dim, tuple(hidden))


def default_name(image_shape: Shape) -> str:
    """The architecture for images of this size: convolutions at 64x64, else an MLP."""
    return "burgess-conv" if image_shape[1:] == (64, 64) else "mlp"


def dense(widths: Sequence[int], activation: str) -> tuple[Layer, ...]:
    """Linear layers between `widths`, `activation` between them and none at the end."""
    layers: list[Layer] = []
    for n_in, n_out in pairwise(widths):
        layers += [("linear", n_in, n_out), (activation,)]
    return tuple(layers[:-1])


def mlp(shape: Shape, latent_dim: int, hidden: tuple[int, ...]) -> Architecture:
    """ReLU layers of the widths `hidden`, mirrored in the decoder."""
    pixels = prod(shape)
    encoder = dense((pixels, *hidden, 2 * latent_dim), "relu")
    decoder = dense((latent_dim, *reversed(hidden), pixels), "relu")
    return Architecture((("flatten",), *encoder), (*decoder, ("reshape", *shape)))


def higgins_mlp(shape: Shape, latent_dim: int, hidden: tuple[int, ...]) -> Architecture:
    """Higgins et al. 2017, table 1, "2D shapes": 1200-1200 ReLU, decoder 1200 x 3 tanh."""
    pixels = prod(shape)
    encoder = dense((pixels, 1200, 1200, 2 * latent_dim), "relu")
    decoder = dense((latent_dim, 1200, 1200, 1200, pixels), "tanh")
    return Architecture((("flatten",), *encoder), (*decoder, ("reshape", *shape)))


def higgins_conv(shape: Shape, latent_dim: int, hidden: tuple[int, ...]) -> Architecture:
    """Higgins et al. 2017, table 1, CelebA / chairs / faces: conv 32-32-64-64, FC 256."""
    return _convolutional("higgins-conv", shape, latent_dim, (32, 32, 64, 64), (256,))


def burgess_conv(shape: Shape, latent_dim: int, hidden: tuple[int, ...]) -> Architecture:
    """Burgess et al. 2018, appendix A: four convolutions of 32 channels, FC 256-256."""
    return _convolutional("burgess-conv", shape, latent_dim, (32, 32, 32, 32), (256, 256))


def _convolutional(
    name: str,
    shape: Shape,
    latent_dim: int,
    channels: tuple[int, ...],
    dense_widths: tuple[int, ...],
) -> Architecture:
    """4x4 convolutions of stride 2 and padding 1, then linear layers; the decoder mirrors them."""
    c, height, width = shape
    reduction = 2 ** len(channels)
    if height % reduction or width % reduction:
        raise UsageError(
            f"{name} needs sides that are multiples of {reduction}, got {height}x{width}; "
            "resize the images or use --arch mlp"
        )
    small = (channels[-1], height // reduction, width // reduction)
    steps = list(zip((c, *channels), channels, strict=False))
    down = [layer for i, o in steps for layer in (("conv", i, o, 4, 2, 1), ("relu",))]
    up = [layer for i, o in steps[::-1] for layer in (("relu",), ("conv_transpose", o, i, 4, 2, 1))]
    encoder = dense((prod(small), *dense_widths, 2 * latent_dim), "relu")
    decoder = dense((latent_dim, *reversed(dense_widths), prod(small)), "relu")
    return Architecture((*down, ("flatten",), *encoder), (*decoder, ("reshape", *small), *up))


ARCHITECTURES: dict[str, Callable[[Shape, int, tuple[int, ...]], Architecture]] = {
    "higgins-mlp": higgins_mlp,
    "higgins-conv": higgins_conv,
    "burgess-conv": burgess_conv,
    "mlp": mlp,
}
