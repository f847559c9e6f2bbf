"""Production against the oracle: what `check` runs. The only room that knows both.

Each stem (an op, a layer, an architecture, an objective, an optimizer) yields comparisons of the
production path's values and gradients, on this machine and device, with those of
`betavae_core.reference`. Both sides get the same inputs, weights and noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from betavae_core.architectures import ARCHITECTURES
from betavae_core.errors import UsageError
from betavae_core.hardware import choose_device
from betavae_core.parity.comparison import Comparison
from betavae_core.parity.networks import LAYERS, compare_architecture, compare_layer
from betavae_core.parity.noise import compare_philox
from betavae_core.parity.ops import compare_nll, compare_reparam_kl
from betavae_core.parity.steps import OPTIMIZERS, compare_objectives, compare_optimizer

Compare = Callable[[torch.device], Iterator[Comparison]]

STEMS: dict[str, Compare] = {
    "philox": compare_philox,
    "reparam_kl": compare_reparam_kl,
    "bernoulli_nll": partial(compare_nll, "bernoulli_nll", ()),
    "gaussian_nll": partial(compare_nll, "gaussian_nll", (0.3,)),
    **{name: partial(compare_layer, name) for name in LAYERS},
    **{name: partial(compare_architecture, name) for name in ARCHITECTURES},
    "objective": compare_objectives,
    **{name: partial(compare_optimizer, name) for name in OPTIMIZERS},
}


def worst(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each stem and dtype the row furthest into its tolerance, and how many there are."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["name"].split(".")[0], row["dtype"]), []).append(row)
    return [
        max(group, key=lambda row: (not row["ok"], row["error"] - row["tolerance"]))
        | {"name": stem, "rows": len(group)}
        for (stem, _), group in groups.items()
    ]


def check(only: str | None = None, device: str = "auto") -> list[dict[str, Any]]:
    """Compare everything, or the rows whose name contains `only`, on `device`.

    `only` is a stem, a part of one, or the beginning of a row's name: "conv", "linear.dweight".

    Returns:
        Rows of `name` (it begins with the stem), `dtype`, `error` (the largest difference over the
        largest magnitude, or absolute where the name says so), `tolerance` and `ok`.

    Raises:
        UsageError: nothing bears the name, or the device is not there.
    """
    where = torch.device(choose_device(device))
    stems = {s: run for s, run in STEMS.items() if only is None or only in s or s in only}
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        rows = [comparison.row() for run in stems.values() for comparison in run(where)]
    rows = [row for row in rows if only is None or only in row["name"]]
    if not rows:
        names = ", ".join(STEMS)
        raise UsageError(f"--only must be or begin with one of {names}, got {only!r}")
    return rows
