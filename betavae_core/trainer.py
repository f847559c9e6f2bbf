"""A model in training: its step, what is due after a step, how all of it is saved and taken back.

Randomness has no state (see `feed`), so a checkpoint of the weights, the optimizer and the rows of
the log not yet written is all that the next step depends on.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from betavae_core.config import CUSTOM, Config
from betavae_core.controllers import Controller
from betavae_core.data.dataset import Dataset
from betavae_core.data.resident import Resident
from betavae_core.data.split import split
from betavae_core.errors import TrainingError
from betavae_core.evaluation import report
from betavae_core.feed import BLOCK, Feed
from betavae_core.hardware import environment
from betavae_core.mixed_precision import WorkingWeights, cast_layers
from betavae_core.model import BetaVAE, evaluating
from betavae_core.objectives import Objective, require_scalar
from betavae_core.ops import backend
from betavae_core.optimizers import Optimizer
from betavae_core.run_directory import RunDirectory, kept, read_checkpoint
from betavae_core.runs import fitting, flatten_state, require_images, restore_state

Progress = Callable[[int, int, dict[str, Any]], None]

_WARM_UP = 10  # steps that `images_per_s` leaves out


class Clock:
    """The time a loop takes, and the images a second after its first steps."""

    def __init__(self, step: int) -> None:
        self._first, self._start = step, time.perf_counter()
        self._begin = step
        self._warm: float | None = None
        self._end: float | None = None

    def seconds(self) -> float:
        """Since the loop began, until it ended."""
        return (self._end or time.perf_counter()) - self._start

    def stop(self) -> None:
        """The loop has ended."""
        self._end = time.perf_counter()

    def tick(self, step: int) -> None:
        """Called after each step."""
        if self._warm is None and step >= self._first + _WARM_UP:
            self._begin, self._warm = step, self.seconds()

    def images_per_s(self, step: int, batch_size: int) -> float | None:
        """Over the steps after the first ten up to now; None when there were no more."""
        if self._warm is None or step <= self._begin:
            return None
        return (step - self._begin) * batch_size / (self.seconds() - self._warm)


class Trainer:
    """A model in training, from step to step, and its checkpoints in `directory`.

    Args:
        images: those of `dataset`, where they are on the device already.
    """

    def __init__(
        self,
        model: BetaVAE,
        objective: Objective,
        dataset: Dataset,
        config: Config,
        directory: RunDirectory,
        progress: Progress | None = None,
        images: Resident | None = None,
    ) -> None:
        self.config, self.directory = config, directory
        self.progress = progress or (lambda step, steps, row: None)
        self.device = torch.device(config.device)
        self.model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.weights = WorkingWeights(self._cast_layers())
        parameters, copies = self.model.parameters(), self.weights.copies
        self.optimizer = Optimizer(config.optimizer, parameters, config.lr, copies, config.backend)
        memory = objective if isinstance(objective, torch.nn.Module) else torch.nn.Module()
        self.objective, self.memory = objective, memory.to(self.device)
        self.dataset, self.images = dataset, images or Resident(dataset, self.device)
        self.splits = dict(zip(("train", "test"), split(dataset), strict=True))
        self.kernels = backend.identity(config.backend, self.device)
        self.feed = self._feed()
        self.clock = Clock(0)
        self.step = 0
        self.counter = torch.zeros((), dtype=torch.int64, device=self.device)  # the same, there
        moved = ["beta"] if isinstance(objective, Controller) else []
        self.scalars = ["loss", "recon_nll", "kl", *moved]
        columns = len(self.scalars) + config.latent_dim
        self.rows = torch.zeros(config.log_every, columns, device=self.device)
        self.facts: dict[str, Any] = {
            "image_shape": list(dataset.image_shape),
            "levels": dataset.levels,
            "data": dataset.digest(),
            "environment": {"kernels": self.kernels} | environment(config.device),
        }
        self._restore()

    def _feed(self) -> Feed:
        return Feed(
            self.images,
            torch.from_numpy(self.splits["train"]).to(self.device),
            seed=self.config.seed,
            batch_size=self.config.batch_size,
            latent_dim=self.config.latent_dim,
            fused=self.kernels != "torch",
        )

    @property
    def beta(self) -> float | None:
        """The weight of the KL now: the settings', or where the objective has brought it.

        None where the objective is another: one without a β, or of the user's own.
        """
        if isinstance(self.objective, Controller):
            return float(self.objective.beta)
        return self.config.beta if self.config.objective == "beta" else None

    def _cast_layers(self) -> list[torch.nn.Module]:
        """Those that have bfloat16 weights too. Modules of others may do more with theirs."""
        config = self.config
        ours = config.arch != CUSTOM and config.precision == "bf16"
        return cast_layers(self.model, self.device.type) if ours else []

    def can_be_captured(self) -> bool:
        """On a GPU, with an objective that is known to read nothing on the host."""
        return self.device.type == "cuda" and self.config.objective != "custom"

    def take_step(self) -> None:
        """One step, from tensors to tensors: the host reads nothing, so a GPU can replay it.

        The feed has it at hand, and `step` is the caller's to advance.
        """
        x, noise = self.feed.at(self.counter)
        bf16 = self.in_bf16
        copies = self.weights.in_use() if bf16 else nullcontext()
        with copies, torch.autocast(self.device.type, torch.bfloat16, bf16):
            terms = self.model(x, **noise)
        posterior = terms.posterior
        loss = self.objective(terms.recon_nll, posterior, self.counter.clone())  # theirs to keep
        require_scalar(loss)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        beta = (self.objective.beta,) if isinstance(self.objective, Controller) else ()
        scalars = torch.stack((loss, terms.recon_nll, posterior.kl, *beta))
        row = torch.cat((scalars, posterior.kl_per_latent)).detach().to(self.rows.dtype)
        self.rows.index_copy_(0, self.counter.reshape(1) % len(self.rows), row[None])
        self.counter += 1

    @property
    def in_bf16(self) -> bool:
        """Whether the next step computes in bfloat16.

        The first of a run do not. In them it is decided what the latents come to stand for, by
        differences that start as small as the rounding of bfloat16: later ones no longer change it.
        """
        return self.config.precision == "bf16" and self.step >= self.config.fp32_steps

    def until_due(self) -> int:
        """How many steps go by before the host has something to do."""
        intervals = self.config.log_every, self.checkpoint_every, BLOCK
        ends = [self.last, self.config.fp32_steps]
        left = [end - self.step for end in ends if end > self.step]
        return min(*left, *(n - self.step % n for n in intervals))

    @property
    def last(self) -> int:
        """The step to stop at."""
        return self.config.steps or 0

    @property
    def checkpoint_every(self) -> int:
        """Steps from one checkpoint to the next."""
        return self.config.checkpoint_every or self.last

    def course(self) -> Iterator[bool]:
        """Yield True whenever steps are to be taken; log and save between them.

        Raises TrainingError when the loss or a weight becomes non-finite or the disk is full.
        """
        self.clock = Clock(self.step)
        while self.step < self.last:
            yield True
            self.clock.tick(self.step)
            if self.step % self.config.log_every == 0:
                self._log()
            if self.step % self.checkpoint_every == 0 and self.step < self.last:
                self.checkpoint()
        self.checkpoint()  # before the last line of the log, which a longer run would not have
        if self.step % self.config.log_every:
            self._log()
        self.clock.stop()

    def evaluate(self) -> dict[str, Any]:
        """The report on both splits, as the model stands."""
        model, step, seed = self.model, self.step, self.config.seed
        with evaluating(self.memory):
            result = report(model, self.images, self.splits, self.objective, step=step, seed=seed)
        for name in self.splits:
            for term, value in result[name].items():
                if not isfinite(value):
                    self._diverged(step, f"{term} = {value:g} on the {name} images")
        return result

    def _log(self) -> None:
        """Write the means over the steps since the last line."""
        means = self._recent().mean(0).tolist()
        row = {"step": self.step, **dict(zip(self.scalars, means, strict=False))}
        row["neg_elbo"] = row["recon_nll"] + row["kl"]
        row["kl_per_latent"] = means[len(self.scalars) :]
        self.directory.append("metrics.jsonl", row)
        timing = {"step": self.step, "seconds": self.clock.seconds()}
        self.directory.append("timings.jsonl", timing)
        self.progress(self.step, self.last, row)

    def _recent(self) -> Tensor:
        """The rows since the last line of the log, in float64. Raises when one is not finite."""
        count = (self.step - 1) % len(self.rows) + 1
        rows = self.rows[:count].double()
        broken = (~rows.isfinite().all(1)).nonzero()
        if len(broken):
            loss, recon_nll, kl = rows[int(broken[0]), :3].tolist()
            self._diverged(
                self.step - count + int(broken[0]),
                f"loss = {loss:g}, recon_nll = {recon_nll:g}, kl = {kl:g}",
            )
        return rows

    def checkpoint(self) -> None:
        """Save everything that the next step depends on, if all of it is finite."""
        self._recent()
        for name, parameter in self.model.named_parameters():
            if not parameter.isfinite().all():
                self._diverged(self.step, f"the weights {name}")
        tensors = flatten_state(self.model, self.optimizer, self.memory) | {"rows": self.rows}
        self.directory.save_checkpoint(self.step, tensors, self.facts)

    def _diverged(self, step: int, what: str) -> None:
        raise TrainingError(
            f"training became non-finite at step {step}: {what}; {kept(self.directory.path)}; "
            f"lower --lr (now {self.config.lr:g}){' or use --precision fp32' * self.in_bf16}"
        )

    def _restore(self) -> None:
        """Take back the latest checkpoint of the directory, where there is one."""
        found = read_checkpoint(self.directory.path)
        if found is not None:
            self.step, tensors, facts = found
            self._check_same(facts)
            self.counter.fill_(self.step)
            self.rows.copy_(tensors.pop("rows"))
            with fitting(self.directory.path):
                restore_state(tensors, self.model, self.optimizer, self.memory)
            self.weights.refresh()
        self.directory.cut_logs(self.step // self.config.log_every)

    def _check_same(self, facts: dict[str, Any]) -> None:
        """Other data is refused; another environment changes the last bits and is said."""
        require_images(self.directory.path, facts["data"], self.dataset)
        now, then = self.facts["environment"], facts["environment"]
        if now != then:
            warnings.warn(
                f"resumed on {now}, begun on {then}: the result may differ in its last bits "
                "from that of an unbroken run",
                stacklevel=2,
            )
