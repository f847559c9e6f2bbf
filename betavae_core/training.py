"""`train`: settings and data in, a run on disk out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import nn

from betavae_core.config import CUSTOM, Config, checked_names, flag
from betavae_core.data import canonical
from betavae_core.data.dataset import Dataset
from betavae_core.data.resident import Resident
from betavae_core.data.split import split
from betavae_core.errors import Interrupted, UsageError
from betavae_core.hardware import choose_device, choose_precision, freed_memory_kept
from betavae_core.loop import fit
from betavae_core.objectives import OBJECTIVES, Objective
from betavae_core.ops import backend
from betavae_core.run_directory import (
    RunDirectory,
    next_directory,
    read_config,
    read_latest,
    read_summary,
    require_run,
)
from betavae_core.runs import Run, images_of, load, make_model, require_images
from betavae_core.trainer import Progress, Trainer


def train(
    config: Config | Mapping[str, Any] | None = None,
    *,
    images: NDArray[Any] | Dataset | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    objective: Objective | None = None,
    progress: Progress | None = None,
) -> Run:
    """Train a β-VAE and keep it in a run directory.

    Args:
        config: the settings. Those left out of a mapping are the ones of the run in `out` when
            resuming, else the defaults.
        images: train on these, (N, H, W), (N, H, W, C) or (N, C, H, W), not on `config.data`.
        out: the run directory; runs/NAME-NUMBER when not given.
        resume: go on with the run in `out`, bit for bit as if it had never stopped. A larger
            number of steps extends a run; no other setting may differ.
        encoder, decoder: modules of one's own, in place of a named architecture.
        objective: a function of (recon_nll, posterior, step), in place of a named objective; of a
            module, the buffers and parameters are saved and restored, and not trained.
        progress: called after each logged interval with the step, the number of steps, and the
            row of metrics.jsonl.

    Raises:
        UsageError: a setting, the data or the folder cannot be used; nothing is written.
        TrainingError: the loss or a weight became non-finite, or the disk takes no more; the last
            checkpoint is kept.
        Interrupted: Ctrl-C; everything is saved.
    """
    if not isinstance(config, Config | Mapping | None):
        raise UsageError(
            f"config must be a Config or a mapping, as {{'data': 'shapes2d'}}, got a "
            f"{type(config).__name__}; an array of images goes to images="
        )
    if resume and out is None:
        raise UsageError("--resume needs --out, the folder of the run to go on with")
    saved = None
    if resume and out is not None:
        require_run(Path(out))
        saved = read_config(Path(out))
    if not isinstance(config, Config):
        config = (saved or Config()).updated(checked_names(config or {}, "train"))
    elif saved is not None:
        config = config.filled(saved)
    if out is not None and images is None and config == saved and is_finished(Path(out), saved):
        return load(out, encoder=encoder, decoder=decoder)  # its data are not needed any more
    dataset = images_of(config, images)
    config = replace(config, data=dataset.name if images is not None else canonical(config.data))
    path = None if out is None else Path(out)
    own = Own(encoder, decoder, objective)
    with begun(config, dataset, path, saved, own=own, progress=progress) as trainer:
        if isinstance(trainer, Run):
            return trainer
        fit([trainer])
        return finish(trainer)


@dataclass(frozen=True)
class Own:
    """What is the user's own in a training, where it is."""

    encoder: nn.Module | None = None
    decoder: nn.Module | None = None
    objective: Objective | None = None


@contextmanager
def begun(
    config: Config,
    dataset: Dataset,
    path: Path | None,
    saved: Config | None,
    *,
    own: Own | None = None,
    progress: Progress | None = None,
    images: Resident | None = None,
) -> Iterator[Trainer | Run]:
    """The run in `path`, under its lock: to be trained, or with its result if it has one.

    Args:
        path: runs/NAME-NUMBER when None.
        saved: the settings of the run to go on with; None for a new one.
        images: those of `dataset`, where they are on the device already.

    Raises what `train` raises; Interrupted also for a KeyboardInterrupt of the caller's.
    """
    own = own or Own()
    settings = _settle(config, dataset, own)
    model = make_model(settings, dataset.image_shape, dataset.levels, own.encoder, own.decoder)
    goal = own.objective or OBJECTIVES[settings.objective].from_config(settings)
    if saved is not None and saved.checkpoint_every is None:  # the file leaves it open
        saved = replace(saved, checkpoint_every=settings.checkpoint_every)
    directory = _occupy(path or next_directory(dataset.name), settings, saved)
    path = directory.path
    try:
        if is_finished(path, settings):
            run = load(path, encoder=own.encoder, decoder=own.decoder)
            require_images(path, run.data_sha256, dataset)
            yield run
            return
        trainer = Trainer(model, goal, dataset, settings, directory, progress, images)
        if saved is not None and settings != saved:
            directory.extend(settings)
        yield trainer
    except KeyboardInterrupt:  # before the loop, after it, or the second Ctrl-C in it
        latest = read_latest(path)
        raise Interrupted(latest["step"] if latest else 0, path) from None
    finally:
        directory.close()


def is_finished(path: Path, config: Config) -> bool:
    """Whether the run in `path` has its result."""
    summary = read_summary(path)
    return summary is not None and summary["steps"] == config.steps


def draw_all(run: Run, dataset: Dataset) -> None:
    """The pictures of a run; matplotlib is loaded now, half a second that no step waits for."""
    from betavae_core import gallery

    gallery.draw_all(run, dataset)


@freed_memory_kept()
def finish(trainer: Trainer) -> Run:
    """Evaluate the trained model, draw the figures, write the result."""
    config, directory = trainer.config, trainer.directory
    rate = trainer.clock.images_per_s(trainer.step, config.batch_size)
    summary = {
        "run": str(directory.path),
        "data": config.data,
        "steps": trainer.step,
        "seconds": trainer.clock.seconds(),
        "images_per_s": rate,
        "device": config.device,
        "precision": config.precision if trainer.step > config.fp32_steps else "fp32",
        "objective": config.objective,
        "beta": trainer.beta,
        "beta_norm": config.norm_of(trainer.beta, trainer.dataset.image_shape),
        **trainer.evaluate(),
    }
    run = Run(directory.path, config, trainer.model.eval(), summary, trainer.facts["data"])
    with directory.writing():
        draw_all(run, trainer.dataset)
    directory.finish(trainer.model.state_dict(), trainer.facts, summary)
    return run


def _settle(config: Config, dataset: Dataset, own: Own) -> Config:
    """The settings with nothing left open, and what is the user's own named as such."""
    if own.encoder is not None:
        config = replace(config, arch=CUSTOM)
    if own.objective is not None:
        config = replace(config, objective=CUSTOM)
    elif config.objective == CUSTOM:
        raise UsageError("this run was trained with an objective of its own; pass objective")
    device = choose_device(config.device)
    backend.require(config.backend, device)
    precision = choose_precision(config.precision, device)
    return config.resolve(dataset.image_shape, len(split(dataset)[0]), device, precision)


def _occupy(path: Path, config: Config, saved: Config | None) -> RunDirectory:
    """The run directory under its lock: a new one, or the one to go on with, longer perhaps."""
    if saved is None:
        return RunDirectory.create(path, config)
    for name, (before, now) in saved.differences(config).items():
        if name != "steps" or now < before:
            raise UsageError(
                f"--resume goes on with the settings of {path}, but {flag(name)} was {before!r} "
                f"and is now {now!r}; leave it out, or start a new run in another --out"
            )
    return RunDirectory.open(path)
