"""A training step as CUDA graphs: what a hundred launches do, replayed with one.

A step that can be captured is a function of tensors alone: it reads nothing on the host, draws
nothing from a generator, and its shapes do not depend on data. Step number, batch, noise and log
live in tensors of their own that it reads and writes (see `Trainer`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch

MANY = 16  # steps of the larger graph
_WARM_UP = 3  # steps before a capture: kernels are compiled and workspaces made in them


class Steps:
    """Takes steps, one call of `step` each; on a GPU, if `captured`, by replaying graphs.

    The first steps run as they are, on a stream of their own, as a capture needs.
    """

    def __init__(self, step: Callable[[], None], captured: bool) -> None:
        self.captured, self._step = captured, step
        self._warm = 0
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}

    def __call__(self, count: int) -> None:
        """Take `count` steps."""
        while count:
            size = self._take(count)
            count -= size

    def _take(self, most: int) -> int:
        """Take some steps, and say how many."""
        if not self.captured:
            self._step()
            return 1
        if self._warm < _WARM_UP:
            self._warm += 1
            self._beside()
            return 1
        size = MANY if most >= MANY else 1
        if size not in self._graphs:
            self._graphs[size] = self._capture(size)
        self._graphs[size].replay()
        return size

    def _beside(self) -> None:
        """One step on a stream of its own."""
        here, beside = torch.cuda.current_stream(), torch.cuda.Stream()
        beside.wait_stream(here)
        with torch.cuda.stream(beside):
            self._step()
        here.wait_stream(beside)

    def _capture(self, size: int) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(size):
                self._step()
        return graph
