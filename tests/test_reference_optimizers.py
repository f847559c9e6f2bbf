"""The oracle's optimizers: against torch.optim in float64, and by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from betavae_core.reference.checks import compare
from betavae_core.reference.optimizers import Adagrad, Adam, Optimizer

SHAPES = {"encoder.0.weight": (4, 3), "encoder.0.bias": (4,), "decoder.2.weight": (2, 3, 2, 2)}
CASES: list[tuple[Callable[[], Optimizer], Callable[..., Any]]] = [
    (lambda: Adam(1e-3), lambda p: torch.optim.Adam(p, lr=1e-3)),
    (
        lambda: Adam(0.05, beta1=0.5, beta2=0.9, eps=1e-3),
        lambda p: torch.optim.Adam(p, lr=0.05, betas=(0.5, 0.9), eps=1e-3),
    ),
    (lambda: Adagrad(1e-2), lambda p: torch.optim.Adagrad(p, lr=1e-2)),
    (
        lambda: Adagrad(0.1, eps=1e-3, initial_accumulator=0.5),
        lambda p: torch.optim.Adagrad(p, lr=0.1, eps=1e-3, initial_accumulator_value=0.5),
    ),
]


@pytest.mark.parametrize(("ours", "theirs"), CASES)
def test_ten_updates_are_those_of_torch(
    ours: Callable[[], Optimizer], theirs: Callable[..., Any]
) -> None:
    rng = np.random.default_rng(0)
    parameters = {name: rng.normal(size=shape) for name, shape in SHAPES.items()}
    tensors = {name: torch.tensor(p, requires_grad=True) for name, p in parameters.items()}
    optimizer, other = ours(), theirs(list(tensors.values()))
    for step in range(10):
        scale = 10.0 ** rng.integers(-8, 3)  # where eps matters, and where it does not
        gradients = {name: scale * rng.normal(size=shape) for name, shape in SHAPES.items()}
        gradients["encoder.0.bias"][0] = 0.0
        for name, tensor in tensors.items():
            tensor.grad = torch.tensor(gradients[name])
        optimizer.update(parameters, gradients)
        other.step()
        for name, tensor in tensors.items():
            compare(f"{name} at step {step}", parameters[name], tensor.detach().numpy(), 1e-13)


def test_the_first_step_of_adam_is_the_learning_rate_against_the_sign() -> None:
    p = {"p": np.zeros(2)}
    Adam(0.1).update(p, {"p": np.array([5.0, -1e-3])})
    assert p["p"] == pytest.approx([-0.1, 0.1], rel=1e-4)


def test_the_second_equal_step_of_adagrad_is_smaller_by_root_two() -> None:
    p, optimizer = {"p": np.zeros(1)}, Adagrad(0.1)
    positions = []
    for _ in range(2):
        optimizer.update(p, {"p": np.ones(1)})
        positions.append(float(p["p"][0]))
    assert positions == pytest.approx([-0.1, -0.1 - 0.1 / np.sqrt(2)])


@pytest.mark.parametrize("optimizer", [Adam(0.1), Adagrad(0.1)])
def test_an_update_moves_the_very_array_and_leaves_the_gradient(optimizer: Optimizer) -> None:
    p, g = np.zeros(3), np.ones(3)
    optimizer.update({"p": p}, {"p": g})
    optimizer.update({"p": p}, {"p": g})
    assert (p < 0).all()
    assert g.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("optimizer", [Adam(0.1), Adagrad(0.1)])
def test_a_gradient_that_is_missing_or_misshapen_is_refused(optimizer: Optimizer) -> None:
    p = {"a": np.zeros(3), "b": np.zeros(2)}
    with pytest.raises(ValueError, match=r"unpaired: \['b'\]"):
        optimizer.update(p, {"a": np.zeros(3)})
    with pytest.raises(ValueError, match=r"gradient of b must be \(2,\), got \(1,\)"):
        optimizer.update(p, {"a": np.zeros(3), "b": np.zeros(1)})
    assert not p["a"].any()
