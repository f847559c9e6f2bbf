"""The training loops that ours is compared with, written as they are found in the field.

`eager` is the loop of nearly every re-implementation: float32, images as floats from a DataLoader,
an encoder and a decoder with the reparameterisation between them, cross-entropy on logits and the
closed-form KL summed and divided by the batch, Adam, and the loss read at every step. `tuned` is
the same with the flags that an expert sets, and `compiled` is the first under `torch.compile`.
All start from the weights of the model that they are compared with.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from betavae_core.architectures import Architecture, Layer


class Pass(NamedTuple):
    """What a forward pass gives: the loss, the posterior, and the code drawn from it."""

    loss: Tensor
    mu: Tensor
    logvar: Tensor
    z: Tensor


_MODULES: dict[str, Any] = {
    "linear": nn.Linear,
    "conv": nn.Conv2d,
    "conv_transpose": nn.ConvTranspose2d,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "flatten": nn.Flatten,
    "reshape": lambda *shape: nn.Unflatten(1, shape),
}


def sequential(specification: tuple[Layer, ...]) -> nn.Sequential:
    """PyTorch's own modules, in order."""
    return nn.Sequential(*(_MODULES[str(name)](*rest) for name, *rest in specification))


class VAE(nn.Module):
    """A β-VAE as re-implementations write it."""

    def __init__(self, architecture: Architecture, beta: float) -> None:
        super().__init__()
        self.encoder = sequential(architecture.encoder)
        self.decoder = sequential(architecture.decoder)
        self.beta = beta

    def reparameterize(self, mu: Tensor, logvar: Tensor) -> Tensor:
        std = torch.exp(0.5 * logvar)
        eps = torch.randn_like(std)
        return mu + eps * std

    def forward(self, x: Tensor) -> Pass:
        mu, logvar = self.encoder(x).chunk(2, dim=1)
        z = self.reparameterize(mu, logvar)
        return Pass(self.loss(self.decoder(z), x, mu, logvar), mu, logvar, z)

    def loss(self, logits: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        recon = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
        kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / len(x)
        return recon + self.beta * kl


class Loop:
    """A training loop over `images` (N, C, H, W), floats in [0, 1] on the host.

    Args:
        mode: compile the forward pass and the loss in this mode of `torch.compile`.
    """

    precision = torch.float32

    def __init__(
        self,
        model: VAE,
        images: Tensor,
        *,
        batch_size: int,
        lr: float,
        device: str,
        mode: str | None = None,
    ) -> None:
        self.device, self.batch_size = device, batch_size
        self.model = model.to(device)
        self.forward = torch.compile(model, mode=mode, dynamic=False) if mode else model
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        loader = DataLoader(
            TensorDataset(images),
            batch_size=batch_size,
            shuffle=True,
            drop_last=True,
            pin_memory=device == "cuda",
        )
        self.batches = _forever(loader)
        self.held = next(self.batches).to(device)

    def step(self) -> None:
        """One step on a batch that is already where it is needed."""
        self._train(self.held)

    def end_to_end(self) -> None:
        """One step with its data."""
        self._train(next(self.batches).to(self.device))

    def terms(self, x: Tensor) -> Pass:
        """The forward pass of the loop."""
        return self.forward(x)

    def _train(self, x: Tensor) -> float:
        self.optimizer.zero_grad()
        loss = self.terms(x).loss
        loss.backward()
        self.optimizer.step()
        return loss.item()


def _forever(loader: DataLoader[tuple[Tensor, ...]]) -> Iterator[Tensor]:
    while True:
        for (x,) in loader:
            yield x


class TunedLoop:
    """The same loop with the good flags: channels_last, bf16, fused Adam, data on the device.

    The loss is read every 50 steps, for reading it makes a GPU wait.
    """

    precision = torch.bfloat16

    def __init__(
        self, model: VAE, images: Tensor, *, batch_size: int, lr: float, device: str
    ) -> None:
        self.device, self.batch_size, self.steps = device, batch_size, 0
        self.model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
        self.images = images.to(device).to(memory_format=torch.channels_last)

    def step(self) -> None:
        """One step with its data."""
        index = torch.randint(len(self.images), (self.batch_size,), device=self.device)
        self.optimizer.zero_grad()
        loss = self.terms(self.images[index]).loss
        loss.backward()
        self.optimizer.step()
        self.steps += 1
        if self.steps % 50 == 0:
            loss.item()

    def terms(self, x: Tensor) -> Pass:
        """The forward pass of the loop."""
        with torch.autocast(self.device, torch.bfloat16):
            return self.model(x)
