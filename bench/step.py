"""The suite `step`: training, in images a second, against the loops of baselines.py.

    vs_eager        the eager float32 loop, on a batch that is already there
    vs_eager_tuned  the same with channels_last, bf16, fused Adam and resident data
    vs_compile      the eager loop under torch.compile (`reduce-overhead` on a GPU)
    end_to_end      the eager loop with its DataLoader

Each is how many times faster ours trains. Ours always includes its data, its noise and reading the
loss at the interval of the log, whatever the other leaves out: it is `Team.advance`, and a
round holds whole blocks of 64 steps, for which indices and noise are drawn at once. The first 500
steps of a run, which are in float32, are not in it.

Before anything is timed, the loss and every gradient of each loop are compared with ours, for the
same weights and images, and for the noise that the loop itself drew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from betavae_core import architectures
from betavae_core.architectures import Shape
from betavae_core.bench.agreement import agree, standard_normal
from betavae_core.bench.baselines import VAE, Loop, TunedLoop
from betavae_core.bench.timing import Rounds, Timed, interleave
from betavae_core.config import Config
from betavae_core.data.dataset import Dataset
from betavae_core.hardware import choose_precision, exact_convolutions
from betavae_core.loop import Team
from betavae_core.objectives import Beta
from betavae_core.run_directory import RunDirectory
from betavae_core.runs import make_model
from betavae_core.trainer import Trainer

Progress = Callable[[str], None]

CASES: tuple[tuple[str, Shape], ...] = (
    ("burgess-conv", (1, 64, 64)),
    ("higgins-mlp", (1, 64, 64)),
    ("mlp", (1, 28, 28)),
)
RATIOS = {
    "vs_eager": "eager",
    "vs_eager_tuned": "eager_tuned",
    "vs_compile": "compile",
    "end_to_end": "eager_end_to_end",
}
_STEPS, _CYCLES = 16, 4  # of ours in a turn, and turns in a round: 64, a block of the feed
_MODE = {"cpu": "default", "cuda": "reduce-overhead"}
_TURN = 0.1  # seconds
# Of a loss, and of a gradient by rms. Above float32's own: a ReLU may be open in one of the two.
_TOLERANCE = {torch.float32: (1e-4, 5e-3), torch.bfloat16: (5e-3, 3e-2)}


def run(
    device: str,
    seconds: float,
    progress: Progress,
    *,
    cases: Sequence[tuple[str, Shape]] = CASES,
    batch_size: int = 64,
    images: int = 4096,
    compiled: bool = True,
) -> list[dict[str, Any]]:
    """A row an architecture; `seconds` are shared among them, compilation not counted.

    Raises WrongResultError when a loop does not compute what ours computes.
    """
    rows = []
    for arch, shape in cases:
        progress(f"{arch} at {shape[1]} x {shape[2]}")
        dataset = rectangles(shape, images)
        with training(arch, dataset, device, batch_size=batch_size) as trainer:
            rows.append(measure(trainer, seconds / len(cases), compiled))
    return rows


def ratios(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """The medians of the rows: architecture -> name -> how many times faster ours is.

    None stands for what was not measured.
    """
    return {
        row["arch"]: {name: spread and spread["median"] for name, spread in row["ratios"].items()}
        for row in rows
    }


def measure(trainer: Trainer, seconds: float, compiled: bool) -> dict[str, Any]:
    """The row of one architecture."""
    config = trainer.config
    loops = baselines(trainer, compiled)
    for name, loop in loops.items():
        agreement(trainer, name, loop)
    others = {name: loop.step for name, loop in loops.items()}
    others["eager_end_to_end"] = loops["eager"].end_to_end
    rounds = timed(trainer, others, seconds)
    return {
        "arch": config.arch,
        "image_shape": list(trainer.model.image_shape),
        "batch_size": config.batch_size,
        "precision": config.precision,
        "rounds": len(rounds.seconds["ours"]),
        "images_per_s": {
            name: rounds.rate(name, config.batch_size)._asdict() for name in rounds.seconds
        },
        "ratios": {
            ratio: rounds.ratio(name, "ours")._asdict() if name in others else None
            for ratio, name in RATIOS.items()
        },
    }


def timed(trainer: Trainer, others: dict[str, Callable[[], object]], seconds: float) -> Rounds:
    """The times of `ours` and of the steps of the others, in turns."""
    team = Team([trainer])
    subjects = {"ours": Timed(lambda: advance(team, _STEPS), _STEPS)}
    subjects |= {name: Timed(step) for name, step in others.items()}
    device = trainer.config.device
    return interleave(subjects, seconds=seconds, device=device, turn=_TURN, cycles=_CYCLES)


def advance(team: Team, steps: int) -> None:
    """`steps` steps of ours in a block, the losses read as often as runs log them."""
    every, before = team.trainers[0].config.log_every, team.trainers[0].step
    with exact_convolutions():
        team.advance(steps)
    if team.trainers[0].step // every > before // every:
        for trainer in team.trainers:
            trainer.rows.mean(0).tolist()


def baselines(trainer: Trainer, compiled: bool) -> dict[str, Any]:
    """The loops to compare with, each with the trainer's weights and images."""
    config, images = trainer.config, trainer.images
    everything = torch.arange(len(images.pixels), device=trainer.device)
    pixels = (images.gather(everything).float() / trainer.model.levels).cpu().contiguous()
    settings: dict[str, Any] = {
        "batch_size": config.batch_size,
        "lr": config.lr,
        "device": config.device,
    }
    loops = {
        "eager": Loop(_same(trainer), pixels, **settings),
        "eager_tuned": TunedLoop(_same(trainer), pixels, **settings),
    }
    if compiled:
        torch.compiler.reset()
        mode = _MODE[config.device]
        loops["compile"] = Loop(_same(trainer), pixels, mode=mode, **settings)
    return loops


def _same(trainer: Trainer) -> VAE:
    """The baseline's model with the weights of the trainer's."""
    config = trainer.config
    shape = trainer.model.image_shape
    plan = architectures.build(str(config.arch), shape, config.latent_dim, config.hidden)
    model = VAE(plan, float(config.beta or 0))
    model.load_state_dict(trainer.model.state_dict())
    return model


@exact_convolutions()
def agreement(trainer: Trainer, name: str, loop: Any) -> None:
    """Raises WrongResultError unless the loop's loss and gradients are ours for the same noise.

    Ours computes in the precision of the loop. The noise is what the loop drew: (z - μ) / σ.
    """
    x, _ = trainer.feed.batch(0)
    pixels = (x.float() / trainer.model.levels).clone(memory_format=torch.contiguous_format)
    theirs = loop.terms(pixels)  # compiled for the strides of the batches that will be timed
    loop.optimizer.zero_grad()
    theirs.loss.backward()
    mu, logvar, z = (t.detach().float() for t in theirs[1:])
    eps = (z - mu) / (0.5 * logvar).exp()
    loss, gradients = _ours(trainer, x, eps, loop.precision)
    for_loss, for_gradient = _TOLERANCE[loop.precision]
    standard_normal(f"the noise of {name}", eps)
    agree(f"the loss of {name}", theirs.loss.detach(), loss, for_loss)
    for parameter, p in loop.model.named_parameters():
        agree(f"d{parameter} of {name}", p.grad, gradients[parameter], for_gradient, typical=True)


def _ours(
    trainer: Trainer, x: Tensor, eps: Tensor, precision: torch.dtype
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss and the gradients of the trainer's model, which are left cleared."""
    model = trainer.model
    with torch.autocast(trainer.device.type, torch.bfloat16, precision == torch.bfloat16):
        terms = model(x, eps=eps)
    loss = trainer.objective(terms.recon_nll, terms.posterior, 0)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    return loss.detach(), dict(zip(dict(model.named_parameters()), gradients, strict=True))


@contextmanager
def training(arch: str, dataset: Dataset, device: str, **sizes: int) -> Iterator[Trainer]:
    """A trainer of `arch` as `train` makes it, past its steps in float32; its folder goes."""
    settings = Config(data=dataset.name, arch=arch, steps=10**9, fp32_steps=0, **sizes)  # type: ignore[arg-type]
    precision = choose_precision("auto", device)
    config = settings.resolve(dataset.image_shape, len(dataset), device, precision)
    model = make_model(config, dataset.image_shape, dataset.levels)
    with TemporaryDirectory() as folder:
        directory = RunDirectory.create(Path(folder) / "run", config)
        try:
            yield Trainer(model, Beta.from_config(config), dataset, config, directory)
        finally:
            directory.close()


def rectangles(shape: Shape, count: int) -> Dataset:
    """Images (C, H, W) of one rectangle each: at 64 x 64 black and white, packed as dSprites is."""
    c, h, w = shape
    rng = np.random.default_rng(0)
    top, left = rng.integers(h // 2, size=(2, count, 1, 1, 1))
    y, x = np.arange(h)[:, None, None], np.arange(w)[:, None]
    inside = (y >= top) & (y < top + h // 2) & (x >= left) & (x < left + w // 2)
    pixels = np.broadcast_to(inside, (count, h, w, c))
    if (h, w) == (64, 64):
        bits = np.packbits(pixels.reshape(count, -1), axis=1)
        return Dataset("rectangles", bits, 1, shape, packed=True)
    grey = rng.integers(1, 256, size=(count, 1, 1, 1), dtype=np.uint8)
    return Dataset("rectangles", pixels * grey, 255, shape)
