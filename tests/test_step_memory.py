"""A training step allocates no more memory than the eager loop that it is measured against."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch.profiler import ProfilerActivity, profile

from betavae_core.architectures import Shape
from betavae_core.bench import step
from betavae_core.loop import Team


def peak_bytes(call: Callable[[], object]) -> int:
    """The most by which tensors grew in a `call` that follows another.

    The profiler sees a tensor freed if it saw it made: the gradients of the call before.
    """
    return [_growth(call) for _ in range(2)][1]


def _growth(call: Callable[[], object]) -> int:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        call()
    held = peak = 0
    events = recorded.profiler.kineto_results.events()  # type: ignore[union-attr]
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


@pytest.mark.parametrize(("arch", "shape"), step.CASES)
def test_a_step_holds_no_more_memory_than_eager(arch: str, shape: Shape) -> None:
    with step.training(arch, step.rectangles(shape, 256), "cpu", batch_size=64) as trainer:
        eager = step.baselines(trainer, compiled=False)["eager"]
        team = Team([trainer])
        team.advance(62)  # the 64th is the last of a block; the 65th draws the next one
        eager.step()
        ours = max(peak_bytes(lambda: team.advance(1)) for _ in range(2))
        assert 0 < ours <= peak_bytes(eager.step)
