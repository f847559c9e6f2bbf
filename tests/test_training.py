"""A training run: what it leaves, what its numbers mean, and that they follow from the seed."""

from __future__ import annotations

import json
from dataclasses import replace
from math import isclose
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from run_cases import IMAGES, ROOT, ROW, SPLIT, SUMMARY, TINY, lasting, train, without_pictures

import betavae_core as bv
from betavae_core import trainer
from betavae_core.data.split import split
from betavae_core.evaluation import report
from betavae_core.objectives import Capacity
from betavae_core.storage import read_weights

DIGITS = TINY | {"data": "digits", "steps": 60, "latent_dim": 4, "log_every": 20}
PICTURES = {"reconstructions.png", "traversals.png", "kl.png", "training.png"}
MNIST = ROOT.parent / "shared" / "data" / "mnist"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    without_pictures(monkeypatch)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> bv.Run:
    return bv.train(DIGITS | {"beta": 2.0}, out=tmp_path_factory.mktemp("digits") / "run")


def test_a_run_leaves_the_files_of_the_contract(digits: bv.Run) -> None:
    files = {str(f.relative_to(digits.path)) for f in digits.path.rglob("*") if f.is_file()}
    figures = {f"figures/{name}" for name in PICTURES}
    checkpoint = {"checkpoint/latest.json", "checkpoint/step-60.safetensors"}
    logs = {"metrics.jsonl", "timings.jsonl"}
    assert files == figures | checkpoint | logs | {
        "config.toml",
        "model.safetensors",
        "summary.json",
    }
    assert all((digits.path / name).stat().st_size for name in files)


def test_the_summary_says_what_the_contract_lists(digits: bv.Run) -> None:
    summary = digits.summary
    assert summary is not None
    assert summary == json.loads((digits.path / "summary.json").read_text())
    assert set(summary) >= SUMMARY
    assert (summary["run"], summary["steps"]) == (str(digits.path), 60)
    assert (summary["device"], summary["beta"]) == ("cpu", 2.0)
    assert summary["beta_norm"] == 2.0 * 4 / 64
    assert summary["seconds"] > 0
    assert summary["images_per_s"] > 0
    assert (summary["train"]["n"], summary["test"]["n"]) == (1797 - 180, 180)
    assert summary["active_latents"] == sum(kl > 0.1 for kl in summary["kl_per_latent"])


def terms(run: bv.Run) -> list[dict[str, float]]:
    """Everything in a run that has a loss: the splits of its summary, the lines of its log."""
    assert run.summary is not None
    return [run.summary["train"], run.summary["test"], *run.metrics]


def test_the_terms_add_up_wherever_they_are_reported(digits: bv.Run) -> None:
    for row in terms(digits):
        assert set(row) >= SPLIT - {"n"}
        assert isclose(row["neg_elbo"], row["recon_nll"] + row["kl"], rel_tol=1e-12)
        assert isclose(row["loss"], row["recon_nll"] + 2.0 * row["kl"], rel_tol=1e-5)
        assert row["kl"] >= 0


def test_the_log_has_a_line_an_interval_and_no_clock(digits: bv.Run) -> None:
    assert [set(row) for row in digits.metrics] == [ROW] * 3
    assert [row["step"] for row in digits.metrics] == [20, 40, 60]
    for row in digits.metrics:
        assert len(row["kl_per_latent"]) == 4
        assert isclose(sum(row["kl_per_latent"]), row["kl"], rel_tol=1e-5)
    lines = (digits.path / "timings.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [20, 40, 60]


@pytest.mark.usefixtures("quick")
def test_a_last_interval_that_is_not_full_is_logged_too(tmp_path: Path) -> None:
    assert [row["step"] for row in train(tmp_path / "run").metrics] == [7, 14, 21, 28, 30]
    assert [row["step"] for row in train(tmp_path / "short", steps=3).metrics] == [3]


@pytest.mark.usefixtures("quick")
def test_a_line_of_the_log_is_the_mean_of_its_steps(tmp_path: Path) -> None:
    each = train(tmp_path / "each", log_every=1).metrics
    for row in train(tmp_path / "run", log_every=7).metrics:
        steps = [r for r in each if (row["step"] - 1) // 7 * 7 < r["step"] <= row["step"]]
        for name in ("loss", "recon_nll", "kl", "neg_elbo"):
            assert isclose(row[name], np.mean([r[name] for r in steps]), rel_tol=1e-9)


def test_training_makes_the_model_better(digits: bv.Run) -> None:
    first, *_, last = digits.metrics
    assert last["loss"] < first["loss"]


def test_the_summary_is_what_the_saved_model_gives(digits: bv.Run) -> None:
    """The mean KL of the test images, by its formula, from the model as it was saved."""
    assert digits.summary is not None
    dataset = bv.data.load("digits")
    posterior = bv.load(digits.path).model.encode(dataset.take(split(dataset)[1]))
    mu, logvar = posterior.mu.astype(np.float64), posterior.logvar.astype(np.float64)
    kl = (mu**2 + np.exp(logvar) - 1 - logvar) / 2
    assert isclose(kl.sum(1).mean(), digits.summary["test"]["kl"], rel_tol=1e-4)
    np.testing.assert_allclose(kl.mean(0), digits.summary["kl_per_latent"], rtol=1e-3, atol=1e-6)


@pytest.mark.usefixtures("quick")
def test_the_same_seed_gives_the_same_bits(tmp_path: Path) -> None:
    one, other = (lasting(train(tmp_path / name, seed=7).path) for name in ("one", "other"))
    assert one == other


@pytest.mark.usefixtures("quick")
def test_another_seed_gives_another_model(tmp_path: Path) -> None:
    one, other = (train(tmp_path / str(seed), seed=seed) for seed in (0, 1))
    assert one.metrics[0]["loss"] != other.metrics[0]["loss"]
    for weight, another in zip(
        one.model.state_dict().values(), other.model.state_dict().values(), strict=True
    ):
        assert not weight.any() or not torch.equal(weight, another)


@pytest.mark.usefixtures("quick")
def test_the_test_images_are_the_same_for_every_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def noted(model: Any, images: Any, splits: Any, *rest: Any, **more: Any) -> dict[str, Any]:
        seen.append(splits)
        return report(model, images, splits, *rest, **more)

    monkeypatch.setattr(trainer, "report", noted)
    for seed in (0, 1):
        train(tmp_path / str(seed), seed=seed)
    assert len(seen[0]["test"]) == 4
    for name in ("train", "test"):
        np.testing.assert_array_equal(seen[0][name], seen[1][name])
    assert set(seen[0]["train"]).isdisjoint(seen[0]["test"])


@pytest.mark.usefixtures("quick")
def test_nothing_is_trained_on_the_test_images(tmp_path: Path) -> None:
    """Test images that are replaced change neither the weights nor the log."""
    held_out = split(bv.data.from_array(IMAGES))[1]
    other = IMAGES.copy()
    other[held_out] = 255 - other[held_out]
    one, changed = train(tmp_path / "one"), train(tmp_path / "changed", images=other)
    assert one.metrics == changed.metrics
    assert one.summary["test"] != changed.summary["test"]  # type: ignore[index]


@pytest.mark.usefixtures("quick")
def test_a_beta_of_zero_is_an_autoencoder(tmp_path: Path) -> None:
    run = train(tmp_path / "run", beta=0.0)
    assert run.summary is not None
    assert (run.summary["beta"], run.summary["beta_norm"]) == (0.0, 0.0)
    for row in terms(run):
        assert row["loss"] == pytest.approx(row["recon_nll"], rel=1e-6)
        assert row["neg_elbo"] > row["loss"]


@pytest.mark.usefixtures("quick")
def test_where_there_is_no_beta_none_is_reported(tmp_path: Path) -> None:
    summary = train(tmp_path / "run", named="capacity", beta=4.0).summary
    assert summary is not None
    assert (summary["beta"], summary["beta_norm"]) == (None, None)


@pytest.mark.usefixtures("quick")
def test_a_beta_norm_is_turned_into_its_beta(tmp_path: Path) -> None:
    run = train(tmp_path / "run", beta_norm=0.25)
    assert run.summary is not None
    assert run.summary["beta"] == pytest.approx(0.25 * 64 / 3)
    assert run.summary["beta_norm"] == pytest.approx(0.25)
    row = run.summary["test"]
    assert row["loss"] == pytest.approx(row["recon_nll"] + 0.25 * 64 / 3 * row["kl"], rel=1e-5)


@pytest.mark.usefixtures("quick")
def test_the_capacity_objective_means_the_batch_mean_at_its_step(tmp_path: Path) -> None:
    settings = {"gamma": 10.0, "capacity_max": 5.0, "capacity_steps": 20}
    run = train(tmp_path / "run", named="capacity", log_every=1, **settings)
    goal = Capacity(**settings)  # type: ignore[arg-type]
    for row in run.metrics:
        excess = abs(row["kl"] - goal.capacity(row["step"] - 1))
        assert row["loss"] == pytest.approx(row["recon_nll"] + 10 * excess, rel=1e-5)
        assert row["neg_elbo"] == pytest.approx(row["recon_nll"] + row["kl"], rel=1e-12)
    for name in ("train", "test"):
        row = run.summary[name]  # type: ignore[index]
        excess = abs(row["kl"] - 5.0)
        assert row["loss"] == pytest.approx(row["recon_nll"] + 10 * excess, rel=1e-5)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "settings",
    [
        {"precision": "bf16"},
        {"optimizer": "adagrad", "lr": 1e-2},
        {"likelihood": "gaussian", "sigma": 0.5},
        {"batch_size": 100},  # more than there are training images
        {"hidden": ()},
    ],
    ids=str,
)
def test_every_choice_trains_and_is_not_the_default(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    plain, run = train(tmp_path / "plain"), train(tmp_path / "run", **settings)
    assert run.metrics[0]["loss"] != plain.metrics[0]["loss"]
    assert run.metrics[-1]["loss"] < run.metrics[0]["loss"]
    assert all(np.isfinite(row["loss"]) for row in terms(run))


@pytest.mark.usefixtures("quick")
def test_the_gaussian_likelihood_is_in_nats(tmp_path: Path) -> None:
    """A decoder that says 1/2 of every pixel costs P ln(2πσ²) / 2 + Σ (x - 1/2)² / 2σ² nats."""
    decoder = torch.nn.Linear(3, 64)
    decoder.requires_grad_(False).weight.zero_()
    decoder.bias.zero_()
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 6))
    settings = {"likelihood": "gaussian", "sigma": 0.5, "steps": 1, "batch_size": 36}
    run = train(tmp_path / "run", encoder=encoder, decoder=decoder, **settings)
    x = IMAGES[split(bv.data.from_array(IMAGES))[0]] / 255  # an epoch is one batch
    squares = ((x - 0.5) ** 2).sum((1, 2)).mean() / (2 * 0.5**2)
    exact = 32 * np.log(2 * np.pi * 0.5**2) + squares
    assert run.metrics[0]["recon_nll"] == pytest.approx(exact, rel=1e-6)


def test_the_model_file_says_what_it_needs_to_be_loaded(digits: bv.Run) -> None:
    assert digits.summary is not None
    file, digest = digits.path / "model.safetensors", digits.summary["model_sha256"]
    weights, facts = read_weights(file, digest)
    assert facts["image_shape"] == [1, 8, 8]
    assert facts["levels"] == 16
    assert set(weights) == set(digits.model.state_dict())
    for name, tensor in weights.items():
        assert torch.equal(tensor, digits.model.state_dict()[name])


@pytest.mark.slow
@pytest.mark.skipif(not MNIST.is_dir(), reason="needs the MNIST images in ../shared/data/mnist")
@pytest.mark.parametrize(("latents", "beta", "most"), [(20, 1.0, 116.0), (10, 4.0, 135.0)])
def test_mnist_reaches_what_a_plain_model_reaches(
    tmp_path: Path, latents: int, beta: float, most: float
) -> None:
    config = bv.Config(
        data=str(MNIST),
        arch="mlp",
        latent_dim=latents,
        beta=beta,
        batch_size=128,
        lr=1e-3,
        epochs=20.0,
        seed=0,
    )
    summary = bv.train(config, out=tmp_path / "run").summary
    assert summary is not None
    assert summary["steps"] == 1407  # 20 · 9000 / 128
    assert summary["test"]["n"] == 1000
    assert summary["test"]["neg_elbo"] <= most
    assert summary["train"]["neg_elbo"] < summary["test"]["neg_elbo"]


@pytest.mark.slow
@pytest.mark.skipif(not MNIST.is_dir(), reason="needs the MNIST images in ../shared/data/mnist")
def test_bf16_ends_where_fp32_does(tmp_path: Path) -> None:
    """On average over three seeds, and for each of them."""
    ends: dict[str, list[float]] = {"fp32": [], "bf16": []}
    for precision, found in ends.items():
        for seed in range(3):
            config = bv.Config(data=str(MNIST), arch="mlp", steps=3000, seed=seed)
            out = tmp_path / f"{precision}-{seed}"
            summary = bv.train(replace(config, precision=precision), out=out).summary
            assert summary is not None
            found.append(summary["test"]["neg_elbo"])
    full, half = np.array(ends["fp32"]), np.array(ends["bf16"])
    assert (half != full).all()
    assert half.mean() == pytest.approx(full.mean(), rel=0.005)
    assert half == pytest.approx(full, rel=0.005)
