"""Many models as one with batched weights: the other way to train a population, for comparison.

Every weight has an axis of models, and `torch.func.vmap` makes each layer one operation for all of
them: a linear layer a batched product, a convolution one of as many groups. Its images and noise
are at hand; nothing is logged.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from betavae_core.bench.agreement import agree
from betavae_core.capture import Steps
from betavae_core.feed import BLOCK
from betavae_core.optimizers import Optimizer
from betavae_core.trainer import Trainer

_TOLERANCE = 5e-3  # of a loss, in bfloat16


class Batched:
    """The models of some trainers of one architecture, with their weights, images and objective.

    Raises WrongResultError when a loss is not that of the model by itself.
    """

    def __init__(self, trainers: Sequence[Trainer]) -> None:
        first = self._first = trainers[0]
        self._bf16 = first.config.precision == "bf16"
        weights, _ = stack_module_state([trainer.model for trainer in trainers])
        self._weights = {name: w.detach().requires_grad_() for name, w in weights.items()}
        self._optimizer = Optimizer("adam", self._weights.values(), first.config.lr)
        shape = BLOCK, len(trainers), first.config.batch_size
        count = len(first.images.pixels)
        self._indices = torch.randint(count, shape, device=first.device)
        self._eps = torch.randn(*shape, first.config.latent_dim, device=first.device)
        self._counter = torch.zeros(1, dtype=torch.int64, device=first.device)
        self._agree(trainers)
        self._take = Steps([self._take_step], captured=first.can_be_captured())

    def advance(self, steps: int) -> None:
        """So many steps of all models."""
        self._take(steps)
        self._counter.tolist()  # they are done

    def _batch(self) -> tuple[Tensor, Tensor]:
        """Images (K, B, C, H, W) and noise (K, B, D) of the step."""
        index = self._indices.index_select(0, self._counter % BLOCK)[0]
        x = self._first.images.gather(index.flatten())
        return x.unflatten(0, index.shape), self._eps.index_select(0, self._counter % BLOCK)[0]

    def _take_step(self) -> None:
        self._optimizer.zero_grad()
        vmap(self._loss)(self._weights, *self._batch()).sum().backward()
        self._optimizer.step()
        self._counter += 1

    def _loss(self, weights: dict[str, Tensor], x: Tensor, eps: Tensor) -> Tensor:
        first = self._first
        with torch.autocast(first.device.type, torch.bfloat16, self._bf16):
            terms = functional_call(first.model, weights, (x,), {"eps": eps})
        return first.objective(terms.recon_nll, terms.posterior, 0)

    @torch.no_grad()
    def _agree(self, trainers: Sequence[Trainer]) -> None:
        x, eps = self._batch()
        losses = vmap(self._loss)(self._weights, x, eps)
        for trainer, images, noise, loss in zip(trainers, x, eps, losses, strict=True):
            terms = trainer.model(images, eps=noise)
            alone = trainer.objective(terms.recon_nll, terms.posterior, 0)
            agree("the loss of a batched model", loss, alone, _TOLERANCE)
