"""What the tests of training share: tiny runs, runs that die, and the bytes that must agree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import betavae_core as bv
from betavae_core import training
from betavae_core.trainer import Trainer

ROOT = Path(__file__).resolve().parents[1]

# 36 training images: no batch size below divides them, so batches run on across epochs.
IMAGES: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
TINY: dict[str, Any] = {
    "arch": "mlp",
    "hidden": (32,),
    "latent_dim": 3,
    "steps": 30,
    "batch_size": 16,
    "log_every": 7,
    "checkpoint_every": 10,
    "precision": "fp32",
    "fp32_steps": 5,  # where another precision is asked for
    "device": "cpu",
}
SUMMARY = {
    *("run", "steps", "seconds", "images_per_s", "beta", "beta_norm", "device"),
    *("active_latents", "train", "test"),
}
SPLIT = {"n", "loss", "recon_nll", "kl", "neg_elbo"}
ROW = {"step", "loss", "recon_nll", "kl", "neg_elbo", "kl_per_latent"}


class Died(BaseException):
    """The process is gone: what could catch an Exception must not catch this."""


def train(out: Path, **settings: Any) -> bv.Run:
    """A tiny run in `out`; settings that are not the configuration's go to `bv.train`."""
    own = ("images", "resume", "encoder", "decoder", "objective", "progress")
    given: dict[str, Any] = {"images": IMAGES}
    given |= {name: settings.pop(name) for name in own if name in settings}
    options = {name: settings.pop(name) for name in ("named",) if name in settings}
    config = TINY | settings | ({"objective": options["named"]} if options else {})
    return bv.train(config, out=out, **given)


def resume(out: Path, images: Any = IMAGES, **settings: Any) -> bv.Run:
    """Go on with the run in `out`."""
    return bv.train(settings, images=images, out=out, resume=True)


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below `folder` with its bytes and the time of its last change."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(f.relative_to(folder)): (f.read_bytes(), f.stat().st_mtime_ns) for f in files}


def lasting(run: Path) -> dict[str, bytes]:
    """What must not depend on whether a run was interrupted: all but clocks and pictures."""
    clocks = ("timings.jsonl", "summary.json")
    names = (name for name in snapshot(run) if name not in clocks and "figures" not in name)
    return {name: (run / name).read_bytes() for name in names}


def assert_same_run(one: Path, other: Path) -> None:
    """Bit for bit: weights, log, settings and checkpoint; and the same files."""
    first, second = lasting(one), lasting(other)
    assert {"model.safetensors", "metrics.jsonl", "config.toml"} <= set(first), sorted(first)
    assert set(first) == set(second), f"files differ: {sorted(set(first) ^ set(second))}"
    different = [name for name in first if first[name] != second[name]]
    assert not different, f"bytes differ: {different}"


def dying(monkeypatch: pytest.MonkeyPatch, act: Callable[[], Any], step: int) -> None:
    """Run `act` until a training is about to take step `step`, where it dies without a word."""
    take_step = Trainer.take_step

    def step_or_die(trainer: Trainer) -> None:
        if trainer.step == step:
            raise Died
        take_step(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "take_step", step_or_die)
        with pytest.raises(Died):
            act()


def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take ten times as long as a tiny training, and have tests of their own."""
    monkeypatch.setattr(training, "draw_all", lambda run, dataset: None)
