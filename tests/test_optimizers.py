"""The optimizers are PyTorch's to the bit, go on from their state, and load no compiler."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from betavae_core.ops import update
from betavae_core.optimizers import Optimizer

THEIRS: dict[str, Any] = {"adam": torch.optim.Adam, "adagrad": torch.optim.Adagrad}


@pytest.fixture(params=THEIRS)
def rule(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def layers(dtype: torch.dtype) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2)).to(dtype)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@torch.no_grad()
def gradients(model: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for p in model.parameters():
        values = torch.randn(p.shape, generator=generator, dtype=p.dtype) * 10.0 ** (step % 5)
        p.grad = torch.empty_like(p).copy_(values)  # in memory as its weight: kernels walk it


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_rule_is_pytorch_s_to_the_bit(rule: str, dtype: torch.dtype) -> None:
    ours, theirs = layers(dtype), layers(dtype)
    optimizer = Optimizer(rule, ours.parameters(), lr=1e-2)
    truth = THEIRS[rule](theirs.parameters(), lr=1e-2, fused=True)
    for step in range(20):
        gradients(ours, step)
        gradients(theirs, step)
        if step == 7:  # a parameter without a gradient stands still
            ours[0].weight.grad = theirs[0].weight.grad = None
        optimizer.step()
        truth.step()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(p, q)
    for index, state in truth.state_dict()["state"].items():
        assert all(torch.equal(state[name], t) for name, t in optimizer.state[index].items())
        assert state.keys() == optimizer.state[index].keys()


def test_adagrad_in_parts_is_adagrad_but_for_rounding() -> None:
    """What a GPU runs."""
    ours, theirs = layers(torch.float64), layers(torch.float64)
    optimizer = Optimizer("adagrad", ours.parameters(), lr=1e-2)
    optimizer.rule = optimizer.rule._replace(update=update.adagrad_in_parts)
    truth = Optimizer("adagrad", theirs.parameters(), lr=1e-2)
    for step in range(20):
        gradients(ours, step)
        gradients(theirs, step)
        optimizer.step()
        truth.step()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-13, atol=0)


def test_without_any_gradient_nothing_moves(rule: str) -> None:
    model = layers(torch.float32)
    before = [p.clone() for p in model.parameters()]
    Optimizer(rule, model.parameters(), lr=1e-2).step()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def test_it_goes_on_from_its_state(rule: str) -> None:
    whole, parts = layers(torch.float32), layers(torch.float32)
    through, first = (Optimizer(rule, m.parameters(), lr=1e-2) for m in (whole, parts))
    for step in range(10):
        if step == 5:
            second = Optimizer(rule, parts.parameters(), lr=1e-2)
            second.load_state_dict(first.state_dict())
            first = second
        for model, optimizer in ((whole, through), (parts, first)):
            gradients(model, step)
            optimizer.step()
    assert all(
        torch.equal(p, q) for p, q in zip(whole.parameters(), parts.parameters(), strict=True)
    )


@pytest.mark.parametrize("to_none", [True, False])
def test_gradients_are_forgotten(rule: str, to_none: bool) -> None:
    model = layers(torch.float32)
    optimizer = Optimizer(rule, model.parameters(), 1e-3)
    optimizer.zero_grad(set_to_none=to_none)  # where there is none yet
    gradients(model, 0)
    optimizer.zero_grad(set_to_none=to_none)
    for p in model.parameters():
        assert p.grad is None if to_none else not p.grad.any()  # type: ignore[union-attr]


TRAIN_A_STEP = """
import sys
from run_cases import IMAGES, TINY
import betavae_core as bv
with open(sys.argv[2], "w") as seen:
    first = lambda *_: print("torch._dynamo" in sys.modules, file=seen, flush=True)
    settings = {**TINY, "steps": 1, "log_every": 1, "optimizer": sys.argv[3]}
    bv.train(settings, images=IMAGES, out=sys.argv[1], progress=first)
"""


def test_the_first_step_does_not_wait_for_pytorch_s_compiler(rule, tmp_path, request) -> None:  # type: ignore[no-untyped-def]
    command = [sys.executable, "-c", TRAIN_A_STEP, tmp_path / "run", tmp_path / "seen", rule]
    done = subprocess.run(command, cwd=request.path.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "seen").read_text().split() == ["False"]
