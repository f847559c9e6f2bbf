"""The networks of InfoGAN: a generator, and a discriminator that shares its trunk with Q.

DCGAN's shapes (Radford et al. 2016): 4x4 convolutions of stride 2, batch normalisation in the
generator. The discriminator has spectral normalisation instead (Miyato et al. 2018), so that what
Q says of an image does not depend on the batch it came in.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from betavae_core.architectures import Shape
from betavae_core.errors import UsageError
from betavae_core.model import initialise

_REDUCTION = 16  # four convolutions of stride 2
_LEAST_LOGVAR, _MOST_LOGVAR = -4.0, 1.0  # σ from .14 to 1.6, on codes in [-1, 1]


class Judgement(NamedTuple):
    """What the discriminator and Q say of B images."""

    real: Tensor  # (B,) logits
    category: Tensor  # (B, K) logits
    mean: Tensor  # (B, J)
    logvar: Tensor  # (B, J), bounded


class Discriminator(nn.Module):
    """D and Q: one trunk, two heads."""

    def __init__(self, shape: Shape, channels: int, categories: int, continuous: int) -> None:
        super().__init__()
        self.sizes = (categories, continuous, continuous)
        widths = _widths(shape, channels)
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise((shape[0], *widths)):
            layers += [nn.Conv2d(n_in, n_out, 4, 2, 1), nn.LeakyReLU(0.1)]
        flat = widths[-1] * (shape[1] // _REDUCTION) * (shape[2] // _REDUCTION)
        hidden = 8 * channels
        self.trunk = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(flat, hidden), nn.LeakyReLU(0.1)
        )
        self.real = nn.Linear(hidden, 1)
        self.q = nn.Sequential(
            nn.Linear(hidden, hidden), nn.LeakyReLU(0.1), nn.Linear(hidden, sum(self.sizes))
        )

    def forward(self, x: Tensor) -> Judgement:
        features = self.trunk(x)
        category, mean, logvar = self.q(features).split(self.sizes, dim=1)
        bounded = logvar.clamp(_LEAST_LOGVAR, _MOST_LOGVAR)
        return Judgement(self.real(features)[:, 0], category, mean, bounded)

    def codes(self, x: Tensor) -> Tensor:
        """(B, K + J): the probabilities of the categories, the means of the continuous codes."""
        judgement = self(x)
        return torch.cat((judgement.category.softmax(1), judgement.mean), dim=1)


def generator(shape: Shape, channels: int, inputs: int) -> nn.Sequential:
    """From codes and noise (B, inputs) to images (B, C, H, W) in [0, 1]."""
    widths = _widths(shape, channels)[::-1]
    small = (widths[0], shape[1] // _REDUCTION, shape[2] // _REDUCTION)
    flat = small[0] * small[1] * small[2]
    hidden = 8 * channels
    layers: list[nn.Module] = [
        *(nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU()),
        *(nn.Linear(hidden, flat), nn.BatchNorm1d(flat), nn.ReLU(), nn.Unflatten(1, small)),
    ]
    for n_in, n_out in pairwise(widths):
        up = nn.ConvTranspose2d(n_in, n_out, 4, 2, 1)
        layers += [up, nn.BatchNorm2d(n_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], shape[0], 4, 2, 1), nn.Sigmoid())


def build(
    shape: Shape, *, channels: int, inputs: int, categories: int, continuous: int, seed: int
) -> tuple[nn.Sequential, Discriminator]:
    """The generator and the discriminator, their weights drawn from `seed`.

    Raises UsageError for images whose sides are no multiples of 16.
    """
    if shape[1] % _REDUCTION or shape[2] % _REDUCTION:
        raise UsageError(
            f"InfoGAN needs sides that are multiples of {_REDUCTION}, got {shape[1]}x{shape[2]}; "
            "resize the images"
        )
    with torch.random.fork_rng(devices=[]):  # from which spectral_norm's iteration starts
        torch.manual_seed(seed)
        made = generator(shape, channels, inputs)
        judge = Discriminator(shape, channels, categories, continuous)
        initialise(nn.ModuleList([made, judge]), seed)
        for module in (*judge.trunk, judge.real):
            if isinstance(module, nn.Conv2d | nn.Linear):
                spectral_norm(module)
    return made, judge


def _widths(shape: Shape, channels: int) -> tuple[int, ...]:
    """Channels after each convolution of the discriminator."""
    return channels, 2 * channels, 4 * channels, 4 * channels
