"""Same seed, same environment: the same bits, in another process, again, and in two at once."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from promises import size, tried
from run_cases import IMAGES, ROOT, assert_same_run, resume, train, without_pictures

import betavae_core as bv
from betavae_core import data, trainer
from betavae_core.loop import Team
from betavae_core.objectives import Beta
from betavae_core.run_directory import RunDirectory
from betavae_core.runs import make_model
from betavae_core.trainer import Trainer

CLOCKS = {"timings.jsonl", "summary.json"}  # the two files that hold clock readings
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
RUNS = {
    "conv bf16": "--arch higgins-conv --precision bf16 --fp32-steps 12",
    "mlp fp32": "--arch mlp --precision fp32",
    "capacity adagrad": "--arch mlp --objective capacity --optimizer adagrad",
    "controlvae": "--arch mlp --beta auto --target-kl 5",
    "gaussian": "--arch mlp --likelihood gaussian",
}


def digests(run: Path) -> dict[str, str]:
    """The SHA-256 of every file of a run but the two with clock readings."""
    files = [file for file in run.rglob("*") if file.is_file() and file.name not in CLOCKS]
    return {str(f.relative_to(run)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def command(folder: Path, *words: str) -> None:
    subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), *words],
        cwd=folder, env=ENVIRONMENT, check=True, capture_output=True, timeout=300,
    )  # fmt: skip


@pytest.mark.promise("bytes")
@pytest.mark.parametrize("name", list(RUNS)[: size(1, len(RUNS))])
def test_two_processes_write_the_same_files(tmp_path: Path, name: str) -> None:
    np.save(tmp_path / "images.npy", np.tile(IMAGES, (1, 2, 2)))
    words = ["train", "images.npy", *RUNS[name].split(), "--steps", "30", "--log-every", "7"]
    for folder in ("one", "two"):  # by the same name, which the settings and the pictures bear
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "images.npy").symlink_to(tmp_path / "images.npy")
        command(tmp_path / folder, *words, "--out", "run")
    one, two = (digests(tmp_path / folder / "run") for folder in ("one", "two"))
    assert one == two
    assert {"checkpoint/latest.json", "model.safetensors", "metrics.jsonl"} <= set(one)
    assert any(name.endswith(".png") for name in one)
    tried(len(one))


@pytest.mark.promise("repeats")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("arch", ["burgess-conv", "higgins-mlp"])
def test_a_step_repeated_gives_the_same_bits(arch: str, precision: str) -> None:
    config = bv.Config(arch=arch, precision=precision, latent_dim=10)
    model = make_model(config, (1, 64, 64), 1).to(memory_format=torch.channels_last)
    x = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (16, 1, 64, 64), np.uint8))
    eps = torch.randn(16, 10, generator=torch.Generator().manual_seed(0))
    seen = set()
    for _ in range(size(5, 50)):
        model.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, precision == "bf16"):
            terms = model(x, eps=eps)
        loss = Beta(4.0)(terms.recon_nll, terms.posterior, 0)
        loss.backward()
        content = b"".join(p.grad.numpy().tobytes() for p in model.parameters())
        seen.add(hashlib.sha256(content + loss.detach().numpy().tobytes()).hexdigest())
        tried()
    assert len(seen) == 1


@pytest.mark.promise("environment")
@pytest.mark.parametrize(
    "changed", [{"torch": "2.0.0"}, {"threads": 7}, {"device": "another"}, {"kernels": "others"}]
)
def test_a_changed_environment_is_said_on_resuming(
    unfinished: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any]
) -> None:
    without_pictures(monkeypatch)
    real = trainer.environment
    monkeypatch.setattr(trainer, "environment", lambda device: real(device) | changed)
    (value,) = changed.values()
    with pytest.warns(UserWarning, match=f"resumed on .*{value}.*begun on .*last bits"):
        resume(unfinished)
    tried()


@pytest.mark.promise("environment")
def test_an_environment_that_is_the_same_is_not_mentioned(
    tmp_path: Path, unfinished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_pictures(monkeypatch)
    resume(unfinished)  # a warning is an error here
    assert_same_run(train(tmp_path / "whole").path, unfinished)
    tried()


def ranks(world: int) -> list[dict[str, Any]]:
    """What the processes of a world of this size say."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = str(Path(__file__).with_name("rank.py"))
    begun = [
        subprocess.Popen(
            [sys.executable, script, str(rank), str(world), str(port)],
            env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for rank in range(world)
    ]  # fmt: skip
    said = [process.communicate(timeout=120) for process in begun]
    ended = [process.returncode for process in begun]
    assert not any(ended), (ended, [stderr[-500:] for _, stderr in said])
    return [json.loads(stdout) for stdout, _ in said]


@pytest.mark.promise("world")
def test_two_processes_see_what_one_sees_and_lose_what_it_loses() -> None:
    (alone,), both = ranks(1), ranks(2)
    for name in ("images", "noise"):
        together = [
            [*first, *second] for first, second in zip(*(r[name] for r in both), strict=True)
        ]
        assert together == alone[name]
    for rank in both:
        np.testing.assert_allclose(rank["losses"], alone["losses"], rtol=2e-6)
    assert len(set(alone["losses"])) == len(alone["losses"])
    tried(len(alone["losses"]))


def one_call(out: Path, strides: list[int]) -> list[bytes]:
    """The weights after so many steps a call."""
    config = bv.Config(arch="mlp", hidden=(8,), latent_dim=3, precision="fp32", device="cpu")
    dataset = data.from_array(IMAGES)
    settings = config.resolve(dataset.image_shape, 36, "cpu", "fp32")
    directory = RunDirectory.create(out, settings)
    model = make_model(settings, dataset.image_shape, 255)
    team = Team([Trainer(model, Beta(4.0), dataset, settings, directory)])
    for steps in strides:
        team.advance(steps)
    directory.close()
    return [p.detach().numpy().tobytes() for p in model.parameters()]


@pytest.mark.promise("repeats")
def test_many_steps_in_one_call_are_as_many_calls(tmp_path: Path) -> None:
    assert one_call(tmp_path / "one", [1] * 60) == one_call(tmp_path / "two", [7, 1, 32, 20])
    tried()
