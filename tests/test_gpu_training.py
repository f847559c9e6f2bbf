"""Training on an NVIDIA GPU follows the CPU, and a resumed run is an unbroken one, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from betavae_core import Config, train
from betavae_core.capture import MANY, Steps
from betavae_core.populations import sweep
from betavae_core.trainer import Trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="needs an NVIDIA GPU that PyTorch can use"
    ),
]


def squares(side: int, count: int = 300) -> NDArray[np.uint8]:
    """Grey images (count, side, side) of a square each."""
    rng = np.random.default_rng(0)
    images = np.zeros((count, side, side), np.uint8)
    for image, (top, left) in zip(images, rng.integers(side // 2, size=(count, 2)), strict=True):
        image[top : top + side // 2, left : left + side // 2] = 200
    return images


@pytest.mark.parametrize(("arch", "side"), [("mlp", 28), ("burgess-conv", 64)])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_that_was_resumed_is_bit_identical_to_an_unbroken_one(
    arch: str, side: int, precision: str, tmp_path: Path
) -> None:
    images = squares(side)
    config = Config(
        arch=arch, steps=30, capacity_steps=30, batch_size=32, device="cuda", precision=precision,
        fp32_steps=20, log_every=7, checkpoint_every=10, seed=5,
    )  # fmt: skip
    unbroken = train(config, images=images, out=tmp_path / "unbroken")
    train(replace(config, steps=16), images=images, out=tmp_path / "resumed")
    resumed = train(config, images=images, out=tmp_path / "resumed", resume=True)
    for name in ("metrics.jsonl", "model.safetensors"):
        assert (unbroken.path / name).read_bytes() == (resumed.path / name).read_bytes(), name
    assert unbroken.metrics[-1]["loss"] < unbroken.metrics[0]["loss"]


@pytest.mark.parametrize(("arch", "side"), [("mlp", 28), ("burgess-conv", 64)])
@pytest.mark.parametrize("objective", ["beta", "capacity", "controlvae"])
def test_replayed_graphs_train_as_single_launches_do_bit_for_bit(
    arch: str, side: int, objective: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = squares(side)
    config = Config(
        arch=arch, objective=objective, steps=150, capacity_steps=100,
        target_kl=5.0 if objective == "controlvae" else None, batch_size=32, device="cuda",
        fp32_steps=0, log_every=50, seed=5,
    )  # fmt: skip
    sizes: list[int] = []
    capture = Steps._capture
    monkeypatch.setattr(
        Steps, "_capture", lambda self, size: sizes.append(size) or capture(self, size)
    )
    replayed = train(config, images=images, out=tmp_path / "replayed")
    assert sorted(sizes) == [1, MANY]
    monkeypatch.setattr(Trainer, "can_be_captured", lambda self: False)
    launched = train(config, images=images, out=tmp_path / "launched")
    for name in ("metrics.jsonl", "model.safetensors"):
        assert (replayed.path / name).read_bytes() == (launched.path / name).read_bytes(), name


@pytest.mark.parametrize(("arch", "side"), [("mlp", 28), ("burgess-conv", 64)])
def test_models_of_one_graph_train_as_each_does_alone_bit_for_bit(
    arch: str, side: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "squares.npy", squares(side))
    config = Config(
        data=str(tmp_path / "squares.npy"), arch=arch, steps=60, batch_size=32, device="cuda",
        fp32_steps=0, log_every=50, checkpoint_every=1000,
    )  # fmt: skip
    branches: list[int] = []
    capture = Steps._capture
    monkeypatch.setattr(
        Steps,
        "_capture",
        lambda self, size: branches.append(len(self._streams)) or capture(self, size),
    )
    result = sweep(config, tmp_path / "sweep", betas=[1, 4], seeds=2)
    assert set(branches) == {4}
    for row in result["runs"]:
        settings = replace(config, beta=row["beta"], seed=row["seed"])
        alone = train(settings, out=tmp_path / row["label"])
        for name in ("metrics.jsonl", "model.safetensors"):
            together = Path(row["path"]) / name
            assert together.read_bytes() == (alone.path / name).read_bytes(), (row["label"], name)


def test_training_on_the_gpu_follows_training_on_the_cpu(tmp_path: Path) -> None:
    """The same weights, data, order and noise: only roundings differ."""
    config = Config(arch="mlp", steps=20, batch_size=32, precision="fp32", log_every=1)
    losses = {}
    for device in ("cpu", "cuda"):
        run = train(replace(config, device=device), images=squares(28), out=tmp_path / device)
        losses[device] = [row["loss"] for row in run.metrics]
    np.testing.assert_allclose(losses["cuda"], losses["cpu"], rtol=1e-3)
