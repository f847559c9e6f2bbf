"""Which setting to use: the one that disentangles best, and of equals the one that sees most.

A setting's score is the median over its seeds of a metric: MIG where the data have factors, else
UDR. A median that reaches the lower quartile of the best setting's own models is within the spread
over seeds, and no worse: among those the lowest recon_nll decides. (The range between the quartiles
would not do: one lucky seed widens it until a setting is taken that is worse than every model of
the best.) After Breiman et al. (1984), "Classification and Regression Trees", section 3.4.3: the
simplest model within a standard error of the best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Row = dict[str, Any]  # of `runs` in sweep.json

METRICS = {  # the first that there is decides
    "mig": ("MIG", "which takes the factors of the data"),
    "udr": ("UDR", "which needs no factors"),
}


@dataclass(frozen=True)
class Standing:
    """One setting, by a metric: medians over its models, and the lower quartile of the score."""

    setting: str
    rows: tuple[Row, ...]
    score: float
    low: float
    recon_nll: float

    @classmethod
    def of(cls, setting: str, rows: Sequence[Row], metric: str) -> Standing:
        """The standing of models that have a score."""
        low, score = np.quantile([row[metric] for row in rows], [0.25, 0.5])
        recon_nll = float(np.median([row["recon_nll"] for row in rows]))
        return cls(setting, tuple(rows), float(score), float(low), recon_nll)


def metric_of(rows: Sequence[Row]) -> str | None:
    """The metric that the models can be ranked by, or None."""
    return next((m for m in METRICS if any(row.get(m) is not None for row in rows)), None)


def standings(rows: Sequence[Row], metric: str) -> list[Standing]:
    """Every setting with a score, in the order of the rows."""
    scored = [row for row in rows if row.get(metric) is not None]
    settings = dict.fromkeys(row["setting"] for row in scored)
    groups = {name: [row for row in scored if row["setting"] == name] for name in settings}
    return [Standing.of(name, group, metric) for name, group in groups.items()]


def recommend(rows: Sequence[Row]) -> Row:
    """The setting to use, its best model, and why.

    `beta`, `beta_norm`, `gamma` and `capacity_max` are those of the setting, `label` and `run` the
    name and the folder of the model, `by` the metric, `reason` a sentence or two with the numbers.
    All but the reason are None when the models cannot be ranked.
    """
    metric = metric_of(rows)
    names = ("setting", "beta", "beta_norm", "gamma", "capacity_max", "label", "path")
    if metric is None:
        values = dict.fromkeys(names)
        reason = "Nothing ranks these models: there are no factors, and UDR needs two seeds."
    else:
        ranked = standings(rows, metric)
        best, chosen = choose(ranked)
        model = max(chosen.rows, key=lambda row: (row[metric], -row["recon_nll"]))
        values = {name: model[name] for name in names}
        reason = _reason(ranked, best, chosen, metric)
    return values | {"run": values.pop("path"), "by": metric, "reason": reason}


def choose(ranked: Sequence[Standing]) -> tuple[Standing, Standing]:
    """The setting with the best score, and the one to use: the first of those that are equal."""
    best = max(ranked, key=lambda s: (s.score, -s.recon_nll))
    as_good = [s for s in ranked if s.score >= best.low]
    return best, min(as_good, key=lambda s: s.recon_nll)


def _reason(ranked: Sequence[Standing], best: Standing, chosen: Standing, metric: str) -> str:
    """The choice in a sentence or two, with the numbers that decided it."""
    name, what = METRICS[metric]
    first = f"Ranked by {name}, {what}, {best.setting} comes first: {_numbers(best)}"
    others = sorted((s for s in ranked if s is not best), key=lambda s: -s.score)
    if not others:
        return f"{first}; it is the only setting with a score."
    rival = others[0] if chosen is best else chosen
    if rival.score < best.low:
        return f"{first}; next is {rival.setting} with {rival.score:.3f}."
    how = "but reconstructs worse" if chosen is best else "and reconstructs better"
    return (
        f"{first}. {rival.setting}, with {rival.score:.3f}, is within the spread over seeds "
        f"{how}: {rival.recon_nll:.1f} nats against {best.recon_nll:.1f}."
    )


def _numbers(standing: Standing) -> str:
    if len(standing.rows) == 1:
        return f"{standing.score:.3f} from one seed"
    seeds = len(standing.rows)
    return f"median {standing.score:.3f} over {seeds} seeds, lower quartile {standing.low:.3f}"
