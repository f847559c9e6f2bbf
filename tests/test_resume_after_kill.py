"""Real processes, really killed: a run that is resumed ends bit for bit as an unbroken one."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from promises import tried
from run_cases import IMAGES, ROOT, assert_same_run, snapshot

import betavae_core as bv

CLI = [sys.executable, str(ROOT / "cli.py")]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
SETTINGS: dict[str, Any] = {
    "arch": "mlp",
    "hidden": (64,),
    "latent-dim": 5,
    "batch-size": 32,
    "steps": 1200,
    "log-every": 7,
    "checkpoint-every": 11,
    "device": "cpu",
    "precision": "fp32",
}
MNIST = ROOT.parent / "shared" / "data" / "mnist"
MNIST_SETTINGS = {
    "arch": "mlp",
    "latent-dim": 20,
    "beta": 1,
    "batch-size": 128,
    "lr": 1e-3,
    "epochs": 12,
    "seed": 0,
    "checkpoint-every": 20,
}
LONGEST = 120  # seconds that anything here may take

Start = Callable[..., subprocess.Popen[str]]


def options(settings: dict[str, Any]) -> list[str]:
    """The settings as the command line takes them."""
    shown = {k: ",".join(map(str, v)) if isinstance(v, tuple) else v for k, v in settings.items()}
    return [word for name, value in shown.items() for word in (f"--{name}", str(value))]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Start a training in `tmp_path`, in a process of its own."""

    def begin(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*CLI, "train", *arguments, "--json"],
            cwd=tmp_path,
            env=ENVIRONMENT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    return begin


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The summary that a training prints when it ends well."""
    stdout, stderr = process.communicate(timeout=LONGEST)
    assert process.returncode == 0, stderr
    return json.loads(stdout)


def step(run: Path) -> int:
    """The step of a run's latest checkpoint; atomic, so it can be read at any moment."""
    latest = run / "checkpoint" / "latest.json"
    return int(json.loads(latest.read_text())["step"]) if latest.exists() else 0


def wait_until(process: subprocess.Popen[str], reached: Callable[[], bool]) -> None:
    """Wait for a state of the disk, while the process lives."""
    end = time.monotonic() + LONGEST
    while not reached():
        assert process.poll() is None, f"ended too early: {process.communicate()[1]}"
        assert time.monotonic() < end
        time.sleep(0.002)


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate(timeout=LONGEST)
    assert process.returncode == -signal.SIGKILL


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    np.save(folder / "images.npy", IMAGES)
    settings = {name.replace("-", "_"): value for name, value in SETTINGS.items()}
    bv.train(settings | {"data": str(folder / "images.npy")}, out=folder / "run")
    return folder / "run"


@pytest.mark.promise("kill")
def test_a_run_killed_three_times_ends_as_if_it_had_not_been(
    tmp_path: Path, start: Start, unbroken: Path
) -> None:
    run, data = tmp_path / "run", str(unbroken.parent / "images.npy")
    words = [data, *options(SETTINGS), "--out", "run"]
    for delay in (random.uniform(0, 0.3) for _ in range(3)):
        before = step(run)
        process = start(*words, *(["--resume"] if before else []))
        wait_until(process, lambda before=before: step(run) > before)
        time.sleep(delay)
        kill(process)
        assert before < step(run) < SETTINGS["steps"]
        assert not (run / "model.safetensors").exists()
    assert finish(start("--out", "run", "--resume"))["steps"] == SETTINGS["steps"]
    assert_same_run(unbroken, run)
    tried(3)


def test_ctrl_c_saves_and_the_command_that_it_names_goes_on(
    tmp_path: Path, start: Start, unbroken: Path
) -> None:
    run = tmp_path / "my run"
    process = start(str(unbroken.parent / "images.npy"), *options(SETTINGS), "--out", "my run")
    wait_until(process, lambda: step(run) > 0)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=LONGEST)
    assert process.returncode == 130
    assert stdout == ""
    said = stderr.splitlines()[-1]
    assert said.startswith(f"stopped at step {step(run):,}".replace(",", "")), said
    assert "Traceback" not in stderr
    command = said.partition("go on with: ")[2]
    again = subprocess.run(
        command,
        shell=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LONGEST,
        env=ENVIRONMENT,
    )
    assert again.returncode == 0, again.stderr
    assert_same_run(unbroken, run)


@pytest.mark.promise("one-writer")
def test_two_processes_cannot_train_into_one_folder(
    tmp_path: Path, start: Start, unbroken: Path
) -> None:
    words = [str(unbroken.parent / "images.npy"), *options(SETTINGS), "--out", "run"]
    first = start(*words)
    wait_until(first, lambda: step(tmp_path / "run") > 0)
    os.kill(first.pid, signal.SIGSTOP)  # so that it cannot end before the second begins
    before = snapshot(tmp_path / "run")
    second = start(*words, "--resume")
    stdout, stderr = second.communicate(timeout=LONGEST)
    assert (second.returncode, stdout) == (2, "")
    assert "--out must not be in use, and another training writes run" in stderr
    assert len(stderr.splitlines()) == 1
    assert snapshot(tmp_path / "run") == before
    os.kill(first.pid, signal.SIGCONT)
    kill(first)
    tried()


@pytest.mark.slow
@pytest.mark.skipif(not MNIST.is_dir(), reason="needs the MNIST images in ../shared/data/mnist")
def test_twenty_runs_killed_at_random_moments_end_as_if_they_had_not_been(
    tmp_path: Path, start: Start
) -> None:
    words = [str(MNIST), *options(MNIST_SETTINGS)]
    began = time.monotonic()
    assert finish(start(*words, "--out", "whole"))["steps"] == 844  # 12 · 9000 / 128
    lasts, stages = time.monotonic() - began, []
    for number in range(20):
        name = f"run-{number}"
        run = tmp_path / name
        process = start(*words, "--out", name)
        time.sleep(random.uniform(0, lasts))
        if process.poll() is None:
            kill(process)
        else:
            process.communicate()  # it was done before its time was up: close its pipes
        resumable = (run / "config.toml").exists()
        stages.append(step(run))
        finish(start("--out", name, "--resume") if resumable else start(*words, "--out", name))
        assert_same_run(tmp_path / "whole", run)
        shutil.rmtree(run)
    assert len(set(stages)) > 5, f"the kills came at too few different steps: {stages}"
