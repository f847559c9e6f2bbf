"""`check` agrees with the oracle, and finds an error of 0.1 % planted in any one gradient."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch
from kernel_cases import kernel_module
from torch import Tensor, nn
from typer.testing import CliRunner

import betavae_core as bv
from betavae_core import cli, objectives, parity
from betavae_core.optimizers import Optimizer
from betavae_core.parity import networks, steps
from betavae_core.parity.comparison import TOLERANCE, Comparison
from betavae_core.parity.networks import LAYERS

OFF = 1.001
HERE = (torch.float64, torch.device("cpu"))
Patch = pytest.MonkeyPatch


def failures(only: str) -> set[str]:
    """The names of the rows of a stem that are not ok."""
    return {row["name"] for row in parity.check(only, "cpu") if not row["ok"]}


def scale_output(function: Callable[..., Any], index: int) -> Callable[..., Any]:
    """The function with one of its outputs 0.1 % off."""

    def planted(*args: Any) -> Any:
        result = function(*args)
        if not isinstance(result, tuple):
            return result * OFF
        return tuple(value * OFF if i == index else value for i, value in enumerate(result))

    return planted


@pytest.mark.parametrize("stem", parity.STEMS)
def test_every_row_agrees_with_the_oracle(stem: str) -> None:
    rows = parity.check(stem, "cpu")
    assert rows
    assert [row for row in rows if not row["ok"]] == []
    assert {"name", "dtype", "error", "tolerance", "ok"} == set(rows[0])


def test_float64_is_held_to_1e_10_and_a_planted_error_is_above_every_tolerance_of_float32() -> None:
    assert TOLERANCE[torch.float64] == 1e-10
    rows = parity.check("mlp", "cpu")
    assert all(row["tolerance"] < OFF - 1 for row in rows if row["dtype"] == "float32")


@pytest.mark.parametrize(("index", "gradient"), [(0, "dmu"), (1, "dlogvar")])
def test_a_wrong_gradient_of_reparam_kl_is_found(
    monkeypatch: Patch, index: int, gradient: str
) -> None:
    op = import_module("betavae_core.ops.reparam_kl")
    monkeypatch.setattr(op, "backward_formula", scale_output(op.backward_formula, index))
    assert failures("reparam_kl") == {f"reparam_kl.{gradient}"}


@pytest.mark.parametrize("stem", ["bernoulli_nll", "gaussian_nll"])
def test_a_wrong_gradient_of_a_likelihood_is_found(monkeypatch: Patch, stem: str) -> None:
    op = import_module(f"betavae_core.ops.{stem}")._op
    monkeypatch.setattr(op, "backward", scale_output(op.backward, 0))
    assert failures(stem) == {f"{stem}.dlogits (bytes)", f"{stem}.dlogits (floats)"}


@pytest.mark.parametrize("backend", ["triton", "c"])
@pytest.mark.parametrize(
    ("stem", "index", "gradient"),
    [
        ("reparam_kl", 0, "dmu"),
        ("reparam_kl", 1, "dlogvar"),
        ("bernoulli_nll", 0, "dlogits"),
        ("gaussian_nll", 0, "dlogits"),
    ],
)
def test_a_wrong_gradient_of_a_kernel_is_found(
    monkeypatch: Patch, stem: str, index: int, gradient: str, backend: str
) -> None:
    kernels = kernel_module(backend, stem)
    launcher = f"{stem}_bwd"
    monkeypatch.setattr(kernels, launcher, scale_output(getattr(kernels, launcher), index))
    found = failures(stem)
    assert found
    assert all(name.startswith(f"{stem}.{backend}.{gradient}") for name in found)


@pytest.mark.parametrize(
    ("module", "function", "index", "stem"),
    [
        ("reparam_kl", "reparam_kl_backward", 0, "reparam_kl"),
        ("reparam_kl", "reparam_kl_backward", 1, "reparam_kl"),
        ("bernoulli_nll", "bernoulli_nll_backward", 0, "bernoulli_nll"),
        ("gaussian_nll", "gaussian_nll_backward", 0, "gaussian_nll"),
    ],
)
def test_a_wrong_gradient_of_the_oracle_is_found_too(
    monkeypatch: Patch, module: str, function: str, index: int, stem: str
) -> None:
    oracle = import_module(f"betavae_core.reference.{module}")
    monkeypatch.setattr(oracle, function, scale_output(getattr(oracle, function), index))
    assert failures(stem)


class WrongGradient(torch.autograd.Function):
    """The identity, with a gradient 0.1 % off."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * OFF


@pytest.mark.parametrize("name", LAYERS)
def test_a_wrong_gradient_of_a_layers_input_is_found(monkeypatch: Patch, name: str) -> None:
    build = networks.sequential

    def planted(specification: Any) -> nn.Sequential:
        module = build(specification)
        module.register_forward_pre_hook(lambda _, inputs: (WrongGradient.apply(inputs[0]),))
        return module

    monkeypatch.setattr(networks, "sequential", planted)
    assert failures(f"{name}.dx") == {f"{name}.dx"}


@pytest.mark.parametrize("name", ["linear", "conv", "conv_transpose"])
@pytest.mark.parametrize("parameter", ["weight", "bias"])
def test_a_wrong_gradient_of_a_layers_parameter_is_found(
    monkeypatch: Patch, name: str, parameter: str
) -> None:
    build = networks.sequential

    def planted(specification: Any) -> nn.Sequential:
        module = build(specification)
        getattr(module[0], parameter).register_hook(lambda gradient: gradient * OFF)
        return module

    monkeypatch.setattr(networks, "sequential", planted)
    assert failures(f"{name}.d{parameter}") >= {f"{name}.d{parameter}"}


@pytest.mark.parametrize("name", ["mlp", "burgess-conv"])
def test_a_wrong_gradient_of_any_weight_of_a_model_is_found(monkeypatch: Patch, name: str) -> None:
    build = networks.build
    model, _ = networks.model_and_oracle(name, "bernoulli", *HERE)
    for planted, _ in model.named_parameters():

        def wrong(*args: Any, planted: str = planted, **settings: Any) -> Any:
            model = build(*args, **settings)
            model.get_parameter(planted).register_hook(lambda gradient: gradient * OFF)
            return model

        with monkeypatch.context() as patch:
            patch.setattr(networks, "build", wrong)
            rows = [c.row() for c in networks.compare_architecture(name, HERE[1])]
        assert {row["name"].split(".", 2)[2] for row in rows if not row["ok"]} == {f"d{planted}"}


@pytest.mark.parametrize("name", ["Beta", "Capacity"])
@pytest.mark.parametrize("term", ["drecon_nll", "dkl"])
def test_a_wrong_gradient_of_an_objective_is_found(
    monkeypatch: Patch, name: str, term: str
) -> None:
    objective = getattr(objectives, name)
    call = objective.__call__

    def planted(self: Any, recon_nll: Tensor, posterior: Any, step: int) -> Tensor:
        if term == "drecon_nll":
            recon_nll = WrongGradient.apply(recon_nll)
        else:
            per_latent = WrongGradient.apply(posterior.kl_per_latent)
            posterior = posterior._replace(kl_per_latent=per_latent)
        return call(self, recon_nll, posterior, step)

    monkeypatch.setattr(objective, "__call__", planted)
    found = failures("objective")
    assert found
    assert all(row.endswith(term) and name.lower() in row for row in found)


@pytest.mark.parametrize("name", ["adam", "adagrad"])
def test_a_wrong_learning_rate_is_found(monkeypatch: Patch, name: str) -> None:
    monkeypatch.setattr(steps, "_LR", 1e-3)
    make = steps.Optimizer

    def planted(*args: Any) -> Optimizer:
        optimizer = make(*args)
        optimizer.param_groups[0]["lr"] *= OFF
        return optimizer

    monkeypatch.setattr(steps, "Optimizer", planted)
    assert failures(name)


def test_a_missing_gradient_is_not_equal_to_anything() -> None:
    row = Comparison("nothing", torch.float64, None, [1.0]).row()
    assert not row["ok"]


def test_check_prints_its_rows_and_exits_with_1_when_one_fails(monkeypatch: Patch) -> None:
    run = CliRunner().invoke
    good = run(cli.app, ["check", "--only", "linear", "--json"])
    assert good.exit_code == 0
    assert json.loads(good.stdout)["failed"] == 0
    op = import_module("betavae_core.ops.bernoulli_nll")._op
    monkeypatch.setattr(op, "backward", scale_output(op.backward, 0))
    bad = run(cli.app, ["check", "--only", "bernoulli_nll", "--json"])
    assert bad.exit_code == 1
    assert [row for row in json.loads(bad.stdout)["rows"] if not row["ok"]]


def test_a_name_that_no_row_bears_is_refused() -> None:
    with pytest.raises(bv.UsageError, match="--only must be or begin with one of philox"):
        parity.check("nonesuch", "cpu")
