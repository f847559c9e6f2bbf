"""One's own images, modules and objective; and what happens when the numbers go wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from run_cases import IMAGES, TINY, lasting, train, without_pictures
from torch import Tensor, nn

import betavae_core as bv
from betavae_core import UsageError
from betavae_core.errors import TrainingError

COLOUR = np.random.default_rng(2).integers(0, 256, (30, 8, 6, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    without_pictures(monkeypatch)


def weights(run: bv.Run) -> bytes:
    return lasting(run.path)["model.safetensors"]


@pytest.mark.parametrize(
    "layout",
    [
        lambda x: x[..., None],
        lambda x: x[:, None],
        lambda x: bv.data.from_array(x),
        lambda x: x.astype(np.int64),
        lambda x: x / 255,
        lambda x: np.asfortranarray(x),
    ],
    ids=["NHWC", "NCHW", "Dataset", "int64", "floats", "fortran"],
)
def test_grey_images_train_the_same_model_in_every_layout(
    tmp_path: Path, layout: Callable[[Any], Any]
) -> None:
    run = train(tmp_path / "run", images=layout(IMAGES))
    assert weights(run) == weights(train(tmp_path / "plain"))


def test_colour_images_train_the_same_model_in_both_layouts(tmp_path: Path) -> None:
    last = train(tmp_path / "last", images=COLOUR)
    first = train(tmp_path / "first", images=COLOUR.transpose(0, 3, 1, 2))
    assert weights(last) == weights(first)
    assert last.model.image_shape == (3, 8, 6)
    assert last.model.decode(np.zeros((2, 3))).shape == (2, 8, 6, 3)


def test_images_of_zeros_and_ones_have_one_level(tmp_path: Path) -> None:
    run = train(tmp_path / "run", images=IMAGES > 127)
    assert run.model.levels == 1
    assert train(tmp_path / "bytes").model.levels == 255


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[0], "got \\(8, 8\\)"),
        (np.zeros((2, 2, 2, 2, 2)), "got \\(2, 2, 2, 2, 2\\)"),
        (np.full((4, 8, 8), nan), "NaN"),
        (np.full((4, 8, 8), 2.0), "divide by 255"),
        (np.zeros((0, 8, 8)), "empty"),
    ],
)
def test_images_that_mean_nothing_are_refused_and_nothing_is_written(
    tmp_path: Path, images: Any, message: str
) -> None:
    with pytest.raises(bv.DataError, match=message):
        train(tmp_path / "run", images=images)
    assert not os.listdir(tmp_path)


def own_modules(seed: int = 0) -> dict[str, nn.Module]:
    torch.manual_seed(seed)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.SiLU(), nn.Linear(16, 6))
    return {"encoder": encoder, "decoder": nn.Sequential(nn.Linear(3, 16), nn.Linear(16, 64))}


def test_modules_of_ones_own_are_trained_from_the_weights_they_bring(tmp_path: Path) -> None:
    modules = own_modules()
    before = {name: w.clone() for name, w in modules["decoder"].state_dict().items()}
    run = train(tmp_path / "run", lr=1e-12, **modules)
    assert run.config.arch == "custom"
    assert run.model.decoder is modules["decoder"]
    for name, weight in modules["decoder"].state_dict().items():
        torch.testing.assert_close(weight, before[name], rtol=0, atol=1e-9)
    assert train(tmp_path / "more", **modules).metrics[-1]["loss"] < run.metrics[-1]["loss"]


def test_a_run_with_modules_of_ones_own_is_loaded_with_them(tmp_path: Path) -> None:
    run = train(tmp_path / "run", **own_modules())
    loaded = bv.load(run.path, **own_modules(seed=1))
    np.testing.assert_array_equal(loaded.model.encode(IMAGES).mu, run.model.encode(IMAGES).mu)
    with pytest.raises(UsageError, match="pass encoder and decoder"):
        bv.load(run.path)
    with pytest.raises(UsageError, match="give both encoder and decoder"):
        bv.load(run.path, encoder=own_modules()["encoder"])


@pytest.mark.parametrize("missing", ["encoder", "decoder"])
def test_half_a_model_is_refused_and_nothing_is_written(tmp_path: Path, missing: str) -> None:
    modules = own_modules()
    del modules[missing]
    with pytest.raises(UsageError, match="give both encoder and decoder"):
        train(tmp_path / "run", **modules)
    assert not os.listdir(tmp_path)


def test_an_objective_of_ones_own_is_what_is_minimised(tmp_path: Path) -> None:
    steps = []

    def halved(recon_nll: Tensor, posterior: bv.Posterior, step: int) -> Tensor:
        steps.append(step)
        assert posterior.kl_per_sample is not None
        return 0.5 * recon_nll + posterior.kl_per_sample.square().mean()

    run = train(tmp_path / "run", objective=halved, batch_size=16)
    assert steps[:30] == list(range(30))
    assert run.config.objective == "custom"
    for row in run.metrics:
        assert row["loss"] >= 0.5 * row["recon_nll"]
        assert row["neg_elbo"] == pytest.approx(row["recon_nll"] + row["kl"], rel=1e-12)
    assert bv.load(run.path).metrics == run.metrics
    with pytest.raises(UsageError, match="pass objective"):
        bv.train({"steps": 50}, images=IMAGES, out=run.path, resume=True)


def modules(hidden: int) -> dict[str, nn.Module]:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 6))
    return {"encoder": encoder, "decoder": nn.Linear(3, 64)}


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": nn.Sequential(nn.Flatten(), nn.Linear(64, 5))}, r"\(2, 6\), got \(2, 5\)"),
        ({"encoder": Pair()}, "an encoder must map images .*, got a tuple"),
        ({"decoder": nn.Linear(3, 60)}, r"of two codes \(2, 1, 8, 8\), got \(2, 60\)"),
    ],
    ids=["width", "tuple", "pixels"],
)
def test_modules_that_do_not_fit_are_named_before_anything_is_written(
    change: dict[str, nn.Module], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        train(tmp_path / "run", **modules(16) | change)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda recon_nll, posterior, step: recon_nll.repeat(2), r"a scalar tensor, got \(2,\)"),
        (lambda recon_nll, posterior, step: 1.0, "a scalar tensor, got float"),
    ],
)
def test_an_objective_gives_a_scalar_tensor(given: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        train(tmp_path / "run", objective=given)


@pytest.mark.parametrize("config", ["shapes2d", IMAGES, 4.0], ids=["name", "images", "number"])
def test_settings_that_are_none_are_named(config: Any) -> None:
    with pytest.raises(UsageError, match=r"config must be a Config or a mapping, as .*, got a "):
        bv.train(config)


def test_a_backend_that_cannot_run_here_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="backend 'triton' needs"):
        train(tmp_path / "run", backend="triton")
    with pytest.raises(UsageError, match="backend 'triton' needs"):
        bv.sweep({"data": "digits", "backend": "triton", "device": "cpu"}, tmp_path / "sweep")
    assert not os.listdir(tmp_path)


def test_another_encoder_than_the_one_trained_is_refused(tmp_path: Path) -> None:
    path = train(tmp_path / "run", **modules(16)).path
    before = lasting(path)
    message = r"do not fit its config.toml, or the encoder and decoder given: .*\[16, 64\]"
    with pytest.raises(bv.DataError, match=message):
        bv.train({"steps": 50}, images=IMAGES, out=path, resume=True, **modules(32))
    with pytest.raises(bv.DataError, match=message):
        bv.load(path, **modules(32))
    assert lasting(path) == before
    assert bv.train({"steps": 50}, images=IMAGES, out=path, resume=True, **modules(16)).summary


def test_settings_may_be_a_mapping_and_an_unknown_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="betta"):
        bv.train(TINY | {"betta": 4.0}, images=IMAGES, out=tmp_path / "run")
    assert not os.listdir(tmp_path)


def spoiled(factor: float, at: int) -> Callable[..., Tensor]:
    """An objective whose value is not finite at step `at`."""
    return lambda recon_nll, posterior, step: recon_nll * (factor if step == at else 1.0)


@pytest.mark.parametrize("factor", [inf, nan])
@pytest.mark.parametrize(
    ("at", "kept"), [(0, None), (3, None), (10, 10), (13, 10), (20, 20), (29, 20)]
)
def test_a_loss_that_is_not_finite_is_named_and_the_last_good_checkpoint_kept(
    tmp_path: Path, at: int, kept: int | None, factor: float
) -> None:
    out = tmp_path / "run"
    with pytest.raises(TrainingError) as caught:
        train(out, objective=spoiled(factor, at))
    message = str(caught.value)
    assert f"non-finite at step {at}: loss = {factor:g}, recon_nll = " in message
    assert (f"kept: the checkpoint of step {kept}" if kept else "no checkpoint yet") in message
    assert "lower --lr (now 0.001)" in message
    assert not (out / "summary.json").exists()
    assert "NaN" not in (text := (out / "metrics.jsonl").read_text() if kept else "")
    assert "Infinity" not in text
    if kept:
        run = bv.load(out)
        assert np.isfinite(run.model.encode(IMAGES).mu).all()
        assert json.loads((out / "checkpoint" / "latest.json").read_text())["step"] == kept


def test_a_gradient_that_is_not_finite_never_reaches_a_checkpoint(tmp_path: Path) -> None:
    def steep(recon_nll: Tensor, posterior: bv.Posterior, step: int) -> Tensor:
        return recon_nll if step < 29 else recon_nll + (0.0 * recon_nll).sqrt()

    with pytest.raises(TrainingError, match=r"the weights (en|de)coder\.\d+\.(weight|bias)"):
        train(tmp_path / "run", objective=steep)
    assert np.isfinite(bv.load(tmp_path / "run").model.encode(IMAGES).mu).all()


def test_a_model_that_breaks_in_its_very_last_step_has_no_result(tmp_path: Path) -> None:
    """Finite weights that are so large that no loss is: only the evaluation sees them."""
    with pytest.raises(TrainingError, match="non-finite at step 1"):
        train(tmp_path / "run", steps=1, lr=1e30)
    assert not (tmp_path / "run" / "summary.json").exists()


def test_a_learning_rate_that_is_too_large_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"lower --lr \(now 1e\+30\)"):
        train(tmp_path / "run", lr=1e30)
