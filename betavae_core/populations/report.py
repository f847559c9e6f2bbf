"""What a sweep comes to: models compared across seeds, a recommendation, a table and a figure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from betavae_core.figures import save
from betavae_core.figures.frontier import frontier
from betavae_core.metrics.udr import udr
from betavae_core.populations.choice import METRICS, Row, metric_of, recommend
from betavae_core.populations.folder import RESULT, codes_path
from betavae_core.storage import write_atomic

_COLUMNS = ("label", "setting", "recon_nll", "kl", "neg_elbo", "active_latents")
_NOT_SHOWN = {"beta", "beta_norm", "gamma", "capacity_max", "seed", "path", *_COLUMNS}


def report(rows: Sequence[Row], errors: Mapping[str, str], out: Path) -> dict[str, Any]:
    """Compare the models of `rows`, and leave frontier.png, sweep.md and, last, sweep.json."""
    rows = with_udr(rows, out)
    recommended = recommend(rows)
    result = {
        "runs": rows,
        "recommended": recommended,
        "failed": dict(errors),
        "figure": str(draw(rows, recommended, out)),
    }
    write_atomic(out / "sweep.md", markdown(result).encode())
    write_atomic(out / RESULT, json.dumps(result, indent=2).encode())
    return result


def with_udr(rows: Sequence[Row], out: Path) -> list[Row]:
    """The rows with the UDR of each model against the other seeds of its setting.

    So the median over a setting is the UDR of that setting (Duan et al. 2020, section 4). A model
    that is the only one of its setting has none.
    """
    settings = dict.fromkeys(row["setting"] for row in rows)
    scores: dict[str, float] = {}
    for setting in settings:
        labels = [row["label"] for row in rows if row["setting"] == setting]
        if len(labels) > 1:
            scores |= dict(zip(labels, _udr(labels, out), strict=True))
    return [row | {"udr": scores.get(row["label"])} for row in rows]


def _udr(labels: Sequence[str], out: Path) -> list[float | None]:
    codes, kls = [], []
    for label in labels:
        with np.load(codes_path(out, label)) as arrays:
            codes.append(arrays["codes"])
            kls.append(arrays["kl"])
    return [float(score) if np.isfinite(score) else None for score in udr(codes, kls)]


def draw(rows: Sequence[Row], recommended: Row, out: Path) -> Path:
    """Reconstruction against the metric that ranks; without one, against the KL."""
    metric = metric_of(rows)
    column = metric or "kl"
    ylabel = f"{METRICS[metric][0]} (higher is better)" if metric else "KL (nats)"
    shown = [row for row in rows if row[column] is not None]
    names = list(dict.fromkeys(row["setting"] for row in shown))
    without = len(rows) - len(shown)
    figure = frontier(
        [row["recon_nll"] for row in shown],
        [row[column] for row in shown],
        [names.index(row["setting"]) for row in shown],
        names,
        ylabel=ylabel,
        title=f"Every model of the sweep {out.resolve().name}"
        + (f" ({without} without a score are left out)" if without else ""),
        recommended=next(
            (n for n, row in enumerate(shown) if row["label"] == recommended["label"]), None
        ),
    )
    return save(figure, out / "frontier.png")


def markdown(result: Mapping[str, Any]) -> str:
    """The recommendation, and a row a model; the recommended setting is bold."""
    chosen, runs = result["recommended"], result["runs"]
    scores = [name for name in runs[0] if name not in _NOT_SHOWN]
    columns = [*_COLUMNS, *(name for name in scores if any(row[name] is not None for row in runs))]
    lines = [f"**{chosen['setting'] or 'No recommendation'}.** {chosen['reason']}", ""]
    lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in runs:
        mark = "**" if row["setting"] == chosen["setting"] else ""
        cells = [f"{mark}{_cell(row[name])}{mark}" for name in columns]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *(f"- {label} failed: {why}" for label, why in result["failed"].items())]
    return "\n".join([*lines, ""])


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
