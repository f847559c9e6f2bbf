"""What a person at a terminal sees: tables on stdout, a progress bar on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table


def show(parts: Iterable[Any]) -> None:
    """Print tables and lines of text on stdout."""
    for part in parts:
        Console().print(part)


def facts(title: str, values: Mapping[str, Any]) -> Table:
    """A rich table of names and their values."""
    result = Table(title=title, title_justify="left", show_header=False)
    for name, value in values.items():
        result.add_row(name, _cell(value))
    return result


def table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """A rich table of rows with the same keys."""
    result = Table(title=title, title_justify="left")
    for name, value in (rows[0] if rows else {}).items():
        result.add_column(name, justify="right" if isinstance(value, int | float) else "left")
    for row in rows:
        result.add_row(*(_cell(value) for value in row.values()))
    return result


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return "x".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


@contextmanager
def progress_bar() -> Iterator[Callable[[int, int, Mapping[str, Any]], None]]:
    """A bar on stderr that shows the loss; ten plain lines when stderr is not a terminal."""
    screen = Console(stderr=True)
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    plain = not screen.is_terminal
    with Progress(*columns, console=screen, transient=True, disable=plain) as bar:
        task, tenth = bar.add_task("loading the data", total=None), -1

        def advance(step: int, steps: int, row: Mapping[str, Any]) -> None:
            nonlocal tenth
            text = f"recon {row['recon_nll']:.1f}  KL {row['kl']:.2f} nats"
            if plain and 10 * step // steps > tenth:
                tenth = 10 * step // steps
                print(f"step {step:,} of {steps:,}  {text}", file=sys.stderr)
            done = "evaluating, drawing" if step == steps else text
            bar.update(task, completed=step, total=steps, description=done)

        yield advance
