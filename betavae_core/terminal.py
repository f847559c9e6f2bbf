"""What a person at a terminal sees: tables on stdout, a progress bar on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from betavae_core.populations import State
    from betavae_core.runs import Run


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
    if isinstance(value, list | tuple):
        sizes = all(isinstance(v, int) for v in value)
        return "x".join(map(str, value)) if sizes else "  ".join(map(_cell, value))
    return "" if value is None else str(value)


def report(result: Mapping[str, Any], as_json: bool, human: Callable[[], Iterable[Any]]) -> None:
    """Print the result: as one JSON object, or the parts that `human()` gives."""
    if as_json:
        print(json.dumps(result))
        return
    for part in human():
        Console(markup=False, emoji=False).print(part)  # a path may hold [brackets] or :colons:


def score_tables(result: Mapping[str, Any]) -> list[Any]:
    """What `evaluate` found, for a person."""
    splits = [{"split": name} | result[name] for name in ("train", "test") if name in result]
    parts: list[Any] = [table("Nats an image", splits)] if splits else []
    if "latents" in result:
        parts.append(facts("Without labels (KL and correlations in nats)", result["latents"]))
    columns = ("score", "interval", "ceiling", "floor", "protocol")
    scores = result.get("metrics", {})
    rows = [{"metric": k} | {c: row[c] for c in columns} for k, row in scores.items()]
    return [*parts, *([table("Metrics", rows)] if rows else []), *result.get("figures", [])]


def run_tables(run: Run) -> list[Any]:
    """The end of a training run, for a person."""
    summary = run.summary or {}
    rows = [{"split": name} | summary[name] for name in ("train", "test")]
    shown = {k: v for k, v in summary.items() if isinstance(v, str | int | float)}
    shown.pop("model_sha256")
    pictures = f"pictures in {run.path / 'figures'}"
    return [facts("Run", shown), table("Nats an image", rows), pictures]


def sweep_tables(result: Mapping[str, Any]) -> list[Any]:
    """The end of a sweep, for a person."""
    columns = ("setting", "seed", "recon_nll", "kl", "active_latents", "udr", "mig", "sap")
    rows = [{k: row[k] for k in columns if k in row} for row in result["runs"]]
    return [table("Models", rows), result["recommended"]["reason"], result["figure"]]


def experiment_tables(result: Mapping[str, Any]) -> list[Any]:
    """What an experiment gave, beside what was published, for a person."""
    columns = ("name", "published", "ours")
    rows = [{column: row[column] for column in columns} for row in result["rows"]]
    return [table(result["shows"], rows), *result["notes"], *result["figures"]]


@contextmanager
def progress_bar() -> Iterator[Callable[[int, int, Mapping[str, Any]], None]]:
    """A bar on stderr that shows the loss; ten plain lines when stderr is not a terminal."""
    screen = Console(stderr=True)
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    plain = not screen.is_terminal
    with Progress(*columns, console=screen, transient=True, disable=plain) as bar:
        task, shown = bar.add_task("loading the data", total=None), ("", -1)

        def advance(step: int, steps: int, row: Mapping[str, Any]) -> None:
            nonlocal shown
            run = f"{row['run']}  " if "run" in row else ""
            text = run + _losses(row)
            if plain and shown != (run, 10 * step // steps):
                shown = (run, 10 * step // steps)
                print(f"step {step:,} of {steps:,}  {text}", file=sys.stderr)
            done = f"{run}evaluating, drawing" if step == steps else text
            bar.update(task, completed=step, total=steps, description=done)

        yield advance


@contextmanager
def work_bars() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr for each piece of work that is told of; lines where there is no terminal."""
    from betavae_core.data.progress import stderr_lines  # which loads NumPy

    screen = Console(stderr=True, markup=False, emoji=False)
    if not screen.is_terminal:
        yield stderr_lines()
        return
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen) as bars:
        tasks: dict[str, TaskID] = {}

        def advance(what: str, done: int, total: int) -> None:
            if not total:  # a note
                bars.console.print(what)
                return
            if what not in tasks:
                tasks[what] = bars.add_task(what)
            bars.update(tasks[what], completed=done, total=total)

        yield advance


def _losses(row: Mapping[str, Any]) -> str:
    """The terms of a training row: of a VAE two, of another model its own losses."""
    if "kl" in row:
        return f"recon {row['recon_nll']:.1f}  KL {row['kl']:.2f} nats"
    return "  ".join(f"{k} {_cell(v)}" for k, v in row.items() if k not in ("step", "run"))


@contextmanager
def population_bar() -> Iterator[Callable[[State], None]]:
    """One bar on stderr over the steps of all runs; ten plain lines where there is no terminal."""
    screen = Console(stderr=True)
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    plain = not screen.is_terminal
    with Progress(*columns, console=screen, transient=True, disable=plain) as bar:
        task, tenth = bar.add_task("loading the data", total=None), -1

        def advance(state: State) -> None:
            nonlocal tenth
            runs = {"running": state.running, "finished": state.finished, "failed": state.failed}
            text = ", ".join(f"{len(labels)} {name}" for name, labels in runs.items() if labels)
            if plain and 10 * state.done // state.total > tenth:
                tenth = 10 * state.done // state.total
                print(f"{state.done:,} of {state.total:,} steps: {text}", file=sys.stderr)
            bar.update(task, completed=state.done, total=state.total, description=text)

        yield advance
