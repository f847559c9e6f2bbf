"""The published experiments, one a file: each trains, measures, and sets the paper's number beside.

`reproduce(name, out)` runs one. An experiment is a file in this room with `EXPERIMENT` (or
several, `EXPERIMENTS`), and its name below. Its runs are ordinary run directories under OUT/runs,
so an interrupted experiment goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import time
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

from betavae_core.errors import Interrupted, UsageError
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


class ExperimentInterrupted(Interrupted):
    """The user stopped the experiment; `command` goes on with it.

    Everything up to `step` of the model in `path` is saved. Outside a training `path` is the
    experiment's folder, and `step` is 0.
    """

    def __init__(self, stop: BaseException, out: Path, command: list[str]) -> None:
        if isinstance(stop, Interrupted):
            super().__init__(stop.step, stop.path)
        else:
            super().__init__(0, out)
            self.args = (f"stopped, all finished models saved in {out}",)
        self.command = command


def experiments() -> list[Experiment]:
    """Every experiment there is."""
    modules = [import_module(f"{__name__}.{file}") for file in _FILES]
    return [e for m in modules for e in getattr(m, "EXPERIMENTS", None) or (m.EXPERIMENT,)]


def reproduce(
    name: str,
    out: str | os.PathLike[str],
    *,
    quick: bool = False,
    data: str | os.PathLike[str] | None = None,
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
        DataError: `data` cannot be read, or have no factors where it needs them.
        ExperimentInterrupted: Ctrl-C; what the models had saved is kept.
    """
    experiment, began = _named(name), time.perf_counter()
    if experiment.needs_data and data is None:
        raise UsageError(f"{name} needs --data, {experiment.needs_data}")
    source, listener = None if data is None else os.fspath(data), progress or (lambda *_: None)
    preset, folder = experiment.preset or name, Path(out)
    study = Study(preset, folder, quick, source, classes, device, seed, listener)
    try:
        rows = experiment.run(study)
    except (KeyboardInterrupt, Interrupted) as stop:
        raise ExperimentInterrupted(stop, folder, command(name, study)) from None
    result = {
        "experiment": name,
        "shows": experiment.shows,
        "quick": quick,
        "seconds": time.perf_counter() - began,
        "rows": rows,
        "notes": study.notes,
        "figures": study.figures,
    }
    write_atomic(folder / "table.json", json.dumps(result, indent=2).encode())
    write_atomic(folder / "table.md", markdown(result).encode())
    return result


def _named(name: str) -> Experiment:
    known = {experiment.name: experiment for experiment in experiments()}
    if name not in known:
        raise UsageError(f"NAME must be one of {', '.join(known)}, got {name!r}")
    return known[name]


def command(name: str, study: Study) -> list[str]:
    """The arguments of the command line that runs this experiment, or goes on with it."""
    defaults = {"data": None, "classes": None, "device": "auto", "seed": 0}
    given = {option: getattr(study, option) for option in defaults}
    changed = [(f"--{k}", str(v)) for k, v in given.items() if v != defaults[k]]
    quick = ["--quick"] if study.quick else []
    return ["reproduce", name, *quick, *chain(*changed), "--out", str(study.out)]


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
