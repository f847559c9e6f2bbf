"""A run that stopped and goes on ends, bit for bit, as if it had never stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from run_cases import (
    IMAGES,
    Died,
    assert_same_run,
    dying,
    lasting,
    resume,
    train,
    without_pictures,
)
from torch import Tensor, nn

import betavae_core as bv
from betavae_core import training
from betavae_core.errors import Interrupted
from betavae_core.trainer import Trainer

BINARY = np.random.default_rng(1).integers(0, 2, (24, 16, 16), dtype=np.uint8)
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "adagrad": {"optimizer": "adagrad"},
    "bf16": {"precision": "bf16", "fp32_steps": 22},
    "gaussian": {"likelihood": "gaussian", "sigma": 0.2},
    "capacity": {"named": "capacity", "gamma": 10.0, "capacity_max": 5.0, "capacity_steps": 17},
    "convolutions": {"arch": "higgins-conv", "images": BINARY},
    "convolutions-adagrad": {
        "arch": "higgins-conv",
        "images": BINARY,
        "optimizer": "adagrad",
    },
    "capacity-adagrad-bf16": {
        "named": "capacity",
        "gamma": 10.0,
        "capacity_max": 5.0,
        "optimizer": "adagrad",
        "precision": "bf16",
    },
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    without_pictures(monkeypatch)


@pytest.fixture(scope="module", params=VARIANTS)
def unbroken(request: pytest.FixtureRequest, tmp_path_factory: Any) -> tuple[Path, dict[str, Any]]:
    """A run that nothing interrupts, and its settings."""
    settings = VARIANTS[request.param]
    with pytest.MonkeyPatch.context() as patch:
        without_pictures(patch)
        return train(tmp_path_factory.mktemp("unbroken") / "run", **settings).path, settings


# At the first and the last step; after a checkpoint (10), a line of the log (14), neither (13).
@pytest.mark.parametrize("step", [0, 1, 10, 13, 14, 29])
def test_a_run_that_dies_at_any_step_goes_on_bit_for_bit(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    unbroken: tuple[Path, dict[str, Any]],
    step: int,
) -> None:
    whole, settings = unbroken
    dying(monkeypatch, lambda: train(tmp_path / "run", **settings), step)
    resume(tmp_path / "run", images=settings.get("images", IMAGES))
    assert_same_run(whole, tmp_path / "run")


def test_a_run_that_dies_again_and_again_goes_on_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unbroken: tuple[Path, dict[str, Any]]
) -> None:
    whole, settings = unbroken
    images, out = settings.get("images", IMAGES), tmp_path / "run"
    dying(monkeypatch, lambda: train(out, **settings), 5)
    for step in (12, 13, 22):
        dying(monkeypatch, lambda: resume(out, images), step)
    resume(out, images)
    assert_same_run(whole, out)


@pytest.mark.parametrize("steps", [7, 10, 23])
def test_a_longer_run_equals_one_that_was_as_long_from_the_start(
    tmp_path: Path, unbroken: tuple[Path, dict[str, Any]], steps: int
) -> None:
    whole, settings = unbroken
    rising = {"capacity_steps": 30} if "capacity_steps" not in settings else {}
    short = train(tmp_path / "run", **settings | rising | {"steps": steps})
    assert json.loads((short.path / "summary.json").read_text())["steps"] == steps
    assert resume(short.path, settings.get("images", IMAGES), steps=30).summary is not None
    assert_same_run(whole, short.path)


def test_an_extension_that_dies_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(tmp_path / "whole", steps=30)
    train(tmp_path / "run", steps=13, capacity_steps=30)
    dying(monkeypatch, lambda: resume(tmp_path / "run", steps=30), 17)
    assert bv.load(tmp_path / "run").summary is None, "the result of 13 steps is not this run's"
    assert resume(tmp_path / "run").config.steps == 30
    assert_same_run(whole.path, tmp_path / "run")


def test_more_epochs_extend_a_run(tmp_path: Path) -> None:
    epochs = train(tmp_path / "run", steps=None, epochs=2.0, capacity_steps=30)
    assert epochs.config.steps == 5  # 2 · 36 / 16
    assert resume(epochs.path, epochs=4.0).config.steps == 9
    assert_same_run(train(tmp_path / "whole", steps=9, capacity_steps=30).path, epochs.path)


def test_ctrl_c_is_heard_where_a_resumed_run_has_no_step_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(trainer: Trainer) -> NoReturn:
        raise Died

    def save_and_press(trainer: Trainer) -> None:
        checkpoint(trainer)
        signal.raise_signal(signal.SIGINT)

    checkpoint = Trainer.checkpoint
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "evaluate", die)
        with pytest.raises(Died):
            train(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "checkpoint", save_and_press)
        with pytest.raises(Interrupted, match="step 30"):
            resume(tmp_path / "run")
    assert_same_run(resume(tmp_path / "run").path, train(tmp_path / "unbroken").path)


def test_ctrl_c_before_the_first_step_saves_step_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(trainer: Trainer) -> Iterator[bool]:
        signal.raise_signal(signal.SIGINT)
        yield from course(trainer)

    course = Trainer.course
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "course", press)
        with pytest.raises(Interrupted, match="step 0"):
            train(tmp_path / "run")
    assert_same_run(resume(tmp_path / "run").path, train(tmp_path / "unbroken").path)


@pytest.mark.parametrize("key", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [7, 21, 28])
def test_an_interrupted_run_is_saved_at_its_very_step(
    tmp_path: Path, step: int, key: signal.Signals
) -> None:
    def press(now: int, _: int, __: Any) -> None:
        if now == step:
            signal.raise_signal(key)

    before = signal.getsignal(key)
    with pytest.raises(Interrupted) as caught:
        train(tmp_path / "run", progress=press)
    assert (caught.value.step, caught.value.path) == (step, tmp_path / "run")
    assert signal.getsignal(key) is before
    assert sorted(p.name for p in (tmp_path / "run" / "checkpoint").iterdir()) == [
        "latest.json",
        f"step-{step}.safetensors",
    ]
    resume(tmp_path / "run")
    assert_same_run(train(tmp_path / "whole").path, tmp_path / "run")


@contextmanager
def mortal(monkeypatch: pytest.MonkeyPatch, calls: int) -> Iterator[list[str]]:
    """The process dies just before its `calls`-th change of the disk; gives those it made."""
    made: list[str] = []

    def counted(name: str, change: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*arguments: Any, **options: Any) -> Any:
            if len(made) == calls:
                raise Died
            made.append(name)
            return change(*arguments, **options)

        return changed

    with monkeypatch.context() as patch:
        for name in ("mkdir", "replace", "fsync", "unlink", "remove"):
            patch.setattr(os, name, counted(name, getattr(os, name)))
        yield made


def test_a_run_that_dies_at_any_change_of_the_disk_goes_on_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out, calls = train(tmp_path / "whole").path, tmp_path / "run", 0
    with mortal(monkeypatch, 10**6) as changes:
        train(out)
    assert {"mkdir", "replace", "fsync", "unlink"} <= set(changes)
    for calls in range(len(changes)):
        shutil.rmtree(out)
        with mortal(monkeypatch, calls), pytest.raises(Died):
            train(out)
        train(out, resume=(out / "config.toml").exists())
        assert_same_run(whole, out)


def test_an_extension_that_dies_at_any_change_of_the_disk_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tmp_path / "whole").path
    short, out = train(tmp_path / "short", steps=13, capacity_steps=30).path, tmp_path / "run"
    shutil.copytree(short, out)
    with mortal(monkeypatch, 10**6) as changes:
        resume(out, steps=30)
    for calls in range(len(changes)):
        shutil.rmtree(out)
        shutil.copytree(short, out)
        with mortal(monkeypatch, calls), pytest.raises(Died):
            resume(out, steps=30)
        resume(out)  # whatever it was when it died, it must be whole
        resume(out, steps=30)
        assert_same_run(whole, out)


def test_a_run_that_dies_over_its_pictures_only_draws_them_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(training, "draw_all", die)
        with pytest.raises(Died):
            train(tmp_path / "run")
    assert resume(tmp_path / "run").summary is not None
    assert_same_run(train(tmp_path / "whole").path, tmp_path / "run")


def test_modules_and_an_objective_of_ones_own_go_on_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def own() -> dict[str, Any]:
        torch.manual_seed(0)
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16))
        encoder.append(nn.Linear(16, 6))
        return {"encoder": encoder, "decoder": nn.Linear(3, 64), "objective": rising}

    def rising(recon_nll: Tensor, posterior: bv.Posterior, step: int) -> Tensor:
        return recon_nll + step / 30 * posterior.kl

    train(tmp_path / "whole", **own())
    dying(monkeypatch, lambda: train(tmp_path / "run", **own()), 17)
    bv.train(images=IMAGES, out=tmp_path / "run", resume=True, **own())
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_the_test_of_sameness_can_fail(tmp_path: Path) -> None:
    one, other = train(tmp_path / "one").path, train(tmp_path / "other", steps=29).path
    assert set(lasting(one)) != set(lasting(other))
    with pytest.raises(AssertionError):
        assert_same_run(one, other)
    with pytest.raises(AssertionError):
        assert_same_run(one, train(tmp_path / "seed", seed=1).path)
