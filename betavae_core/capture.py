"""Training steps as CUDA graphs: what a hundred launches do, replayed with one.

A step that can be captured is a function of tensors alone: it reads nothing on the host, draws
nothing from a generator, and its shapes do not depend on data. Step number, batch, noise and log
live in tensors of their own that it reads and writes (see `Trainer`). The steps of many models are
parallel branches of one graph: a small model leaves most of a GPU to the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

MANY = 16  # steps of the larger graph
_WARM_UP = 3  # steps before a capture: kernels are compiled and workspaces made in them


class Steps:
    """Takes steps: one call of each of `branches`, which share nothing that a step changes.

    On a GPU, if `captured`, by replaying graphs. The first steps run as they are, each branch on
    the stream of its own that it has in the graphs.
    """

    def __init__(self, branches: Sequence[Callable[[], None]], captured: bool) -> None:
        self.captured, self._branches = captured, branches
        self._streams = [torch.cuda.Stream() for _ in branches] if captured else []
        self._warm = 0
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}

    def __call__(self, count: int) -> None:
        """Take `count` steps of each branch."""
        while count:
            size = self._take(count)
            count -= size

    def _take(self, most: int) -> int:
        """Take some steps, and say how many."""
        if not self.captured:
            for step in self._branches:
                step()
            return 1
        if self._warm < _WARM_UP:
            self._warm += 1
            self._side_by_side(1)
            return 1
        size = MANY if most >= MANY else 1
        if size not in self._graphs:
            self._graphs[size] = self._capture(size)
        self._graphs[size].replay()
        return size

    def _side_by_side(self, count: int) -> None:
        """Steps of every branch on its stream: all begin after what is before, and end together.

        They begin at one event: PyTorch has 32 streams in all, and a branch may have got `here`.
        """
        here = torch.cuda.current_stream()
        begin = here.record_event()
        for step, beside in zip(self._branches, self._streams, strict=True):
            beside.wait_event(begin)
            with torch.cuda.stream(beside):
                for _ in range(count):
                    step()
        for beside in self._streams:
            here.wait_stream(beside)

    def _capture(self, size: int) -> torch.cuda.CUDAGraph:
        """The graph of `size` steps; the workspaces of its matrix products live as long as it does.

        Those at hand are PyTorch's, which others may free under a graph (torch.compile does:
        pytorch/pytorch issue 193402).
        """
        graph = torch.cuda.CUDAGraph()
        _forget_workspaces()
        with torch.cuda.graph(graph):
            self._side_by_side(size)
        _forget_workspaces()
        return graph


def _forget_workspaces() -> None:
    """Have cuBLAS take new memory for its workspaces, from the pool of whoever asks next."""
    torch._C._cuda_clearCublasWorkspaces()
