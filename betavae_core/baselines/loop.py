"""The loop of the baselines that train here: steps, a row of losses now and then, and a check."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from betavae_core.errors import TrainingError
from betavae_core.trainer import Progress


def run(
    name: str,
    steps: int,
    advance: Callable[[int], dict[str, Tensor]],
    progress: Progress | None = None,
    *,
    log_every: int = 50,
) -> list[dict[str, Any]]:
    """Call `advance(step)` for every step; give the log, one row an interval.

    `advance` takes an optimizer step and gives its losses, scalars without a gradient; a row has
    `step` and the mean of each over the interval. `progress(step, steps, row)` hears each row.
    Raises TrainingError when a loss is not finite.
    """
    rows: list[dict[str, Any]] = []
    seen: list[dict[str, Tensor]] = []
    with torch.backends.cudnn.flags(enabled=True, deterministic=True):
        for step in range(1, steps + 1):
            seen.append(advance(step - 1))
            if step % log_every == 0 or step == steps:
                rows.append({"step": step} | _means(seen))
                _check(name, rows[-1])
                seen.clear()
                if progress:
                    progress(step, steps, rows[-1])
    return rows


def _means(seen: list[dict[str, Tensor]]) -> dict[str, float]:
    return {term: float(torch.stack([s[term] for s in seen]).mean()) for term in seen[0]}


def _check(name: str, row: dict[str, Any]) -> None:
    wrong = [term for term, value in row.items() if not isfinite(value)]
    if wrong:
        raise TrainingError(
            f"{name} became non-finite by step {row['step']}: {', '.join(wrong)}; "
            "lower its learning rate or take another seed"
        )
