"""InfoGAN as a representation: what its Q reads off an image (Chen et al. 2016).

The generator is fed one category of K, J continuous codes on [-1, 1] and noise on [-1, 1]; the
representation is the inverse that Q has learned: K probabilities and J means.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from betavae_core.baselines import loop, saved
from betavae_core.baselines.infogan_losses import (
    category_nll,
    code_entropy,
    continuous_nll,
    discriminator_loss,
    generator_loss,
)
from betavae_core.baselines.infogan_networks import Judgement, build
from betavae_core.baselines.representation import Representation, of_images
from betavae_core.data.dataset import Dataset
from betavae_core.data.resident import Resident
from betavae_core.data.split import split
from betavae_core.feed import Feed
from betavae_core.hardware import choose_device, choose_precision
from betavae_core.ops import philox
from betavae_core.trainer import Progress


@dataclass(frozen=True)
class Settings:
    """Settings of the codes, the networks and the training."""

    steps: int
    channels: int  # after the first convolution; four times as many after the last
    categories: int = 10
    continuous: int = 5
    noise: int = 52
    batch_size: int = 64
    generator_lr: float = 1e-3  # the learning rates of Chen et al. 2016, appendix C
    discriminator_lr: float = 2e-4
    category_weight: float = 1.0  # λ of the mutual information
    continuous_weight: float = 0.1

    @property
    def inputs(self) -> int:
        """Numbers that the generator is fed."""
        return self.categories + self.continuous + self.noise


QUICK = Settings(steps=3_000, channels=16)
FULL = Settings(steps=200_000, channels=32)


class Code(NamedTuple):
    """What the generator was fed besides noise."""

    category: Tensor  # (B,)
    continuous: Tensor  # (B, J)


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
    """Codes (n, K + J): Q's probabilities of the categories, its means of the continuous codes.

    Trains on the training images, or loads what a finished training left in `folder`. `settings`
    replaces QUICK or FULL. The rows of its log have `discriminator`, `generator`, `category_nll`,
    `continuous_nll` and `mutual_information` (the lower bound), in nats.
    Raises UsageError for sides that are no multiples of 16, TrainingError for a loss not finite.
    """
    gan = trained(dataset, seed, folder, settings or (QUICK if quick else FULL), device, progress)
    judge = gan.judge
    return of_images(dataset, lambda x: judge.codes(x.float() / dataset.levels), gan.device)


def trained(
    dataset: Dataset,
    seed: int,
    folder: Path | None,
    settings: Settings,
    device: str = "auto",
    progress: Progress | None = None,
) -> InfoGAN:
    """The trained networks, ready to be used; found in `folder` or trained now and kept there."""
    gan = InfoGAN(dataset, settings, seed, torch.device(choose_device(device)))
    facts = {"data": dataset.digest(), "seed": seed, "precision": gan.precision}
    identity = {"baseline": "infogan"} | facts | asdict(settings)
    weights, began = saved.find(folder, identity), time.perf_counter()
    if weights is None:
        rows = loop.run("InfoGAN", settings.steps, gan.advance, progress)
        weights = gan.both.state_dict()
        saved.keep(folder, identity, weights, rows, time.perf_counter() - began)
    gan.both.load_state_dict(weights)
    gan.both.eval()
    return gan


class InfoGAN:
    """The two networks and a step of both."""

    def __init__(
        self, dataset: Dataset, settings: Settings, seed: int, device: torch.device
    ) -> None:
        self.settings, self.device, self.levels = settings, device, dataset.levels
        self.precision = choose_precision("auto", device.type)
        self.make, self.judge = build(
            dataset.image_shape,
            channels=settings.channels,
            inputs=settings.inputs,
            categories=settings.categories,
            continuous=settings.continuous,
            seed=seed,
        )
        self.both = nn.ModuleDict({"generator": self.make, "discriminator": self.judge})
        self.both.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        rates = (settings.generator_lr, settings.discriminator_lr)
        self.optimizers = [
            torch.optim.Adam(network.parameters(), lr=lr, betas=(0.5, 0.999))
            for network, lr in zip((self.make, self.judge), rates, strict=True)
        ]
        self.feed = Feed(
            Resident(dataset, device),
            torch.from_numpy(split(dataset)[0]).to(device),
            seed=seed,
            batch_size=settings.batch_size,
            latent_dim=settings.inputs,
            fused=True,  # give the key of the step: codes are uniform, not normal
        )

    def advance(self, step: int) -> dict[str, Tensor]:
        """A step of the discriminator and Q, then one of the generator, on the same fakes."""
        x, noise = self.feed.batch(step)
        inputs, code = self.draw(noise["key"], len(x))
        with self._autocast():
            fakes = self.make(inputs)
        judged = self._judge(fakes.detach())
        told_apart = discriminator_loss(self._judge(x.float() / self.levels).real, judged.real)
        self._descend(1, told_apart + self._code_loss(judged, code))
        judged = self._judge(fakes)
        fooled = generator_loss(judged.real)
        self._descend(0, fooled + self._code_loss(judged, code))
        return self._report(told_apart, fooled, judged, code)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, self.precision == "bf16")

    def _judge(self, x: Tensor) -> Judgement:
        """The judgement in float32, in which the losses are computed."""
        with self._autocast():
            judged = self.judge(x)
        return Judgement(*(part.float() for part in judged))

    def draw(self, key: Tensor, rows: int) -> tuple[Tensor, Code]:
        """The generator's inputs (B, K + J + noise) for a key, and the code in them."""
        k, j = self.settings.categories, self.settings.continuous
        samples = torch.arange(rows, device=self.device)
        u = philox.uniform(key, samples, 1 + j + self.settings.noise, philox.NOISE)
        code = Code((u[:, 0] * k).long(), 2 * u[:, 1 : 1 + j] - 1)
        return self.inputs(code, 2 * u[:, 1 + j :] - 1), code

    def inputs(self, code: Code, noise: Tensor) -> Tensor:
        """What the generator is fed: the category as one of K, the codes, the noise."""
        one_hot = nn.functional.one_hot(code.category, self.settings.categories)
        return torch.cat((one_hot, code.continuous, noise), dim=1)

    def _code_loss(self, judged: Judgement, code: Code) -> Tensor:
        """-λ times the bound on the mutual information, up to the constant entropy."""
        category = category_nll(judged.category, code.category)
        continuous = continuous_nll(judged.mean, judged.logvar, code.continuous)
        weights = self.settings.category_weight, self.settings.continuous_weight
        return weights[0] * category + weights[1] * continuous

    def _descend(self, which: int, loss: Tensor) -> None:
        optimizer = self.optimizers[which]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    @torch.no_grad()
    def _report(
        self, told_apart: Tensor, fooled: Tensor, judged: Judgement, code: Code
    ) -> dict[str, Tensor]:
        category = category_nll(judged.category, code.category)
        continuous = continuous_nll(judged.mean, judged.logvar, code.continuous)
        entropy = code_entropy(self.settings.categories, self.settings.continuous)
        return {
            "discriminator": told_apart.detach(),
            "generator": fooled.detach(),
            "category_nll": category,
            "continuous_nll": continuous,
            "mutual_information": entropy - category - continuous,
        }
