"""Adam is PyTorch's to the bit, goes on from its state, and does not load PyTorch's compiler."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from betavae_core.optimizers import Adam, make_optimizer


def layers(dtype: torch.dtype) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2)).to(dtype)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def gradients(model: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype).mul_(10.0 ** (step % 5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_adam_is_pytorch_s_to_the_bit(dtype: torch.dtype) -> None:
    ours, theirs = layers(dtype), layers(dtype)
    adam = Adam(ours.parameters(), lr=1e-2)
    truth = torch.optim.Adam(theirs.parameters(), lr=1e-2, fused=True)
    for step in range(20):
        gradients(ours, step)
        gradients(theirs, step)
        if step == 7:  # a parameter without a gradient stands still
            ours[0].weight.grad = theirs[0].weight.grad = None
        adam.step()
        truth.step()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(p, q)
    for index, state in truth.state_dict()["state"].items():
        assert all(torch.equal(state[name], t) for name, t in adam.state[index].items())


def test_adam_without_any_gradient_stands_still() -> None:
    model = layers(torch.float32)
    before = [p.clone() for p in model.parameters()]
    Adam(model.parameters(), lr=1e-2).step()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def test_adam_goes_on_from_its_state() -> None:
    whole, parts = layers(torch.float32), layers(torch.float32)
    adam, first = Adam(whole.parameters(), lr=1e-2), Adam(parts.parameters(), lr=1e-2)
    for step in range(10):
        if step == 5:
            second = Adam(parts.parameters(), lr=1e-2)
            second.load_state_dict(first.state_dict())
            first = second
        for model, optimizer in ((whole, adam), (parts, first)):
            gradients(model, step)
            optimizer.step()
    assert all(
        torch.equal(p, q) for p, q in zip(whole.parameters(), parts.parameters(), strict=True)
    )


@pytest.mark.parametrize("to_none", [True, False])
def test_gradients_are_forgotten(to_none: bool) -> None:
    model = layers(torch.float32)
    optimizer = make_optimizer("adam", model.parameters(), 1e-3)
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
    bv.train({**TINY, "steps": 1, "log_every": 1}, images=IMAGES, out=sys.argv[1], progress=first)
"""


def test_the_first_step_does_not_wait_for_pytorch_s_compiler(tmp_path, request) -> None:  # type: ignore[no-untyped-def]
    command = [sys.executable, "-c", TRAIN_A_STEP, tmp_path / "run", tmp_path / "seen"]
    done = subprocess.run(command, cwd=request.path.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "seen").read_text().split() == ["False"]
