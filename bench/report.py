"""`bench`: run the suites, and show what came out as a table and a figure.

run(suites, device=, seconds=, progress=) -> a JSON-able dict
table(result) -> rich tables        figure(result) -> a matplotlib figure (bench/chart.py)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import torch
from rich import box
from rich.console import Group
from rich.table import Table

from betavae_core.bench import growth, ops, populations, step
from betavae_core.bench.chart import figure
from betavae_core.bench.machine import commit, machine, versions
from betavae_core.errors import UsageError
from betavae_core.hardware import choose_device

__all__ = ["SUITES", "figure", "run", "table"]

SUITES: dict[str, Callable[..., list[dict[str, Any]]]] = {
    "ops": ops.run,
    "step": step.run,
    "populations": populations.run,
    "growth": growth.run,
}
_SHARES = {"ops": 1, "step": 2, "populations": 1, "growth": 2}  # of the time: steps are long


def run(
    suites: Sequence[str] = tuple(SUITES),
    *,
    device: str = "auto",
    seconds: float = 120.0,
    progress: Callable[[str], None] = lambda message: None,
    settings: dict[str, dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Measure, on one device, and say on what.

    Args:
        suites: of `ops`, `step`, `populations` and `growth`, those to run.
        device: `auto`, `cpu` or `cuda`.
        seconds: of measuring, in all; building and compiling come on top.
        progress: called with a line of text before each thing is measured.
        settings: arguments of the suites by their names, such as `{"ops": {"sizes": …}}`.

    Returns:
        `machine`, `versions`, `commit`, `date`, the rows of each suite (see there),
        `ratios` of the training step (architecture -> name -> times faster), and
        `compile_unavailable`: why torch.compile cannot run here, else null.

    Raises:
        UsageError: an unknown suite, or a device that is not there.
        WrongResultError: something computes what it should not; no speed is reported.
    """
    for name in suites:
        if name not in SUITES:
            raise UsageError(f"--suite must be one of {', '.join(SUITES)}, got {name!r}")
    if not seconds > 0:
        raise UsageError(f"--seconds must be > 0, got {seconds}")
    device = choose_device(device)
    obstacle = compile_obstacle(device)
    if obstacle:
        progress(f"torch.compile cannot run here and is left out: {obstacle}")
    result: dict[str, Any] = {
        "machine": machine(device),
        "versions": versions(),
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "compile_unavailable": obstacle,
        **{name: [] for name in SUITES},
    }
    for name in suites:
        share = seconds * _SHARES[name] / sum(_SHARES[suite] for suite in suites)
        arguments = {"compiled": obstacle is None, **(settings or {}).get(name, {})}
        result[name] = SUITES[name](device, share, progress, **arguments)
    return result | {"ratios": step.ratios(result["step"])}


def compile_obstacle(device: str) -> str | None:
    """Why torch.compile cannot run here (most often there is no C++ compiler), or nothing."""
    with warnings.catch_warnings():  # of its own imports
        warnings.simplefilter("ignore")
        try:
            torch.compile(lambda x: 2 * x + 1)(torch.ones(2, device=device))
        except Exception as error:  # whatever its backend raises is the reason
            return (str(error).strip() or type(error).__name__).splitlines()[0]
    return None


def table(result: dict[str, Any]) -> Group:
    """The figures as they are read: ours, and how many times faster it is than each other."""
    parts = [_speeds(result)] if result["step"] or result["ops"] else []
    if result["populations"]:
        parts.append(_populations(result["populations"]))
    if result["growth"]:
        parts.append(_growth(result["growth"]))
    return Group(*parts)


def _speeds(result: dict[str, Any]) -> Table:
    machine = result["machine"]
    threads = f", {machine['threads']} CPU threads" if machine["gpu"] is None else ""
    columns = ("\nours", "\neager", "\ntuned", "\ncompile", "end\nto end", "of a\ncopy")
    table = _table((machine["gpu"] or machine["cpu"]) + threads, columns)
    table.caption = "How many times faster ours is: medians of rounds taken in turns."
    for row in result["step"]:
        times = [_times(row["ratios"][name]) for name in step.RATIOS]
        speed = f"{row['images_per_s']['ours']['median']:,.0f} img/s"
        table.add_row(f"{row['arch']} {_by(row['image_shape'][1:])}", speed, *times, "")
    for row in result["ops"]:
        times = [_times(row["vs_eager"]), "", _times(row["vs_compile"]), ""]
        call = _seconds(row["seconds"]["ours"]["median"])
        share = f"{row['share_of_copy']['median']:.0%}"
        table.add_row(f"{row['op']} {_by(row['shape'])} {row['pass']}", call, *times, share)
    return table


def _populations(rows: list[dict[str, Any]]) -> Table:
    columns = ("models", "models × steps/s", "times one at a time", "times batched")
    table = _table("Side by side", columns)
    for row in rows:
        rate = f"{row['model_steps_per_s']['side_by_side']['median']:,.0f}"
        ratios = [_times(row[name]) for name in populations.RATIOS]
        table.add_row(row["arch"], str(row["models"]), rate, *ratios)
    return table


def _growth(rows: list[dict[str, Any]]) -> Table:
    table = _table("burgess-conv as the work grows", ("ours", "times eager"))
    for row in rows:
        rate = f"{row['images_per_s']['ours']['median']:,.0f} img/s"
        table.add_row(f"{row['axis']} {row['value']}", rate, _times(row["vs_eager"]))
    return table


def _table(title: str, columns: Sequence[str]) -> Table:
    """An empty table; 80 columns hold it."""
    table = Table(title=title, box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 0))
    table.add_column("", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _times(spread: dict[str, float] | None) -> str:
    return "–" if spread is None else f"{spread['median']:.2f}"


def _by(sizes: Sequence[int]) -> str:
    return "×".join(str(size) for size in sizes)


def _seconds(value: float) -> str:
    return f"{1e6 * value:,.1f} µs" if value < 1e-3 else f"{1e3 * value:,.2f} ms"
