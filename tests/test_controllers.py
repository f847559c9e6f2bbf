"""β chosen by what is to be held: the target is reached, and the memory of it is saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import betavae_core as bv
from betavae_core.cli import app
from betavae_core.controllers import Controller, ControlVAE, Geco
from betavae_core.posterior import Posterior

SMALL = {"data": "digits", "arch": "mlp", "hidden": (32,), "latent_dim": 4, "log_every": 20}
HELD: list[dict[str, Any]] = [
    {"objective": "controlvae", "target_kl": 6.0},
    {"objective": "geco", "target_recon": 19.0},
]


def posterior(kl: float) -> Posterior:
    per_latent = torch.tensor([kl])
    return Posterior(per_latent, per_latent, kl_per_latent=per_latent)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize(("target", "term"), [(6.0, "kl"), (15.0, "kl"), (19.0, "recon_nll")])
def test_a_target_is_reached_and_held(target: float, term: str, tmp_path: Path) -> None:
    objective = "controlvae" if term == "kl" else "geco"
    name = "target_kl" if term == "kl" else "target_recon"
    settings = {"data": "digits", "objective": objective, name: target, "steps": 3000}
    bv.train(bv.Config(**settings), out=tmp_path / "run")
    last = [row[term] for row in rows(tmp_path / "run")[-10:]]
    assert sum(last) / len(last) == pytest.approx(target, rel=0.02)


@pytest.mark.parametrize(
    ("controller", "low", "high"),
    [
        (ControlVAE(10.0), (50.0, 8.0), (50.0, 20.0)),
        (Geco(50.0), (60.0, 10.0), (40.0, 10.0)),
    ],
)
def test_beta_falls_when_the_code_is_too_poor_and_rises_when_too_rich(
    controller: Controller, low: tuple[float, float], high: tuple[float, float]
) -> None:
    betas = []
    for recon_nll, kl in [high] * 50 + [low] * 200:
        controller(torch.tensor(recon_nll), posterior(kl), 0)
        betas.append(controller.beta.item())
    assert betas[0] < betas[49] > betas[-1] >= 0


@pytest.mark.parametrize("controller", [ControlVAE(10.0), Geco(50.0)])
def test_beta_recovers_soon_from_a_long_time_at_its_bound(controller: Controller) -> None:
    for terms in [(500.0, 0.0)] * 5000 + [(20.0, 40.0)] * 1000:
        controller(torch.tensor(terms[0]), posterior(terms[1]), 0)
    assert controller.beta.item() > 1  # wound up it would be below e^-40


def test_beta_stands_still_in_eval_mode() -> None:
    controller = ControlVAE(10.0)
    controller(torch.tensor(50.0), posterior(30.0), 0)
    before = controller.beta.item()
    loss = controller.eval()(torch.tensor(50.0), posterior(30.0), 0)
    assert controller.beta.item() == before > 0
    assert loss.item() == pytest.approx(50 + before * 30, rel=1e-6)


@pytest.mark.parametrize("held", HELD)
def test_the_log_and_the_summary_say_the_beta(held: dict[str, Any], tmp_path: Path) -> None:
    run = bv.train(bv.Config(**SMALL, **held, steps=60), out=tmp_path / "run")
    logged = rows(tmp_path / "run")
    assert run.summary is not None
    assert len({row["beta"] for row in logged}) == len(logged) == 3
    assert run.summary["beta"] == pytest.approx(logged[-1]["beta"], abs=0.3)
    assert run.summary["beta_norm"] == pytest.approx(run.summary["beta"] * 4 / 64)
    test = run.summary["test"]
    assert test["loss"] == pytest.approx(
        test["recon_nll"] + run.summary["beta"] * test["kl"], rel=1e-5
    )
    assert run.config.beta is None  # it was nobody's setting


@pytest.mark.parametrize("held", HELD)
def test_a_resumed_run_goes_on_with_the_same_beta(held: dict[str, Any], tmp_path: Path) -> None:
    whole = bv.train(bv.Config(**SMALL, **held, steps=60), out=tmp_path / "whole")
    bv.train(bv.Config(**SMALL, **held, steps=30), out=tmp_path / "parts")
    parts = bv.train(bv.Config(**SMALL, **held, steps=60), out=tmp_path / "parts", resume=True)
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    pairs = zip(parts.model.parameters(), whole.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize(
    ("options", "objective"),
    [(["--target-kl", "6"], "controlvae"), (["--target-recon", "19"], "geco")],
)
def test_beta_auto_takes_the_objective_that_holds_the_target(
    options: list[str], objective: str, tmp_path: Path
) -> None:
    out = ["--steps", "4", "--arch", "mlp", "--hidden", "8", "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, ["train", "digits", "--beta", "auto", *options, *out])
    assert result.exit_code == 0, result.output
    assert bv.load(tmp_path / "run").config.objective == objective


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--beta", "auto"], "--beta auto needs one of --target-kl and --target-recon"),
        (
            ["--beta", "auto", "--target-kl", "1", "--target-recon", "1"],
            "--beta auto needs one of --target-kl and --target-recon",
        ),
        (["--beta", "atuo"], "--beta must be a number or auto, got 'atuo'"),
        (["--objective", "geco"], "--objective geco needs --target-recon, in nats an image"),
    ],
)
def test_a_target_that_is_missing_is_asked_for(
    options: list[str], message: str, tmp_path: Path
) -> None:
    result = CliRunner().invoke(app, ["train", "digits", *options, "--out", str(tmp_path / "r")])
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "r").exists()
