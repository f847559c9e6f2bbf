"""DC-IGN as a representation: a VAE whose latents are taught one factor each.

Semi-supervised: it never sees a factor's value, but mini-batches in which only one factor varies,
and is told which. Latent k is the only one that may vary where factor k does (see `clamping`), so
it must carry that factor, and is drawn towards carrying nothing else.

Source: Kulkarni, Whitney, Kohli, Tenenbaum 2015, "Deep convolutional inverse graphics network",
section 3. What differs here: a step takes mini-batches of every factor in equal number, where the
paper draws one; the clamped latents are posterior means, and only the active one is sampled and
pays its KL, since the gradient of the others is replaced. The paper's "factor of 1/100" on that
replacement is taken here beside the loss of a pixel: beside the sum over pixels it left the factors
mixed after 1,000 steps on the 2D shapes, where 1/100 a pixel told position and scale apart.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from betavae_core.architectures import Architecture, Layer, Shape, dense
from betavae_core.baselines import loop, saved
from betavae_core.baselines.clamping import clamp
from betavae_core.baselines.factor_grid import FactorGrid
from betavae_core.baselines.representation import Representation, of_images
from betavae_core.data.dataset import Dataset
from betavae_core.data.resident import Resident
from betavae_core.data.split import split
from betavae_core.errors import UsageError
from betavae_core.hardware import choose_device, choose_precision
from betavae_core.model import BetaVAE, build
from betavae_core.ops import philox, reparam_kl
from betavae_core.trainer import Progress


@dataclass(frozen=True)
class Settings:
    """Settings of the network and the training."""

    steps: int
    channels: int  # of each of the four convolutions
    hidden: int  # width of the linear layers
    rounds: int = 2  # mini-batches of every factor in a step
    images: int = 8  # in a mini-batch
    invariance: float = 0.01  # gradient of an inactive latent, a pixel, at distance 1 from the mean
    lr: float = 2e-3  # at first; it falls linearly to zero


QUICK = Settings(steps=3_500, channels=16, hidden=128)
FULL = Settings(steps=100_000, channels=32, hidden=256)


def fit(
    dataset: Dataset,
    *,
    seed: int = 0,
    folder: Path | None = None,
    quick: bool = False,
    device: str = "auto",
    progress: Progress | None = None,
    settings: Settings | None = None,
) -> Representation:
    """Codes (n, K): the posterior means, one latent a factor, in the order of the factors.

    Trains on the training images, or loads what a finished training left in `folder`. `settings`
    replaces QUICK or FULL. The rows of its log have `loss`, `recon_nll` and `kl` (of the active
    latents), in nats an image, and `spread`: the mean squared distance of an inactive latent from
    its mini-batch's mean.
    Raises DataError for data without factors or whose factors make no grid, UsageError for sides
    that are no multiples of 16, TrainingError for a loss that is not finite.
    """
    chosen = settings or (QUICK if quick else FULL)
    net = DCIGN(dataset, chosen, seed, torch.device(choose_device(device)))
    facts = {"data": dataset.digest(), "factors": _digest(dataset), "precision": net.precision}
    identity = {"baseline": "dc-ign", "seed": seed} | facts | asdict(chosen)
    weights, began = saved.find(folder, identity), time.perf_counter()
    if weights is None:
        rows = loop.run("DC-IGN", chosen.steps, net.advance, progress)
        weights = net.model.state_dict()
        saved.keep(folder, identity, weights, rows, time.perf_counter() - began)
    net.model.load_state_dict(weights)
    model = net.model.eval()
    return of_images(dataset, lambda x: model.encode(x).mu, net.device)


def architecture(shape: Shape, latents: int, channels: int, hidden: int) -> Architecture:
    """Burgess et al. 2018 with widths of choice: four 4x4 convolutions, two linear layers."""
    c, height, width = shape
    if height % 16 or width % 16:
        raise UsageError(
            f"DC-IGN needs sides that are multiples of 16, got {height}x{width}; resize the images"
        )
    small = (channels, height // 16, width // 16)
    flat = channels * small[1] * small[2]
    down: list[Layer] = []
    up: list[Layer] = []
    for n_in, n_out in ((c, channels), *[(channels, channels)] * 3):
        down += [("conv", n_in, n_out, 4, 2, 1), ("relu",)]
        up = [("relu",), ("conv_transpose", n_out, n_in, 4, 2, 1), *up]
    encoder = dense((flat, hidden, hidden, 2 * latents), "relu")
    decoder = dense((latents, hidden, hidden, flat), "relu")
    return Architecture((*down, ("flatten",), *encoder), (*decoder, ("reshape", *small), *up))


class DCIGN:
    """The model and its step."""

    def __init__(
        self, dataset: Dataset, settings: Settings, seed: int, device: torch.device
    ) -> None:
        self.settings, self.seed, self.device = settings, seed, device
        self.grid = FactorGrid(dataset, split(dataset)[0])
        self.images = Resident(dataset, device)
        self.precision = choose_precision("auto", device.type)
        latents, shape = len(self.grid.sizes), dataset.image_shape
        model = build(
            architecture(shape, latents, settings.channels, settings.hidden),
            seed=seed,
            latent_dim=latents,
            image_shape=shape,
            levels=dataset.levels,
        )
        _double_variance(model)
        self.model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=settings.lr)

    def advance(self, step: int) -> dict[str, Tensor]:
        """One optimizer step on G mini-batches, `rounds` of every factor."""
        factors = torch.arange(len(self.grid.sizes)).repeat(self.settings.rounds)
        x = self.images.gather(self.draw(step, factors).flatten().to(self.device))
        terms = self.losses(x, factors.to(self.device), step)
        self.optimizer.zero_grad(set_to_none=True)
        terms["loss"].backward()
        self.optimizer.param_groups[0]["lr"] = self.settings.lr * (1 - step / self.settings.steps)
        self.optimizer.step()
        return {name: term.detach() for name, term in terms.items()}

    def draw(self, step: int, factors: Tensor) -> Tensor:
        """(G, M) indices of the images of a step: a mini-batch a row, for the factors (G,)."""
        samples = torch.arange(len(factors))
        key = philox.make_key(self.seed, step)
        words = philox.bits(key, samples, 1 + self.settings.images, philox.ORDER)
        return torch.from_numpy(self.grid.minibatches(words.numpy(), factors.numpy()))

    def losses(self, x: Tensor, factors: Tensor, step: int) -> dict[str, Tensor]:
        """The terms for images (G M, C, H, W), mini-batch after mini-batch, of factors (G,)."""
        active = factors.repeat_interleave(len(x) // len(factors))[:, None]
        key = philox.make_key(self.seed, step, self.device)
        with torch.autocast(self.device.type, torch.bfloat16, self.precision == "bf16"):
            mu, logvar = self.model.encoder(self.model.normalise(x)).float().chunk(2, dim=1)
            drawn = reparam_kl(mu.gather(1, active), logvar.gather(1, active), key)
            z = mu.scatter(1, active, drawn.z).unflatten(0, (len(factors), -1))
            clamped = clamp(z, factors, self.settings.invariance * x[0].numel() / len(x))
            logits = self.model.logits(clamped.flatten(0, 1))
        recon_nll, kl = self.model.nll(logits, x).mean(), drawn.kl_per_sample.mean()
        return {
            "loss": recon_nll + kl,
            "recon_nll": recon_nll,
            "kl": kl,
            "spread": _spread(z, clamped),
        }


@torch.no_grad()
def _double_variance(model: BetaVAE) -> None:
    """Weights of variance 2 / fan-in, for ReLU (He et al. 2015, "Delving deep into rectifiers").

    With the library's 1 / fan-in the narrow network passes nothing through its fourteen layers for
    the first 800 steps of a quick run; with this, it learns from the start.
    """
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.mul_(2**0.5)


@torch.no_grad()
def _spread(z: Tensor, clamped: Tensor) -> Tensor:
    """The mean squared distance of the inactive latents from their mean."""
    inactive = max(z.shape[2] - 1, 1) * z.shape[0] * z.shape[1]
    return (z - clamped).square().sum() / inactive


def _digest(dataset: Dataset) -> str:
    """SHA-256 of the factors."""
    return sha256(np.ascontiguousarray(dataset.factors).tobytes()).hexdigest()
