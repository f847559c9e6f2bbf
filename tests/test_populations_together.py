"""Models side by side in one process: each is what it is alone, and harms no other."""

from __future__ import annotations

import json
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from run_cases import TINY, dying
from sweep_cases import assert_same_sweep, quick, sweep

import betavae_core as bv
from betavae_core import training
from betavae_core.errors import FailureError
from betavae_core.populations import State, SweepInterrupted
from betavae_core.populations.folder import require_plan, run_path
from betavae_core.populations.plan import make_plan
from betavae_core.trainer import Trainer


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)


def test_models_at_different_steps_go_on_side_by_side_bit_for_bit(
    swept: tuple[Path, dict[str, Any]],
    sweep_images: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two at step 20, two at 10 and two not begun: those that are further on leave earlier."""
    out = tmp_path / "done"
    dying(monkeypatch, lambda: sweep(out, sweep_images, betas=(1, 4), seeds=3, workers=2), 25)
    first, _, third, fourth, *_ = make_plan(None, {}, None, require_plan(out)).jobs
    for job, step in ((third, 15), (fourth, 15)):
        dying(monkeypatch, partial(bv.train, job.config, out=run_path(out, job.label)), step)
    states: list[State] = []
    result = sweep(out, resume=True, progress=states.append)
    assert [*states[0].steps.values()] == [20, 20, 10, 10, 0, 0]
    ends = [state.steps for state in states if state.steps[first.label] == TINY["steps"]]
    assert ends[0][third.label] < TINY["steps"]
    assert_same_sweep(result, swept[1])


def test_ctrl_c_saves_every_model_and_the_sweep_goes_on_bit_for_bit(
    swept: tuple[Path, dict[str, Any]], sweep_images: str, tmp_path: Path
) -> None:
    def press(state: State) -> None:
        if sum(state.steps.values()) == 7:  # once: the second one would act at once
            signal.raise_signal(signal.SIGINT)

    out = tmp_path / "done"
    with pytest.raises(SweepInterrupted, match=f"stopped at step {6 * 7}"):
        sweep(out, sweep_images, betas=(1, 4), seeds=3, progress=press)
    result = sweep(out, resume=True)
    assert_same_sweep(result, swept[1])


def test_a_model_s_time_is_that_of_its_training(
    sweep_images: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that of the pictures of those before it, too."""
    monkeypatch.setattr(training, "draw_all", lambda run, dataset: time.sleep(0.5))
    result = sweep(tmp_path / "sweep", sweep_images, betas=[1], seeds=3)
    for row in result["runs"]:
        timings = (Path(row["path"]) / "timings.jsonl").read_text().splitlines()
        summary = bv.load(row["path"]).summary
        assert summary is not None
        assert summary["seconds"] == pytest.approx(json.loads(timings[-1])["seconds"], abs=0.4)


def test_an_error_of_a_common_step_is_one_line_and_the_sweep_can_go_on(
    swept: tuple[Path, dict[str, Any]],
    sweep_images: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def exhausted(trainer: Trainer) -> None:
        if (trainer.config.beta, trainer.config.seed, trainer.step) == (4.0, 1, 15):
            raise torch.OutOfMemoryError("no memory")
        take_step(trainer)

    out, take_step = tmp_path / "done", Trainer.take_step
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "take_step", exhausted)
        with pytest.raises(FailureError, match=r"2 of 6 runs failed.*OutOfMemoryError: no memory"):
            sweep(out, sweep_images, betas=(1, 4), seeds=3, workers=4)
    result = sweep(out, resume=True)
    assert_same_sweep(result, swept[1])
