"""The published experiments, one a file: each trains, measures, and sets the paper's number beside.

`reproduce(name, out)` runs one. An experiment is a file in this room with `EXPERIMENT` (or
several, `EXPERIMENTS`), and its name below. Its runs are ordinary run directories under OUT/runs,
so an interrupted experiment goes on where it stopped.
"""

from __future__ import annotations

import json
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from betavae_core.errors import UsageError
from betavae_core.experiments.study import Experiment, Study
from betavae_core.storage import write_atomic
from betavae_core.trainer import Progress

_FILES = (
    "higgins_table",
    "higgins",
    "burgess_capacity",
    "burgess_blobs",
    "latent_size",
    "levy_emnist",
    "kathiriya_mnist",
)


def experiments() -> list[Experiment]:
    """Every experiment there is."""
    modules = [import_module(f"{__name__}.{file}") for file in _FILES]
    return [e for m in modules for e in getattr(m, "EXPERIMENTS", None) or (m.EXPERIMENT,)]


def reproduce(
    name: str,
    out: Path,
    *,
    quick: bool = False,
    data: str | None = None,
    classes: str | None = None,
    device: str = "auto",
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run an experiment and leave table.json, table.md, figures/ and runs/ in `out`.

    Args:
        quick: the size that a CPU does in minutes, in place of the paper's.
        data: the experiment's images, where they are not drawn here; a name or a path.
        classes: of labelled images, those to keep: "A-D" or "a,z".
        progress: as in `train`, for each of the runs.

    Returns:
        `experiment`, `quick`, `seconds`, `rows` (each with `name`, `published`, `ours`), `notes`
        and `figures`.

    Raises:
        UsageError: no such experiment, or it needs `data` and has none.
    """
    known = {experiment.name: experiment for experiment in experiments()}
    if name not in known:
        raise UsageError(f"NAME must be one of {', '.join(known)}, got {name!r}")
    experiment, began = known[name], time.perf_counter()
    if experiment.needs_data and data is None:
        raise UsageError(f"{name} needs --data, {experiment.needs_data}")
    preset = experiment.preset or name
    study = Study(preset, out, quick, data, classes, device, seed, progress or (lambda *_: None))
    rows = experiment.run(study)
    result = {
        "experiment": name,
        "shows": experiment.shows,
        "quick": quick,
        "seconds": time.perf_counter() - began,
        "rows": rows,
        "notes": study.notes,
        "figures": study.figures,
    }
    write_atomic(out / "table.json", json.dumps(result, indent=2).encode())
    write_atomic(out / "table.md", markdown(result).encode())
    return result


def markdown(result: dict[str, Any]) -> str:
    """The rows as a Markdown table, and the notes below."""
    columns = ("name", "published", "ours")
    lines = [f"# {result['experiment']}", "", result["shows"], ""]
    lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in result["rows"]:
        lines.append("| " + " | ".join(_cell(row[column]) for column in columns) + " |")
    return "\n".join([*lines, "", *(f"- {note}" for note in result["notes"]), ""])


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3g}"
    return ", ".join(map(_cell, value)) if isinstance(value, list) else str(value)
