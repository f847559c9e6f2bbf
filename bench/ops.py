"""The suite `ops`: each op alone, forward, backward and both.

    seconds        a call, for ours, eager PyTorch, the same under torch.compile, and a copy
    bytes          what any implementation must at least move (inputs read, results written)
    gb_per_s       those bytes over our time
    share_of_copy  the time of a copy that moves as many bytes, over ours: 1 is the memory's limit
    vs_eager, vs_compile   how many times faster ours is

The share means something where a call is long; at training sizes on a CPU all is in the cache and
calls cost more than bytes. Copies and ops take turns like everything else (timing.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
import torch._functorch.config

from betavae_core.bench.op_cases import CASES, Case, Tensors, gradients
from betavae_core.bench.timing import Timed, interleave

Progress = Callable[[str], None]
Size = tuple[str, int, int]
Forward = Callable[[], Tensors]

PASSES = ("forward", "backward", "both")
_TRAINING: tuple[Size, ...] = (
    ("reparam_kl", 64, 10),
    ("reparam_kl", 128, 20),
    ("reparam_kl", 1024, 32),
    *(
        (op, *shape)
        for op in ("bernoulli_nll", "gaussian_nll")
        for shape in ((64, 4096), (128, 784))
    ),
)
_LARGE: tuple[Size, ...] = (  # 2^26 elements
    ("reparam_kl", 2**21, 32),
    ("bernoulli_nll", 2**14, 4096),
    ("gaussian_nll", 2**14, 4096),
)
SIZES = {"cpu": _TRAINING, "cuda": (*_TRAINING, *_LARGE)}


def run(
    device: str,
    seconds: float,
    progress: Progress,
    *,
    sizes: Sequence[Size] | None = None,
    compiled: bool = True,
) -> list[dict[str, Any]]:
    """A row an op, shape and pass; `seconds` are shared among them, compilation not counted.

    Raises WrongResultError when any of what was to be timed computes something else.
    """
    sizes = SIZES[device] if sizes is None else sizes
    each = seconds / (len(sizes) * len(PASSES))
    rows: list[dict[str, Any]] = []
    for op, B, N in sizes:
        progress(f"{op} {B} x {N}")
        rows += measure(CASES[op](B, N, device), device, each, compiled)
    return rows


def measure(case: Case, device: str, seconds: float, compiled: bool) -> Iterator[dict[str, Any]]:
    """The rows of one case, a pass each, once every result has been found right."""
    forwards = implementations(case, compiled)
    # A compiled backward pass may overwrite what it was given, unless told that it runs again.
    with torch._functorch.config.patch(donated_buffer=False):
        for name, forward in forwards.items():
            verify(case, name, forward)
        for which in PASSES:
            yield _row(case, which, forwards, device, seconds)


def implementations(case: Case, compiled: bool) -> dict[str, Forward]:
    """The forward passes to compare, by name."""
    forwards: dict[str, Forward] = {
        "ours": case.ours,
        "eager": partial(case.eager, *case.inputs),
    }
    if compiled:
        torch.compiler.reset()  # else the shapes before this one count as recompilations
        forwards["compile"] = partial(torch.compile(case.eager, dynamic=False), *case.inputs)
    return forwards


def verify(case: Case, name: str, forward: Forward) -> None:
    """Raises WrongResultError unless outputs and gradients are exact."""
    outputs = forward()
    case.check(outputs, gradients(case, name, outputs))


def _row(
    case: Case,
    which: str,
    forwards: dict[str, Forward],
    device: str,
    seconds: float,
) -> dict[str, Any]:
    """The times of one pass, taken in turns, and what follows from them."""
    passes = ("forward", "backward") if which == "both" else (which,)
    nbytes = sum(case.nbytes[p] for p in passes)
    subjects = {name: subject(case, which, name, forward) for name, forward in forwards.items()}
    subjects["copy"] = Timed(_copy(nbytes, device))
    rounds = interleave(subjects, seconds=seconds, device=device)
    return {
        "op": case.op,
        "shape": list(case.shape),
        "dtype": "float32",
        "pass": which,
        "rounds": len(rounds.seconds["ours"]),
        "seconds": {name: rounds.spread(name)._asdict() for name in subjects},
        "bytes": nbytes,
        "gb_per_s": rounds.rate("ours", nbytes / 1e9)._asdict(),
        "share_of_copy": rounds.ratio("copy", "ours")._asdict(),
        "vs_eager": rounds.ratio("eager", "ours")._asdict(),
        "vs_compile": rounds.ratio("compile", "ours")._asdict() if "compile" in subjects else None,
    }


def subject(case: Case, which: str, name: str, forward: Forward) -> Timed:
    """One pass of one implementation, as often as ours takes to draw its noise anew."""
    if which == "forward":
        return Timed(_repeated(forward, case.calls), case.calls)
    if which == "both":
        both = partial(_both, case, name, forward)
        return Timed(_repeated(both, case.calls), case.calls)
    outputs = forward()
    return Timed(lambda: gradients(case, name, outputs, retain_graph=True))


def _both(case: Case, name: str, forward: Forward) -> Tensors:
    return gradients(case, name, forward())


def _repeated(call: Callable[[], object], calls: int) -> Callable[[], object]:
    def block() -> None:
        for _ in range(calls):
            call()

    return call if calls == 1 else block


def _copy(nbytes: int, device: str) -> Callable[[], object]:
    """A copy that reads and writes `nbytes` in all."""
    source = torch.zeros(nbytes // 2, dtype=torch.uint8, device=device)
    return partial(torch.empty_like(source).copy_, source)
