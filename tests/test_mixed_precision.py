"""Runs in bf16, and the weights that a step computes with: autocast's, and known to nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kernel_cases import needs_c
from run_cases import train, without_pictures
from torch import Tensor, nn

from betavae_core import architectures, layers, mixed_precision
from betavae_core.config import Config
from betavae_core.data import from_array
from betavae_core.kernels.c import bfloat16 as processor
from betavae_core.loop import Team
from betavae_core.mixed_precision import WorkingWeights, cast_layers
from betavae_core.model import build
from betavae_core.objectives import Beta
from betavae_core.optimizers import Optimizer
from betavae_core.run_directory import RunDirectory
from betavae_core.runs import make_model
from betavae_core.trainer import Trainer

IMAGES = np.random.default_rng(0).integers(0, 256, (80, 16, 16), dtype=np.uint8)


@contextmanager
def trainer(folder: Path, **settings: Any) -> Iterator[Trainer]:
    needs_c()
    data = from_array(IMAGES)
    kept = {"arch": "mlp", "hidden": (16,), "steps": 50, "batch_size": 8, "precision": "bf16"}
    kept["fp32_steps"] = 0
    config = Config(data="array", **kept | settings)
    config = config.resolve(data.image_shape, len(data), "cpu", "bf16")
    model = make_model(config, data.image_shape, data.levels)
    directory = RunDirectory.create(folder, config)
    try:
        yield Trainer(model, Beta.from_config(config), data, config, directory)
    finally:
        directory.close()


def loss_and_gradients(one: Trainer, step: int) -> tuple[Tensor, list[Tensor | None]]:
    """With the trainer's weights in use, in the order of the parameters."""
    x, noise = one.feed.batch(step)
    with one.weights.in_use(), torch.autocast("cpu", torch.bfloat16):
        terms = one.model(x, **noise)
    one.optimizer.zero_grad()
    loss = one.objective(terms.recon_nll, terms.posterior, step)
    loss.backward()
    copies: Any = one.weights.copies
    return loss.detach(), [copies.get(p, p).grad for p in one.model.parameters()]


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's own layers, copies of all of them, and the optimizer by PyTorch's kernel."""
    monkeypatch.setattr(layers, "_is_quick_on_cpu", lambda module, x: False)
    monkeypatch.setitem(mixed_precision._CAST, "cpu", mixed_precision._CAST["cuda"])


@pytest.mark.parametrize(("arch", "linear"), [("mlp", 4), ("higgins-mlp", 7), ("burgess-conv", 6)])
def test_loss_and_gradients_are_autocast_s_to_the_bit(
    arch: str, linear: int, tmp_path: Path
) -> None:
    with trainer(tmp_path / "run", arch=arch, backend="torch") as one:
        Team([one]).advance(3)
        _compare_with_autocast(one, linear)


@pytest.mark.usefixtures("as_on_a_gpu")
def test_the_same_with_copies_of_convolutions(tmp_path: Path) -> None:
    with trainer(tmp_path / "run", arch="burgess-conv", backend="torch") as one:
        Team([one]).advance(3)
        _compare_with_autocast(one, 6 + 8)


def _compare_with_autocast(one: Trainer, copied: int) -> None:
    assert len(one.weights.copies) == 2 * copied
    ours = loss_and_gradients(one, 3)
    one.weights = WorkingWeights(())
    one.optimizer = Optimizer("adam", one.model.parameters(), 1e-3)
    autocast = loss_and_gradients(one, 3)
    assert torch.equal(ours[0], autocast[0])
    for got, wanted in zip(ours[1], autocast[1], strict=True):
        assert got is not None
        assert wanted is not None
        assert wanted.dtype == torch.float32
        assert torch.equal(got.float(), wanted)


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("optimizer", ["adam", "adagrad"])
def test_without_the_kernel_training_is_autocast_s_to_the_bit(
    optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"arch": "burgess-conv", "backend": "torch", "optimizer": optimizer}
    with trainer(tmp_path / "ours", **settings) as ours:
        assert ours.weights.copies
        Team([ours]).advance(10)
    monkeypatch.setattr(mixed_precision, "_CAST", {})
    with trainer(tmp_path / "theirs", **settings) as theirs:
        assert not theirs.weights.copies
        Team([theirs]).advance(10)
    assert torch.equal(ours.rows, theirs.rows)
    for p, q in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("optimizer", ["adam", "adagrad"])
def test_with_the_kernel_a_step_is_autocast_s_but_for_rounding(
    optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "preferred", lambda: False)  # no kernel but the optimizer's
    with trainer(tmp_path / "ours", optimizer=optimizer) as ours:
        Team([ours]).advance(1)
    monkeypatch.setattr(mixed_precision, "_CAST", {})
    with trainer(tmp_path / "theirs", optimizer=optimizer) as theirs:
        Team([theirs]).advance(1)
    for p, q in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=2**-22, atol=1e-9)


def test_after_a_step_the_copies_are_the_weights_rounded(tmp_path: Path) -> None:
    with trainer(tmp_path / "run") as one:
        before = [p.detach().clone() for p in one.model.parameters()]
        Team([one]).advance(1)
        for p, old in zip(one.model.parameters(), before, strict=True):
            assert p.dtype == torch.float32
            assert not torch.equal(p, old)
            assert torch.equal(one.weights.copies[p], p.bfloat16())


def test_copies_follow_weights_that_a_step_in_float32_changed(tmp_path: Path) -> None:
    with trainer(tmp_path / "run", fp32_steps=2) as one:
        for step in range(4):
            assert one.in_bf16 == (step >= 2)
            Team([one]).advance(1)
            with_gradient = [p.grad is not None for p in one.model.parameters()]
            assert with_gradient == [step < 2] * len(with_gradient)
            for p in one.model.parameters():
                assert torch.equal(one.weights.copies[p], p.bfloat16())
            assert one.optimizer.state[0]["step"] == step + 1  # type: ignore[index]


def test_the_model_has_its_own_weights_after_a_step_and_after_a_failure(tmp_path: Path) -> None:
    with trainer(tmp_path / "run") as one:
        names, own = list(one.model.state_dict()), list(one.model.parameters())
        Team([one]).advance(1)
        with one.weights.in_use():
            assert all(p.dtype == torch.bfloat16 for p in one.model.parameters())
        with pytest.raises(ValueError, match="stop"), one.weights.in_use():
            raise ValueError("stop")
        assert all(p is q for p, q in zip(own, one.model.parameters(), strict=True))
        assert list(one.model.state_dict()) == names
        assert all(p.grad is None for p in own)


@pytest.mark.parametrize("settings", [{"precision": "fp32"}, {"arch": "custom"}], ids=str)
def test_nothing_else_has_copies(settings: dict[str, Any], tmp_path: Path) -> None:
    with trainer(tmp_path / "run") as one:
        assert one._cast_layers()
        one.config = one.config.updated(settings)
        assert not one._cast_layers()


def test_images_are_not_rounded_where_the_first_weight_is() -> None:
    plan = architectures.build("mlp", (1, 4, 4), 2, (8,))
    model = build(plan, latent_dim=2, image_shape=(1, 4, 4))
    x = torch.arange(256, dtype=torch.uint8).reshape(16, 1, 4, 4)
    with WorkingWeights(cast_layers(model, "cpu")).in_use(), torch.autocast("cpu", torch.bfloat16):
        pixels = model.normalise(x)
    assert torch.equal(pixels, x.float() / 255)


def test_copies_follow_where_something_else_changes_the_weights() -> None:
    layer = nn.Linear(3, 2)
    weights = WorkingWeights([layer])
    with torch.no_grad():
        layer.weight.fill_(0.3)
    weights.refresh()
    assert torch.equal(weights.copies[layer.weight], layer.weight.bfloat16())


def test_bf16_computes_in_bf16_and_keeps_its_weights_in_fp32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_pictures(monkeypatch)
    full, half = (train(tmp_path / p, precision=p) for p in ("fp32", "bf16"))
    assert {w.dtype for w in half.model.state_dict().values()} == {torch.float32}
    assert half.metrics[-1]["loss"] == pytest.approx(full.metrics[-1]["loss"], rel=0.02)


def test_the_first_steps_of_a_bf16_run_are_those_of_an_fp32_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_pictures(monkeypatch)
    kept = {"fp32_steps": 14, "log_every": 7}
    full, half = (train(tmp_path / p, precision=p, **kept) for p in ("fp32", "bf16"))
    assert half.metrics[:2] == full.metrics[:2]
    assert half.metrics[2] != full.metrics[2]


@pytest.mark.parametrize(("steps", "precision"), [(5, "fp32"), (6, "bf16")])
def test_a_run_that_took_no_step_in_bf16_says_fp32(
    steps: int, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_pictures(monkeypatch)
    summary = train(tmp_path / "run", precision="bf16", fp32_steps=5, steps=steps).summary
    assert summary is not None
    assert summary["precision"] == precision
